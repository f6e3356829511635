// Transforms of type I of a strip: cosine on N + 1 points, sine on N - 1. An even N halves: the even frequencies are a
// type I of N/2, the odd ones a cosine III of N/2 points.
#pragma once
#include "strip_dct.h"

namespace {

template <class T>
class StripOne {
    static constexpr int64_t L = kLanes<T>;
    const bool sine;
    const int64_t N;
    int64_t base;  // the odd factor of N, multiplied out
    int64_t half;  // of its points
    int64_t ld;
    Buffer<T> table;  // even frequencies, then odd ones, [half, ld] each
    const StripDct<T> third;

  public:
    static constexpr int64_t kScratch = StripDct<T>::kScratch;

    StripOne(bool is_sine, int64_t n) : sine(is_sine), N(is_sine ? n + 1 : n - 1), table(layout()), third(N % 2 ? 1 : N / 2) {
        const Cosines cosine(N);  // cosine(4 i) = cos(pi i / N)
        const int64_t step = N / base;
        for (int64_t j = 0; j < half; ++j)
            for (int64_t i = 0; i < half; ++i)
                for (int64_t odd = 0; odd < 2; ++odd) {
                    const int64_t k = 2 * i + odd, angle = sine ? (j + 1) * (k + 1) : j * k;
                    const double c = sine ? cosine(2 * N - angle % (2 * base) * 4 * step + 8 * N) : cosine(angle % (2 * base) * 4 * step);
                    table.data[(odd * half + j) * ld + i] = T(c);
                }
    }

    // Loses in; scratch has kScratch * n rows.
    void run(T* in, int64_t ldi, T* out, int64_t ldo, T* scratch) const {
        if (sine) {
            sine_part(0, N, in - ldi, ldi, out, ldo, scratch);
        } else {
            cosine_part(0, N, in, ldi, out, ldo, scratch);
        }
    }

  private:
    int64_t layout() {
        base = N;
        while (base % 2 == 0) base /= 2;
        half = sine ? (base - 1) / 2 : (base + 1) / 2;
        ld = round_up(half, L);
        return 2 * half * ld;
    }

    // Rows first + j and last - j become sum and difference.
    static void fold(T* first, T* last, int64_t ldi, int64_t count) {
        for (int64_t j = 0; j < count; ++j) {
            const V<T> x = load(first + j * ldi), y = load(last - j * ldi);
            store(first + j * ldi, x + y);
            store(last - j * ldi, x - y);
        }
    }

    void cosine_part(int l, int64_t size, T* in, int64_t ldi, T* out, int64_t ldo, T* scratch) const {
        T* const last = in + size * ldi;
        fold(in, last, ldi, (size + 1) / 2);
        if (size % 2) {
            direct_and_sum(in, ldi, half, table.data, ld, half, out, 2 * ldo);
            direct(last, -ldi, half, table.data + half * ld, ld, half, out + ldo, 2 * ldo);
            return;
        }
        third.dct3_part(l, last, -ldi, out + ldo, 2 * ldo, scratch);
        cosine_part(l + 1, size / 2, in, ldi, out, 2 * ldo, scratch);
    }

    // in points one row before the first element: it is counted from 1.
    void sine_part(int l, int64_t size, T* in, int64_t ldi, T* out, int64_t ldo, T* scratch) const {
        T* const last = in + (size - 1) * ldi;
        const int64_t middle = size / 2;
        fold(in + ldi, last, ldi, (size - 1) / 2);
        if (size % 2) {
            direct(in + ldi, ldi, half, table.data, ld, half, out, 2 * ldo);
            direct(last, -ldi, half, table.data + half * ld, ld, half, out + ldo, 2 * ldo);
            return;
        }
        third.dct3_part(l, in + middle * ldi, -ldi, out, 2 * ldo, scratch);
        for (int64_t i = 1; i < middle; i += 2) store(out + 2 * i * ldo, -load(out + 2 * i * ldo));
        if (middle > 1) sine_part(l + 1, middle, last + ldi, -ldi, out + ldo, 2 * ldo, scratch);
    }
};

}  // namespace
