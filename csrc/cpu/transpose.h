// Square blocks of kLanes x kLanes values, transposed on their way from memory to registers.
#pragma once
#include "simd.h"

namespace {

// A vector of two halves, each from an address of its own: an instruction that loads it costs no shuffle.
template <class VT>
WARMOPS_INLINE VT join(const void* low, const void* high) {
#if defined(__AVX512F__)
    if constexpr (sizeof(VT) == 64)
        return (VT)_mm512_inserti64x4(_mm512_castsi256_si512(_mm256_loadu_si256(static_cast<const __m256i*>(low))),
                                      _mm256_loadu_si256(static_cast<const __m256i*>(high)), 1);
#endif
#if defined(__AVX2__)
    if constexpr (sizeof(VT) == 32)
        return (VT)_mm256_inserti128_si256(_mm256_castsi128_si256(_mm_loadu_si128(static_cast<const __m128i*>(low))),
                                           _mm_loadu_si128(static_cast<const __m128i*>(high)), 1);
    if constexpr (sizeof(VT) == 16)
        return (VT)_mm_unpacklo_epi64(_mm_loadl_epi64(static_cast<const __m128i*>(low)), _mm_loadl_epi64(static_cast<const __m128i*>(high)));
#endif
    VT v;
    memcpy(&v, low, sizeof v / 2);
    memcpy(reinterpret_cast<char*>(&v) + sizeof v / 2, high, sizeof v / 2);
    return v;
}

// The inverse: both halves of a vector to addresses of their own.
template <class VT>
WARMOPS_INLINE void part(VT v, void* low, void* high) {
#if defined(__AVX512F__)
    if constexpr (sizeof(VT) == 64) {
        _mm256_storeu_si256(static_cast<__m256i*>(low), _mm512_castsi512_si256((__m512i)v));
        _mm256_storeu_si256(static_cast<__m256i*>(high), _mm512_extracti64x4_epi64((__m512i)v, 1));
        return;
    }
#endif
    memcpy(low, &v, sizeof v / 2);
    memcpy(high, reinterpret_cast<const char*>(&v) + sizeof v / 2, sizeof v / 2);
}

// v[l] is half of row l, then the same half of row l + kLanes / 2; afterwards v[c] is column c of that half of the block.
// It is its own inverse.
#if defined(__AVX512F__)
template <class VT>
WARMOPS_INLINE void exchange_parts(VT& a, VT& b) {
    const __m512i even = _mm512_setr_epi64(0, 1, 8, 9, 4, 5, 12, 13), odd = _mm512_setr_epi64(2, 3, 10, 11, 6, 7, 14, 15);
    const VT lo = (VT)_mm512_permutex2var_pd((__m512d)a, even, (__m512d)b);
    b = (VT)_mm512_permutex2var_pd((__m512d)a, odd, (__m512d)b);
    a = lo;
}
#endif

#if defined(__AVX2__)
WARMOPS_INLINE void transpose_half(VF (&v)[kLanes<float> / 2]) {
#pragma GCC unroll 2
    for (int i = 0; i < kLanes<float> / 2; i += 4) {
        const VF a = unpack_lo(v[i], v[i + 1]), b = unpack_hi(v[i], v[i + 1]);
        const VF c = unpack_lo(v[i + 2], v[i + 3]), d = unpack_hi(v[i + 2], v[i + 3]);
        v[i] = unpack_lo2(a, c);
        v[i + 1] = unpack_hi2(a, c);
        v[i + 2] = unpack_lo2(b, d);
        v[i + 3] = unpack_hi2(b, d);
    }
#if defined(__AVX512F__)
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) exchange_parts(v[i], v[i + 4]);
#endif
}
WARMOPS_INLINE void transpose_half(VD (&v)[kLanes<double> / 2]) {
#pragma GCC unroll 2
    for (int i = 0; i < kLanes<double> / 2; i += 2) {
        const VD a = v[i];
        v[i] = unpack_lo(a, v[i + 1]);
        v[i + 1] = unpack_hi(a, v[i + 1]);
    }
#if defined(__AVX512F__)
#pragma GCC unroll 2
    for (int i = 0; i < 2; ++i) exchange_parts(v[i], v[i + 2]);
#endif
}
#else
WARMOPS_INLINE void transpose_half(VF (&v)[2]) {
    const VF a = unpack_lo(v[0], v[1]), b = unpack_hi(v[0], v[1]);
    v[0] = unpack_lo2(a, b);
    v[1] = unpack_hi2(a, b);
}
WARMOPS_INLINE void transpose_half(VD (&)[1]) {}
#endif

// read(l, h): half h of row l, then that of row l + kLanes / 2. write(c, v): column c of the block.
template <class T, class Read, class Write>
WARMOPS_INLINE void transpose(const Read& read, const Write& write) {
    constexpr int L = kLanes<T>;
#pragma GCC unroll 2
    for (int h = 0; h < 2; ++h) {
        V<T> v[L / 2];
#pragma GCC unroll 8
        for (int l = 0; l < L / 2; ++l) v[l] = read(l, h);
        transpose_half(v);
#pragma GCC unroll 8
        for (int l = 0; l < L / 2; ++l) write(h * (L / 2) + l, v[l]);
    }
}

}  // namespace
