// The noise on its own.
#pragma once
#include "noise.h"
#include "parallel.h"
#include "pixels.h"

namespace {

constexpr int64_t kNormalChunk = 2048;

template <class Q, class T>
void fill_normal(const NormalArgs& a) {
    // Rows: the last dimensions that lie in memory as they are counted.
    int64_t width = 1;
    int rows_end = a.dims;
    while (rows_end > 1 && (a.out.stride[rows_end - 1] == width || a.sizes[rows_end - 1] == 1)) width *= a.sizes[--rows_end];
    int64_t stride = 1;
    if (rows_end == a.dims && a.dims > 1) {
        width = a.sizes[--rows_end];
        stride = a.out.stride[rows_end];
    }
    int64_t rows = 1;  // per sample
    for (int d = 1; d < rows_end; ++d) rows *= a.sizes[d];
    const int64_t per_row = (width + kNormalChunk - 1) / kNormalChunk, chunks = a.sizes[0] * rows * per_row;
    const int threads = a.sizes[0] * rows * width < (1 << 14) ? 1 : a.threads;
    const int workers = int(threads < chunks ? threads : chunks);
    const Shares shares(chunks, workers);
    in_parallel(workers, [&](int64_t rank, int64_t) {
        Buffer<T> buffer(kNormalChunk + kNoiseBlock + 8);
        for (int64_t first, last; shares.take(rank, first, last);)
            for (int64_t chunk = first; chunk < last; ++chunk) {
                const int64_t row = chunk / per_row, sample = row / rows, begin = chunk % per_row * kNormalChunk;
                const int64_t count = width - begin < kNormalChunk ? width - begin : kNormalChunk;
                const Noise<T> noise(a.seed.at(sample));
                const T* eps = noise.generate(row % rows * width + begin, count, buffer.data);
                Q* out = static_cast<Q*>(a.out.data) + offset_of(row, a.sizes, a.out.stride, 0, rows_end) + begin * stride;
                for (int64_t j = 0; j < count; j += kLanes<T>) {
                    const int64_t left = count - j < kLanes<T> ? count - j : kLanes<T>;
                    if (stride == 1 && left == kLanes<T>) {
                        Pixel<Q, T>::write(out + j, load(eps + j));
                    } else {
                        write_some<Q, T>(out + j * stride, stride, left, load(eps + j));
                    }
                }
            }
    });
}

void normal(const NormalArgs& a) {
    switch (a.out.dtype) {
        case kFloat64: return fill_normal<double, double>(a);
        case kFloat32: return fill_normal<float, float>(a);
        case kFloat16: return fill_normal<Half, float>(a);
        default: return fill_normal<BFloat, float>(a);
    }
}

}  // namespace
