// Square blocks of kLanes x kLanes values, transposed in registers.
#pragma once
#include "simd.h"

namespace {

#if defined(__AVX512F__)
WARMOPS_INLINE VD unpack_lo(VD a, VD b) { return (VD)_mm512_unpacklo_pd((__m512d)a, (__m512d)b); }
WARMOPS_INLINE VD unpack_hi(VD a, VD b) { return (VD)_mm512_unpackhi_pd((__m512d)a, (__m512d)b); }
template <class VT>
WARMOPS_INLINE VT quarters_even(VT a, VT b) { return (VT)_mm512_shuffle_f32x4((__m512)a, (__m512)b, 0x88); }
template <class VT>
WARMOPS_INLINE VT quarters_odd(VT a, VT b) { return (VT)_mm512_shuffle_f32x4((__m512)a, (__m512)b, 0xDD); }
// Four vectors of four 128-bit parts, as a 4 x 4 matrix of them.
template <class VT>
WARMOPS_INLINE void transpose_parts(const VT* in, int step, VT* out, int out_step) {
    const VT a = quarters_even(in[0], in[step]), b = quarters_odd(in[0], in[step]);
    const VT c = quarters_even(in[2 * step], in[3 * step]), d = quarters_odd(in[2 * step], in[3 * step]);
    out[0] = quarters_even(a, c);
    out[out_step] = quarters_even(b, d);
    out[2 * out_step] = quarters_odd(a, c);
    out[3 * out_step] = quarters_odd(b, d);
}
#elif defined(__AVX2__)
WARMOPS_INLINE VD unpack_lo(VD a, VD b) { return (VD)_mm256_unpacklo_pd((__m256d)a, (__m256d)b); }
WARMOPS_INLINE VD unpack_hi(VD a, VD b) { return (VD)_mm256_unpackhi_pd((__m256d)a, (__m256d)b); }
template <class VT>
WARMOPS_INLINE void transpose_parts(const VT* in, int step, VT* out, int out_step) {
    out[0] = (VT)_mm256_permute2f128_ps((__m256)in[0], (__m256)in[step], 0x20);
    out[out_step] = (VT)_mm256_permute2f128_ps((__m256)in[0], (__m256)in[step], 0x31);
}
#else
WARMOPS_INLINE VD unpack_lo(VD a, VD b) { return VD{a[0], b[0]}; }
WARMOPS_INLINE VD unpack_hi(VD a, VD b) { return VD{a[1], b[1]}; }
template <class VT>
WARMOPS_INLINE void transpose_parts(const VT* in, int, VT* out, int) { out[0] = in[0]; }
#endif

WARMOPS_INLINE void transpose(VF (&v)[kLanes<float>]) {
    VF t[kLanes<float>];
#pragma GCC unroll 4
    for (int i = 0; i < kLanes<float>; i += 4) {
        const VF a = unpack_lo(v[i], v[i + 1]), b = unpack_hi(v[i], v[i + 1]);
        const VF c = unpack_lo(v[i + 2], v[i + 3]), d = unpack_hi(v[i + 2], v[i + 3]);
        t[i] = unpack_lo2(a, c);
        t[i + 1] = unpack_hi2(a, c);
        t[i + 2] = unpack_lo2(b, d);
        t[i + 3] = unpack_hi2(b, d);
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) transpose_parts(t + i, 4, v + i, 4);
}

WARMOPS_INLINE void transpose(VD (&v)[kLanes<double>]) {
    VD t[kLanes<double>];
#pragma GCC unroll 4
    for (int i = 0; i < kLanes<double>; i += 2) {
        t[i] = unpack_lo(v[i], v[i + 1]);
        t[i + 1] = unpack_hi(v[i], v[i + 1]);
    }
#pragma GCC unroll 2
    for (int i = 0; i < 2; ++i) transpose_parts(t + i, 2, v + i, 2);
}

}  // namespace
