// Products of a small matrix with a strip: the transforms of an odd length, for which no fast form is kept.
#pragma once
#include "simd.h"

namespace {

constexpr int64_t kChunk = 16;  // products summed at a time: rounding errors grow with the root of this

// g[i] (+)= sum_k s[k, i] f[k] for R outputs i.
template <class T, int R>
WARMOPS_INLINE void direct_block(const T* f, int64_t ldf, int64_t depth, const T* s, int64_t lds, T* g, int64_t ldg, bool add) {
    V<T> acc[R];
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) acc[r] = V<T>{};
    for (int64_t k = 0; k < depth; ++k) {
        V<T> b = load(f + k * ldf);
        keep_in_register(b);
#pragma GCC unroll 8
        for (int r = 0; r < R; ++r) acc[r] = fma(set1(s[k * lds + r]), b, acc[r]);
    }
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) store(g + r * ldg, add ? load(g + r * ldg) + acc[r] : acc[r]);
}

// g = s^T f, s of [depth, outputs]. Strides may be negative; g is not f.
template <class T>
void direct(const T* f, int64_t ldf, int64_t depth, const T* s, int64_t lds, int64_t outputs, T* g, int64_t ldg) {
    for (int64_t k = 0; k < depth || k == 0; k += kChunk) {
        const int64_t some = depth - k < kChunk ? depth - k : kChunk;
        const T *from = f + k * ldf, *matrix = s + k * lds;
        int64_t i = 0;
        for (; i + 8 <= outputs; i += 8) direct_block<T, 8>(from, ldf, some, matrix + i, lds, g + i * ldg, ldg, k > 0);
        for (; i + 4 <= outputs; i += 4) direct_block<T, 4>(from, ldf, some, matrix + i, lds, g + i * ldg, ldg, k > 0);
        for (; i < outputs; ++i) direct_block<T, 1>(from, ldf, some, matrix + i, lds, g + i * ldg, ldg, k > 0);
    }
}

}  // namespace
