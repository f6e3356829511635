// The AVX-512 instructions that csrc/cpu uses, one lane after the other: its kernels for AVX-512 run on any processor with AVX2, slowly,
// with the same bits. For tests; see _avx512_on_host.py.
#pragma once
#include <immintrin.h>
#include <math.h>
#include <string.h>

#define __AVX512F__ 1
#define __builtin_cpu_supports(name) 1
#define __asm__(...)  // hints for registers that are not there

namespace avx512 {

template <class To, class From>
To as(From from) {
    To to;
    static_assert(sizeof to == sizeof from, "the same bits");
    memcpy(&to, &from, sizeof to);
    return to;
}
template <class Vector, class Lane>
struct Lanes {
    Lane at[sizeof(Vector) / sizeof(Lane)];
};
using Ints = Lanes<__m512i, int>;
using Longs = Lanes<__m512i, unsigned long long>;

template <class Vector, class Lane, class F>
Vector made_of(F f) {
    Lanes<Vector, Lane> r;
    for (int i = 0; i < int(sizeof(Vector) / sizeof(Lane)); ++i) r.at[i] = f(i);
    return as<Vector>(r);
}
template <class F>
__m512 floats(F f) {
    return made_of<__m512, float>(f);
}
template <class F>
__m512d doubles(F f) {
    return made_of<__m512d, double>(f);
}
template <class F>
__m512i ints(F f) {
    return made_of<__m512i, int>(f);
}
template <class F>
__m512i longs(F f) {
    return made_of<__m512i, unsigned long long>(f);
}

inline __m512 set1_ps(float x) {
    return floats([=](int) { return x; });
}
inline __m512d set1_pd(double x) {
    return doubles([=](int) { return x; });
}
inline __m512i set1_epi32(int x) {
    return ints([=](int) { return x; });
}
template <class... X>
__m512 setr_ps(X... x) {
    const float v[16] = {x...};
    return floats([&](int i) { return v[i]; });
}
template <class... X>
__m512i setr_epi64(X... x) {
    const long long v[8] = {x...};
    return longs([&](int i) { return (unsigned long long)v[i]; });
}
template <class... X>
__m512i set_epi64(X... x) {
    const long long v[8] = {x...};
    return longs([&](int i) { return (unsigned long long)v[7 - i]; });
}
template <class... X>
__m512i set_epi32(X... x) {
    const int v[16] = {x...};
    return ints([&](int i) { return v[15 - i]; });
}

inline __m512 fmadd_ps(__m512 a, __m512 b, __m512 c) {
    return floats([&](int i) { return fmaf(a[i], b[i], c[i]); });
}
inline __m512d fmadd_pd(__m512d a, __m512d b, __m512d c) {
    return doubles([&](int i) { return fma(a[i], b[i], c[i]); });
}
inline __m512 mask_fmadd_ps(__m512 a, unsigned k, __m512 b, __m512 c) {
    return floats([&](int i) { return k >> i & 1 ? fmaf(a[i], b[i], c[i]) : a[i]; });
}
inline __m512 mask_mul_ps(__m512 other, unsigned k, __m512 a, __m512 b) {
    return floats([&](int i) { return k >> i & 1 ? a[i] * b[i] : other[i]; });
}
inline __m512 mask_add_ps(__m512 other, unsigned k, __m512 a, __m512 b) {
    return floats([&](int i) { return k >> i & 1 ? a[i] + b[i] : other[i]; });
}
inline __m512 sqrt_ps(__m512 a) {
    return floats([&](int i) { return sqrtf(a[i]); });
}
inline __m512 cvtepi32_ps(__m512i a) {
    const Ints v = as<Ints>(a);
    return floats([&](int i) { return float(v.at[i]); });
}
inline __m512 maskz_getexp_ps(unsigned k, __m512 a) {  // of normal numbers
    return floats([&](int i) { return k >> i & 1 ? float(ilogbf(a[i])) : 0.0f; });
}
inline __m512 getmant_ps(__m512 a, int, int) {  // in [1/2, 1), of normal numbers
    return floats([&](int i) {
        int exponent;
        return frexpf(a[i], &exponent);
    });
}

inline __m512i mul_epu32(__m512i a, __m512i b) {
    const Longs u = as<Longs>(a), v = as<Longs>(b);
    return longs([&](int i) { return (u.at[i] & 0xFFFFFFFFull) * (v.at[i] & 0xFFFFFFFFull); });
}
inline __m512i xor3_epi64(__m512i a, __m512i b, __m512i c, int) {
    const Longs u = as<Longs>(a), v = as<Longs>(b), w = as<Longs>(c);
    return longs([&](int i) { return u.at[i] ^ v.at[i] ^ w.at[i]; });
}
inline __m512i srli_epi32(__m512i a, int n) {
    const Ints v = as<Ints>(a);
    return ints([&](int i) { return int(unsigned(v.at[i]) >> n); });
}
inline __m512i mask_xor_epi32(__m512i other, unsigned k, __m512i a, __m512i b) {
    const Ints u = as<Ints>(a), v = as<Ints>(b), w = as<Ints>(other);
    return ints([&](int i) { return k >> i & 1 ? u.at[i] ^ v.at[i] : w.at[i]; });
}
inline unsigned movepi32_mask(__m512i a) {
    const Ints v = as<Ints>(a);
    unsigned k = 0;
    for (int i = 0; i < 16; ++i) k |= unsigned(v.at[i] < 0) << i;
    return k;
}
// Within each 128 bits.
inline __m512i mask_shuffle_epi32(__m512i other, unsigned k, __m512i a, int order) {
    const Ints v = as<Ints>(a), w = as<Ints>(other);
    return ints([&](int i) { return k >> i & 1 ? v.at[i / 4 * 4 + (order >> (2 * (i % 4)) & 3)] : w.at[i]; });
}
inline __m512 unpacklo_ps(__m512 a, __m512 b) {
    return floats([&](int i) { return (i % 2 ? b : a)[i / 4 * 4 + i % 4 / 2]; });
}
inline __m512 unpackhi_ps(__m512 a, __m512 b) {
    return floats([&](int i) { return (i % 2 ? b : a)[i / 4 * 4 + 2 + i % 4 / 2]; });
}
inline __m512d unpacklo_pd(__m512d a, __m512d b) {
    return doubles([&](int i) { return (i % 2 ? b : a)[i / 2 * 2]; });
}
inline __m512d unpackhi_pd(__m512d a, __m512d b) {
    return doubles([&](int i) { return (i % 2 ? b : a)[i / 2 * 2 + 1]; });
}
inline __m512 permutexvar_ps(__m512i index, __m512 a) {
    const Ints v = as<Ints>(index);
    return floats([&](int i) { return a[v.at[i] & 15]; });
}
inline __m512d permutexvar_pd(__m512i index, __m512d a) {
    const Longs v = as<Longs>(index);
    return doubles([&](int i) { return a[int(v.at[i] & 7)]; });
}
inline __m512d permutex2var_pd(__m512d a, __m512i index, __m512d b) {
    const Longs v = as<Longs>(index);
    return doubles([&](int i) { return (v.at[i] & 8 ? b : a)[int(v.at[i] & 7)]; });
}

struct Halves {
    __m256i at[2];
};
inline __m512i castsi256_si512(__m256i a) { return as<__m512i>(Halves{{a, a}}); }
inline __m256i castsi512_si256(__m512i a) { return as<Halves>(a).at[0]; }
inline __m256i extracti64x4_epi64(__m512i a, int half) { return as<Halves>(a).at[half]; }
inline __m512i inserti64x4(__m512i a, __m256i b, int half) {
    Halves v = as<Halves>(a);
    v.at[half] = b;
    return as<__m512i>(v);
}
struct Converted {
    __m256 at[2];
};
struct Half16 {
    __m128i at[2];
};
inline __m512 cvtph_ps(__m256i a) {
    const Half16 v = as<Half16>(a);
    return as<__m512>(Converted{{_mm256_cvtph_ps(v.at[0]), _mm256_cvtph_ps(v.at[1])}});
}
inline __m256i cvtps_ph(__m512 a, int) {
    const Converted v = as<Converted>(a);
    constexpr int kRounding = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
    return as<__m256i>(Half16{{_mm256_cvtps_ph(v.at[0], kRounding), _mm256_cvtps_ph(v.at[1], kRounding)}});
}

inline __m512 maskz_loadu_ps(unsigned k, const float* p) {
    return floats([=](int i) { return k >> i & 1 ? p[i] : 0.0f; });
}
inline __m512d maskz_loadu_pd(unsigned k, const double* p) {
    return doubles([=](int i) { return k >> i & 1 ? p[i] : 0.0; });
}
inline void mask_storeu_ps(float* p, unsigned k, __m512 a) {
    for (int i = 0; i < 16; ++i)
        if (k >> i & 1) p[i] = a[i];
}
inline void mask_storeu_pd(double* p, unsigned k, __m512d a) {
    for (int i = 0; i < 8; ++i)
        if (k >> i & 1) p[i] = a[i];
}

}  // namespace avx512

// Macros of its own where immintrin.h has one of the name.
#undef _mm512_setr_ps
#undef _mm512_setr_epi64
#undef _mm512_ternarylogic_epi64
#undef _mm512_mask_shuffle_epi32
#undef _mm512_srli_epi32
#undef _mm512_getmant_ps
#undef _mm512_inserti64x4
#undef _mm512_extracti64x4_epi64
#undef _mm512_cvtps_ph
#define _mm512_set1_ps avx512::set1_ps
#define _mm512_set1_pd avx512::set1_pd
#define _mm512_set1_epi32 avx512::set1_epi32
#define _mm512_setr_ps avx512::setr_ps
#define _mm512_setr_epi64 avx512::setr_epi64
#define _mm512_set_epi64 avx512::set_epi64
#define _mm512_set_epi32 avx512::set_epi32
#define _mm512_fmadd_ps avx512::fmadd_ps
#define _mm512_fmadd_pd avx512::fmadd_pd
#define _mm512_mask_fmadd_ps avx512::mask_fmadd_ps
#define _mm512_mask_mul_ps avx512::mask_mul_ps
#define _mm512_mask_add_ps avx512::mask_add_ps
#define _mm512_sqrt_ps avx512::sqrt_ps
#define _mm512_cvtepi32_ps avx512::cvtepi32_ps
#define _mm512_maskz_getexp_ps avx512::maskz_getexp_ps
#define _mm512_getmant_ps avx512::getmant_ps
#define _mm512_mul_epu32 avx512::mul_epu32
#define _mm512_ternarylogic_epi64 avx512::xor3_epi64
#define _mm512_srli_epi32 avx512::srli_epi32
#define _mm512_mask_xor_epi32 avx512::mask_xor_epi32
#define _mm512_movepi32_mask avx512::movepi32_mask
#define _mm512_mask_shuffle_epi32 avx512::mask_shuffle_epi32
#define _mm512_unpacklo_ps avx512::unpacklo_ps
#define _mm512_unpackhi_ps avx512::unpackhi_ps
#define _mm512_unpacklo_pd avx512::unpacklo_pd
#define _mm512_unpackhi_pd avx512::unpackhi_pd
#define _mm512_permutexvar_ps avx512::permutexvar_ps
#define _mm512_permutexvar_pd avx512::permutexvar_pd
#define _mm512_permutex2var_pd avx512::permutex2var_pd
#define _mm512_castsi256_si512 avx512::castsi256_si512
#define _mm512_castsi512_si256 avx512::castsi512_si256
#define _mm512_extracti64x4_epi64 avx512::extracti64x4_epi64
#define _mm512_inserti64x4 avx512::inserti64x4
#define _mm512_cvtph_ps avx512::cvtph_ps
#define _mm512_cvtps_ph avx512::cvtps_ph
#define _mm512_maskz_loadu_ps avx512::maskz_loadu_ps
#define _mm512_maskz_loadu_pd avx512::maskz_loadu_pd
#define _mm512_mask_storeu_ps avx512::mask_storeu_ps
#define _mm512_mask_storeu_pd avx512::mask_storeu_pd
