// The few vector operations that the kernels are written in, for the instruction set this file is compiled for.
// No standard library here: an inline function compiled for AVX-512 must never be the copy that the linker keeps.
#pragma once
#include <stdint.h>
#include <string.h>

#include "args.h"
#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace {  // every instruction set has its own copy

using namespace warmops;

#if defined(__AVX512F__)
constexpr int kBytes = 64;
#elif defined(__AVX2__)
constexpr int kBytes = 32;
#else
constexpr int kBytes = 16;
#endif

typedef float VF __attribute__((vector_size(kBytes)));
typedef double VD __attribute__((vector_size(kBytes)));
typedef uint32_t VU __attribute__((vector_size(kBytes)));
typedef int32_t VI __attribute__((vector_size(kBytes)));
typedef uint64_t VQ __attribute__((vector_size(kBytes)));
typedef float VFu __attribute__((vector_size(kBytes), aligned(4), may_alias));
typedef double VDu __attribute__((vector_size(kBytes), aligned(8), may_alias));
typedef uint16_t VH __attribute__((vector_size(kBytes / 2)));
typedef uint16_t VHu __attribute__((vector_size(kBytes / 2), aligned(2), may_alias));
typedef uint8_t VB __attribute__((vector_size(kBytes / 4)));
typedef uint8_t VBu __attribute__((vector_size(kBytes / 4), aligned(1), may_alias));

template <class T>
struct VecOf;
template <>
struct VecOf<float> {
    using V = VF;
    using U = VFu;
};
template <>
struct VecOf<double> {
    using V = VD;
    using U = VDu;
};
template <class T>
using V = typename VecOf<T>::V;
template <class T>
constexpr int kLanes = kBytes / int(sizeof(T));

template <class T>
WARMOPS_INLINE V<T> load(const T* p) {
    return *reinterpret_cast<const typename VecOf<T>::U*>(p);
}
template <class T>
WARMOPS_INLINE void store(T* p, V<T> v) {
    *reinterpret_cast<typename VecOf<T>::U*>(p) = v;
}

template <class VT, class T>
WARMOPS_INLINE VT fill(T x) {
    VT v;
    for (unsigned i = 0; i < sizeof(VT) / sizeof(T); ++i) v[i] = x;
    return v;
}
template <class VT>
WARMOPS_INLINE VT select(VI mask, VT a, VT b) {  // lanes of mask are 0 or -1
    return (VT)((mask & (VI)a) | (~mask & (VI)b));
}

// g++ would sooner reload a vector from the stack for each use.
template <class VT>
WARMOPS_INLINE void keep_in_register(VT& v) {
#if defined(__AVX512F__)
    __asm__("" : "+v"(v));
#elif defined(__x86_64__)
    __asm__("" : "+x"(v));
#else
    (void)v;
#endif
}

#if defined(__AVX512F__)
WARMOPS_INLINE VF set1(float x) { return (VF)_mm512_set1_ps(x); }
WARMOPS_INLINE VD set1(double x) { return (VD)_mm512_set1_pd(x); }
WARMOPS_INLINE VF fma(VF a, VF b, VF c) { return (VF)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c); }
WARMOPS_INLINE VD fma(VD a, VD b, VD c) { return (VD)_mm512_fmadd_pd((__m512d)a, (__m512d)b, (__m512d)c); }
WARMOPS_INLINE VF sqrt(VF a) { return (VF)_mm512_sqrt_ps((__m512)a); }
WARMOPS_INLINE VQ mul_even(VQ a, VQ b) { return (VQ)_mm512_mul_epu32((__m512i)a, (__m512i)b); }
WARMOPS_INLINE VQ xor3(VQ a, VQ b, VQ c) { return (VQ)_mm512_ternarylogic_epi64((__m512i)a, (__m512i)b, (__m512i)c, 0x96); }
WARMOPS_INLINE VF reverse(VF a) {
    const __m512i i = _mm512_set_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    return (VF)_mm512_permutexvar_ps(i, (__m512)a);
}
WARMOPS_INLINE VD reverse(VD a) {
    const __m512i i = _mm512_set_epi64(0, 1, 2, 3, 4, 5, 6, 7);
    return (VD)_mm512_permutexvar_pd(i, (__m512d)a);
}
WARMOPS_INLINE VF unpack_lo(VF a, VF b) { return (VF)_mm512_unpacklo_ps((__m512)a, (__m512)b); }
WARMOPS_INLINE VF unpack_hi(VF a, VF b) { return (VF)_mm512_unpackhi_ps((__m512)a, (__m512)b); }
WARMOPS_INLINE VF unpack_lo2(VF a, VF b) { return (VF)_mm512_unpacklo_pd((__m512d)a, (__m512d)b); }
WARMOPS_INLINE VF unpack_hi2(VF a, VF b) { return (VF)_mm512_unpackhi_pd((__m512d)a, (__m512d)b); }
WARMOPS_INLINE VD unpack_lo(VD a, VD b) { return (VD)_mm512_unpacklo_pd((__m512d)a, (__m512d)b); }
WARMOPS_INLINE VD unpack_hi(VD a, VD b) { return (VD)_mm512_unpackhi_pd((__m512d)a, (__m512d)b); }
WARMOPS_INLINE VF from_half(VH h) { return (VF)_mm512_cvtph_ps((__m256i)h); }
WARMOPS_INLINE VH to_half(VF f) { return (VH)_mm512_cvtps_ph((__m512)f, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
#elif defined(__AVX2__)
WARMOPS_INLINE VF set1(float x) { return (VF)_mm256_set1_ps(x); }
WARMOPS_INLINE VD set1(double x) { return (VD)_mm256_set1_pd(x); }
WARMOPS_INLINE VF fma(VF a, VF b, VF c) { return (VF)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c); }
WARMOPS_INLINE VD fma(VD a, VD b, VD c) { return (VD)_mm256_fmadd_pd((__m256d)a, (__m256d)b, (__m256d)c); }
WARMOPS_INLINE VF sqrt(VF a) { return (VF)_mm256_sqrt_ps((__m256)a); }
WARMOPS_INLINE VQ mul_even(VQ a, VQ b) { return (VQ)_mm256_mul_epu32((__m256i)a, (__m256i)b); }
WARMOPS_INLINE VQ xor3(VQ a, VQ b, VQ c) { return a ^ b ^ c; }
WARMOPS_INLINE VF reverse(VF a) { return (VF)_mm256_permutevar8x32_ps((__m256)a, _mm256_set_epi32(0, 1, 2, 3, 4, 5, 6, 7)); }
WARMOPS_INLINE VD reverse(VD a) { return (VD)_mm256_permute4x64_pd((__m256d)a, 0x1B); }
WARMOPS_INLINE VF unpack_lo(VF a, VF b) { return (VF)_mm256_unpacklo_ps((__m256)a, (__m256)b); }
WARMOPS_INLINE VF unpack_hi(VF a, VF b) { return (VF)_mm256_unpackhi_ps((__m256)a, (__m256)b); }
WARMOPS_INLINE VF unpack_lo2(VF a, VF b) { return (VF)_mm256_unpacklo_pd((__m256d)a, (__m256d)b); }
WARMOPS_INLINE VF unpack_hi2(VF a, VF b) { return (VF)_mm256_unpackhi_pd((__m256d)a, (__m256d)b); }
WARMOPS_INLINE VD unpack_lo(VD a, VD b) { return (VD)_mm256_unpacklo_pd((__m256d)a, (__m256d)b); }
WARMOPS_INLINE VD unpack_hi(VD a, VD b) { return (VD)_mm256_unpackhi_pd((__m256d)a, (__m256d)b); }
WARMOPS_INLINE VF from_half(VH h) { return (VF)_mm256_cvtph_ps((__m128i)h); }
WARMOPS_INLINE VH to_half(VF f) { return (VH)_mm256_cvtps_ph((__m256)f, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
#else
WARMOPS_INLINE VF set1(float x) { return fill<VF>(x); }
WARMOPS_INLINE VD set1(double x) { return fill<VD>(x); }
WARMOPS_INLINE VF fma(VF a, VF b, VF c) { return a * b + c; }
WARMOPS_INLINE VD fma(VD a, VD b, VD c) { return a * b + c; }
WARMOPS_INLINE VQ xor3(VQ a, VQ b, VQ c) { return a ^ b ^ c; }
#if defined(__x86_64__)
WARMOPS_INLINE VF sqrt(VF a) { return (VF)_mm_sqrt_ps((__m128)a); }
WARMOPS_INLINE VQ mul_even(VQ a, VQ b) { return (VQ)_mm_mul_epu32((__m128i)a, (__m128i)b); }
#else
WARMOPS_INLINE VF sqrt(VF a) {
    for (int i = 0; i < 4; ++i) a[i] = __builtin_sqrtf(a[i]);
    return a;
}
WARMOPS_INLINE VQ mul_even(VQ a, VQ b) { return (a & 0xFFFFFFFFull) * (b & 0xFFFFFFFFull); }
#endif
WARMOPS_INLINE VF reverse(VF a) { return VF{a[3], a[2], a[1], a[0]}; }
WARMOPS_INLINE VD reverse(VD a) { return VD{a[1], a[0]}; }
WARMOPS_INLINE VF unpack_lo(VF a, VF b) { return VF{a[0], b[0], a[1], b[1]}; }
WARMOPS_INLINE VF unpack_hi(VF a, VF b) { return VF{a[2], b[2], a[3], b[3]}; }
WARMOPS_INLINE VF unpack_lo2(VF a, VF b) { return VF{a[0], a[1], b[0], b[1]}; }
WARMOPS_INLINE VF unpack_hi2(VF a, VF b) { return VF{a[2], a[3], b[2], b[3]}; }
WARMOPS_INLINE VF from_half(VH h) {
    const VU u = __builtin_convertvector(h, VU);
    const VU magnitude = (u & 0x7FFFu) << 13;
    // Scaling by 2^112 moves the exponent and normalises subnormals; infinities and NaN keep their exponent of ones.
    const VF scaled = (VF)magnitude * 0x1p112f;
    const VI special = (VI)magnitude >= (VI)fill<VI>(0x7C00 << 13);
    const VU bits = select(special, magnitude | 0x7F800000u, (VU)scaled);
    return (VF)(bits | ((u & 0x8000u) << 16));
}
WARMOPS_INLINE VH to_half(VF f) {
    const VU bits = (VU)f, sign = bits & 0x80000000u, magnitude = bits ^ sign;
    // Normal numbers: round to nearest even on the 13 dropped bits, after rebiasing the exponent.
    const VU normal = (magnitude - (112u << 23) + 0xFFFu + ((magnitude >> 13) & 1u)) >> 13;
    // Subnormal results: adding 0.5 makes the FPU round at the right bit.
    const VU small = (VU)((VF)magnitude + 0.5f) - (VU)fill<VF>(0.5f);
    const VI is_small = (VI)magnitude < (VI)fill<VI>(113 << 23);
    const VI overflow = (VI)magnitude >= (VI)fill<VI>(0x477FF000);
    const VI nan = (VI)magnitude > (VI)fill<VI>(0x7F800000);
    VU h = select(is_small, small, normal);
    h = select(overflow, fill<VU>(0x7C00u), h);
    h = select(nan, fill<VU>(0x7E00u), h);
    return __builtin_convertvector(h | (sign >> 16), VH);
}
#endif

// The first count lanes from memory, zeros in the others.
#if defined(__AVX512F__)
WARMOPS_INLINE VF load_first(const float* p, int64_t count) { return (VF)_mm512_maskz_loadu_ps(__mmask16((1u << count) - 1), p); }
WARMOPS_INLINE VD load_first(const double* p, int64_t count) { return (VD)_mm512_maskz_loadu_pd(__mmask8((1u << count) - 1), p); }
WARMOPS_INLINE void store_first(float* p, int64_t count, VF v) { _mm512_mask_storeu_ps(p, __mmask16((1u << count) - 1), (__m512)v); }
WARMOPS_INLINE void store_first(double* p, int64_t count, VD v) { _mm512_mask_storeu_pd(p, __mmask8((1u << count) - 1), (__m512d)v); }
#elif defined(__AVX2__)
WARMOPS_INLINE __m256i first_lanes(int64_t count, int32_t) {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(int(count)), _mm256_set_epi32(7, 6, 5, 4, 3, 2, 1, 0));
}
WARMOPS_INLINE __m256i first_lanes(int64_t count, int64_t) { return _mm256_cmpgt_epi64(_mm256_set1_epi64x(count), _mm256_set_epi64x(3, 2, 1, 0)); }
WARMOPS_INLINE VF load_first(const float* p, int64_t count) { return (VF)_mm256_maskload_ps(p, first_lanes(count, int32_t())); }
WARMOPS_INLINE VD load_first(const double* p, int64_t count) { return (VD)_mm256_maskload_pd(p, first_lanes(count, int64_t())); }
WARMOPS_INLINE void store_first(float* p, int64_t count, VF v) { _mm256_maskstore_ps(p, first_lanes(count, int32_t()), (__m256)v); }
WARMOPS_INLINE void store_first(double* p, int64_t count, VD v) { _mm256_maskstore_pd(p, first_lanes(count, int64_t()), (__m256d)v); }
#else
template <class T>
WARMOPS_INLINE V<T> load_first(const T* p, int64_t count) {
    V<T> v{};
    for (int64_t i = 0; i < count; ++i) v[i] = p[i];
    return v;
}
WARMOPS_INLINE void store_first(float* p, int64_t count, VF v) {
    for (int64_t i = 0; i < count; ++i) p[i] = v[i];
}
WARMOPS_INLINE void store_first(double* p, int64_t count, VD v) {
    for (int64_t i = 0; i < count; ++i) p[i] = v[i];
}
#endif

WARMOPS_INLINE VF from_bfloat(VH h) { return (VF)(__builtin_convertvector(h, VU) << 16); }
WARMOPS_INLINE VH to_bfloat(VF f) {
    const VU bits = (VU)f;
    const VU rounded = (bits + 0x7FFFu + ((bits >> 16) & 1u)) >> 16;
    const VI nan = (VI)(bits & 0x7FFFFFFFu) > (VI)fill<VI>(0x7F800000);
    return __builtin_convertvector(select(nan, (bits >> 16) | 0x40u, rounded), VH);
}
// A true division: the same bits as x.float() / 127.5 - 1.
WARMOPS_INLINE VF from_byte(VB b) { return (VF)(__builtin_convertvector(__builtin_convertvector(b, VI), VF) / 127.5f) - 1.0f; }

}  // namespace
