// Products of a small matrix with a strip: the transforms of an odd length, for which no fast form is kept.
#pragma once
#include "simd.h"

namespace {

// Sums of products, of such sums, and of those: rounding errors grow with the longest of the three rows of additions.
constexpr int64_t kChunk = 16, kTile = 64;

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

// Sum of the rows, split at powers of two: where they are equal, most of the sums are exact.
template <class T>
V<T> sum_in_pairs(const T* f, int64_t ldf, int64_t depth) {
    if (depth == 8) return ((load(f) + load(f + ldf)) + (load(f + 2 * ldf) + load(f + 3 * ldf))) +
                           ((load(f + 4 * ldf) + load(f + 5 * ldf)) + (load(f + 6 * ldf) + load(f + 7 * ldf)));
    if (depth == 1) return load(f);
    int64_t left = 1;
    while (2 * left < depth) left *= 2;
    const V<T> sum = sum_in_pairs<T>(f, ldf, left);
    return sum + sum_in_pairs<T>(f + left * ldf, ldf, depth - left);
}

template <class T>
void direct_group(const T* f, int64_t ldf, int64_t depth, const T* s, int64_t lds, int64_t outputs, T* g, int64_t ldg) {
    for (int64_t k = 0; k < depth || k == 0; k += kChunk) {
        const int64_t some = depth - k < kChunk ? depth - k : kChunk;
        const T *from = f + k * ldf, *matrix = s + k * lds;
        int64_t i = 0;
        for (; i + 8 <= outputs; i += 8) direct_block<T, 8>(from, ldf, some, matrix + i, lds, g + i * ldg, ldg, k > 0);
        for (; i + 4 <= outputs; i += 4) direct_block<T, 4>(from, ldf, some, matrix + i, lds, g + i * ldg, ldg, k > 0);
        for (; i < outputs; ++i) direct_block<T, 1>(from, ldf, some, matrix + i, lds, g + i * ldg, ldg, k > 0);
    }
}

// g = s^T f, s of [depth, outputs]. Strides may be negative; g is not f.
template <class T>
void direct(const T* f, int64_t ldf, int64_t depth, const T* s, int64_t lds, int64_t outputs, T* g, int64_t ldg) {
    constexpr int64_t L = kLanes<T>;
    if (depth <= 4 * kChunk) return direct_group(f, ldf, depth, s, lds, outputs, g, ldg);
    int64_t group = kChunk;
    while (group * group < kChunk * depth) group += kChunk;
    alignas(64) T sums[kTile * L];
    for (int64_t k = 0; k < depth; k += group)
        for (int64_t i = 0; i < outputs; i += kTile) {
            const int64_t rows = outputs - i < kTile ? outputs - i : kTile;
            direct_group(f + k * ldf, ldf, depth - k < group ? depth - k : group, s + k * lds + i, lds, rows, sums, L);
            for (int64_t r = 0; r < rows; ++r) {
                T* const to = g + (i + r) * ldg;
                store(to, k == 0 ? load(sums + r * L) : load(to) + load(sums + r * L));
            }
        }
}

// The same where column 0 of s is ones. That sum is all there is of an image of one colour, and products in a row would round
// the same number the same way each time.
template <class T>
void direct_and_sum(const T* f, int64_t ldf, int64_t depth, const T* s, int64_t lds, int64_t outputs, T* g, int64_t ldg) {
    direct(f, ldf, depth, s, lds, outputs, g, ldg);
    if (depth > 0) store(g, sum_in_pairs(f, ldf, depth));
}

}  // namespace
