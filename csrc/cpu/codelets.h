// Strips of a few points, transformed by straight lines: ../dct_codelets.h on vectors.
#pragma once
#include "simd.h"

namespace {

WARMOPS_INLINE VF scaled(VF x, double c) { return x * set1(float(c)); }
WARMOPS_INLINE VD scaled(VD x, double c) { return x * set1(c); }
WARMOPS_INLINE VF scaled_add(VF x, double c, VF y) { return fma(x, set1(float(c)), y); }
WARMOPS_INLINE VD scaled_add(VD x, double c, VD y) { return fma(x, set1(c), y); }

}  // namespace

#include "../dct_codelets.h"  // after what it calls
#include "quarters.h"

namespace {

template <int N>
constexpr bool kByQuarters = N > 16 && N % 4 == 0;  // of fewer points registers hold enough

template <class T>
using Transform = void (*)(const T* in, int64_t ldi, T* out, int64_t ldo);

template <class T, int N, int TYPE>
void codelet(const T* in, int64_t ldi, T* out, int64_t ldo) {
    if constexpr (kByQuarters<N> && TYPE == 2) return Quarters<T, N>::dct2(in, ldi, out, ldo);
    if constexpr (kByQuarters<N> && TYPE == 3) return Quarters<T, N>::dct3(in, ldi, out, ldo);
    if constexpr (kByQuarters<N> && TYPE == 4) return halves_dct4<T, N>([&](int j) WARMOPS_INLINE_LAMBDA { return load(in + j * ldi); }, out, ldo);
    V<T> x[N];
#pragma GCC unroll 64
    for (int j = 0; j < N; ++j) x[j] = load(in + j * ldi);
    if constexpr (TYPE == 2) Codelet<N>::dct2(x);
    if constexpr (TYPE == 3) Codelet<N>::dct3(x);
    if constexpr (TYPE == 4) Codelet<N>::dct4(x);
#pragma GCC unroll 64
    for (int j = 0; j < N; ++j) store(out + j * ldo, x[j]);
}

// What multiplies the frequencies between II and III: a number for each, or a vector for each.
template <class T>
struct Numbers {
    const T* d;
    int64_t step;
    WARMOPS_INLINE V<T> operator()(int64_t k) const { return set1(d[k * step]); }
    Numbers even() const { return {d, 2 * step}; }
    Numbers odd() const { return {d + step, 2 * step}; }
};
template <class T>
struct Vectors {
    const T* d;
    int64_t step;
    WARMOPS_INLINE V<T> operator()(int64_t k) const { return load(d + k * step); }
    Vectors even() const { return {d, 2 * step}; }
    Vectors odd() const { return {d + step, 2 * step}; }
};

// out = III(d(k) * II(in)), plus in when IDENTITY; or, of TYPE 4, IV(d(k) * IV(in)).
template <class T, class D>
using Filter = void (*)(const T* in, int64_t ldi, T* out, int64_t ldo, D d);

template <class T, int N, int TYPE, class D, bool IDENTITY>
void filter_codelet(const T* in, int64_t ldi, T* out, int64_t ldo, D d) {
    if constexpr (kByQuarters<N> && TYPE == 2) return Quarters<T, N>::template filter<IDENTITY>(in, ldi, out, ldo, d);
    if constexpr (kByQuarters<N> && TYPE == 4) {
        alignas(kBytes) T y[N * kLanes<T>];
        codelet<T, N, 4>(in, ldi, y, kLanes<T>);
        settle();
        return halves_dct4<T, N>([&](int k) WARMOPS_INLINE_LAMBDA { return load(y + k * kLanes<T>) * d(k); }, out, ldo);
    }
    V<T> x[N];
#pragma GCC unroll 64
    for (int j = 0; j < N; ++j) x[j] = load(in + j * ldi);
    if constexpr (TYPE == 2) Codelet<N>::dct2(x);
    if constexpr (TYPE == 4) Codelet<N>::dct4(x);
#pragma GCC unroll 64
    for (int j = 0; j < N; ++j) x[j] = x[j] * d(j);
    if constexpr (TYPE == 2) Codelet<N>::dct3(x);
    if constexpr (TYPE == 4) Codelet<N>::dct4(x);
#pragma GCC unroll 64
    for (int j = 0; j < N; ++j) store(out + j * ldo, IDENTITY ? x[j] + load(in + j * ldi) : x[j]);
}

template <class T>
struct Codelets {
    Transform<T> dct2 = nullptr, dct3 = nullptr, dct4 = nullptr;
    Filter<T, Numbers<T>> filter = nullptr, filter_and_add = nullptr, filter4 = nullptr;
    Filter<T, Vectors<T>> filter_each = nullptr, filter4_each = nullptr;

    // Those that pay for the time they take to compile. Longer ones gain nothing: they work in memory as well, and their code
    // outgrows the caches of instructions.
    static Codelets of(int64_t n) {
        switch (n) {
            case 1: return sized<1>();
            case 2: return sized<2>();
            case 3: return sized<3>();
            case 4: return sized<4>();
            case 5: return sized<5>();
            case 6: return sized<6>();
            case 7: return sized<7>();
            case 8: return sized<8>();
            case 9: return sized<9>();
            case 10: return sized<10>();
            case 11: return sized<11>();
            case 12: return sized<12>();
            case 13: return sized<13>();
            case 14: return sized<14>();
            case 15: return sized<15>();
            case 16: return sized<16>();
            case 20: return sized<20>();
            case 24: return sized<24>();
            case 28: return sized<28>();
            case 32: return sized<32>();
        }
        return {};
    }

    template <int N>
    static Codelets sized() {
        return {codelet<T, N, 2>,
                codelet<T, N, 3>,
                codelet<T, N, 4>,
                filter_codelet<T, N, 2, Numbers<T>, false>,
                filter_codelet<T, N, 2, Numbers<T>, true>,
                filter_codelet<T, N, 4, Numbers<T>, false>,
                filter_codelet<T, N, 2, Vectors<T>, false>,
                filter_codelet<T, N, 4, Vectors<T>, false>};
    }
};

}  // namespace
