// Cosine transforms of N = 4 M points in four parts of M (IV: in two), the steps of ../dct_codelets.h in an order that registers bear.
//
// The first two steps are one: four points give one to each part, of which the first stays in registers and the others wait in
// memory. Left to itself g++ loads all N points, puts most away again and stores half as much again as is needed.
#pragma once
#include "simd.h"

namespace {

// What waits is read again where it is used, not kept.
WARMOPS_INLINE void settle() { __asm__ volatile("" ::: "memory"); }

// out = IV of read(0), .. , read(N - 1): two II of half the length, one after the other.
template <class T, int N, class Read>
WARMOPS_INLINE void halves_dct4(const Read& read, T* out, int64_t ldo) {
    constexpr int M = N / 2, L = kLanes<T>;
    alignas(kBytes) T a[M * L], b[M * L];
    V<T> x[M];
    unrolled<0, M>([&](auto j_) WARMOPS_LAMBDA {
        constexpr int j = decltype(j_)::value;
        constexpr double c = cos_pi(2 * j + 1, 4 * N), s = sin_pi(2 * j + 1, 4 * N), sign = j % 2 ? -1.0 : 1.0;
        const V<T> u = read(j), v = read(N - 1 - j);
        x[j] = scaled_add(v, s, scaled(u, c));
        store(b + j * L, scaled_add(v, -sign * c, scaled(u, sign * s)));
    });
    settle();
    Codelet<M>::dct2(x);
#pragma GCC unroll 64
    for (int k = 0; k < M; ++k) store(a + k * L, x[k]);
    settle();
#pragma GCC unroll 64
    for (int k = 0; k < M; ++k) x[k] = load(b + k * L);
    Codelet<M>::dct2(x);
    store(out, load(a));
    store(out + (N - 1) * ldo, x[0]);
#pragma GCC unroll 64
    for (int k = 1; k < M; ++k) {
        const V<T> u = load(a + k * L), v = x[M - k];
        store(out + 2 * k * ldo, u - v);
        store(out + (2 * k - 1) * ldo, u + v);
    }
}

template <class T, int N>
class Quarters {
    static_assert(N % 4 == 0, "four parts");
    static constexpr int M = N / 4, L = kLanes<T>;
    struct Part {
        alignas(kBytes) T value[M * L];
        WARMOPS_INLINE V<T> operator[](int k) const { return load(value + k * L); }
        WARMOPS_INLINE void set(int k, V<T> v) { store(value + k * L, v); }
        WARMOPS_INLINE void get(V<T>* x) const {
#pragma GCC unroll 64
            for (int k = 0; k < M; ++k) x[k] = (*this)[k];
        }
        WARMOPS_INLINE void put(const V<T>* x) {
#pragma GCC unroll 64
            for (int k = 0; k < M; ++k) set(k, x[k]);
            settle();
        }
    };
    // Frequencies 0, 4, ..; 2, 6, ..; and the two whose sums and differences are 1, 3, ..
    Part ee, eo, a, b;
    V<T> x[M];

  public:
    // out = II(in) or III(in); in may be out.
    static WARMOPS_INLINE void dct2(const T* in, int64_t ldi, T* out, int64_t ldo) {
        Quarters q;
        const auto write = [&](int k, V<T> v) WARMOPS_INLINE_LAMBDA { store(out + k * ldo, v); };
        q.fold(in, ldi);
        Codelet<M>::dct2(q.x);
#pragma GCC unroll 64
        for (int k = 0; k < M; ++k) write(4 * k, q.x[k]);
        q.eo.get(q.x);
        Codelet<M>::dct4(q.x);
#pragma GCC unroll 64
        for (int k = 0; k < M; ++k) write(4 * k + 2, q.x[k]);
        q.odd_from_parts();
        write(1, q.a[0]);
        write(N - 1, q.x[0]);
#pragma GCC unroll 64
        for (int k = 1; k < M; ++k) {
            const V<T> u = q.a[k], v = q.x[M - k];
            write(4 * k + 1, u - v);
            write(4 * k - 1, u + v);
        }
    }
    static WARMOPS_INLINE void dct3(const T* in, int64_t ldi, T* out, int64_t ldo) {
        Quarters q;
        const auto read = [&](int k) WARMOPS_INLINE_LAMBDA { return load(in + k * ldi); };
#pragma GCC unroll 64
        for (int k = 0; k < M; ++k) q.x[k] = read(4 * k);
        Codelet<M>::dct3(q.x);
        q.ee.put(q.x);
#pragma GCC unroll 64
        for (int k = 0; k < M; ++k) q.x[k] = read(4 * k + 2);
        Codelet<M>::dct4(q.x);
        q.eo.put(q.x);
        q.x[0] = read(1);
        q.b.set(0, read(N - 1));
#pragma GCC unroll 64
        for (int k = 1; k < M; ++k) {
            const V<T> u = read(4 * k + 1), v = read(4 * k - 1);
            q.x[k] = v + u;
            q.b.set(M - k, v - u);
        }
        settle();
        q.parts_from_odd();
        q.template unfold<false>(in, ldi, out, ldo);
    }
    // out = III(d(k) * II(in)), plus in when IDENTITY; in may be out.
    template <bool IDENTITY, class D>
    static WARMOPS_INLINE void filter(const T* in, int64_t ldi, T* out, int64_t ldo, D d) {
        Quarters q;
        q.fold(in, ldi);
        Codelet<M>::dct2(q.x);
#pragma GCC unroll 64
        for (int k = 0; k < M; ++k) q.x[k] = q.x[k] * d(4 * k);
        Codelet<M>::dct3(q.x);
        q.ee.put(q.x);
        q.eo.get(q.x);
        Codelet<M>::dct4(q.x);
#pragma GCC unroll 64
        for (int k = 0; k < M; ++k) q.x[k] = q.x[k] * d(4 * k + 2);
        Codelet<M>::dct4(q.x);
        q.eo.put(q.x);
        q.odd_from_parts();
        q.b.set(0, q.x[0] * d(N - 1));
        q.x[0] = q.a[0] * d(1);
#pragma GCC unroll 64
        for (int k = 1; k < M; ++k) {
            const V<T> p = q.a[k], r = q.x[M - k], u = (p - r) * d(4 * k + 1), v = (p + r) * d(4 * k - 1);
            q.a.set(k, v + u);
            q.b.set(M - k, v - u);
        }
        settle();
#pragma GCC unroll 64
        for (int k = 1; k < M; ++k) q.x[k] = q.a[k];
        q.parts_from_odd();
        q.template unfold<IDENTITY>(in, ldi, out, ldo);
    }

  private:
    // cos and sin of pi (2j + 1) / (2 N), and their signs in the second of two parts.
    template <int J>
    struct Rotation {
        static constexpr double c = cos_pi(2 * J + 1, 2 * N), s = sin_pi(2 * J + 1, 2 * N), sign = J % 2 ? -1.0 : 1.0;
    };

    WARMOPS_INLINE void fold(const T* in, int64_t ldi) {
        unrolled<0, M>([&](auto j_) WARMOPS_LAMBDA {
            constexpr int j = decltype(j_)::value;
            using R = Rotation<j>;
            const V<T> s0 = load(in + j * ldi), s1 = load(in + (2 * M - 1 - j) * ldi);
            const V<T> s2 = load(in + (2 * M + j) * ldi), s3 = load(in + (4 * M - 1 - j) * ldi);
            const V<T> e0 = s0 + s3, e1 = s1 + s2, o0 = s0 - s3, o1 = s1 - s2;
            x[j] = e0 + e1;
            eo.set(j, e0 - e1);
            a.set(j, scaled_add(o1, R::s, scaled(o0, R::c)));
            b.set(j, scaled_add(o1, -R::sign * R::c, scaled(o0, R::sign * R::s)));
        });
        settle();
    }
    // II of both odd parts: a, and b in registers.
    WARMOPS_INLINE void odd_from_parts() {
        a.get(x);
        Codelet<M>::dct2(x);
        a.put(x);
        b.get(x);
        Codelet<M>::dct2(x);
    }
    // III of a, which is in registers, and of b, which stays there.
    WARMOPS_INLINE void parts_from_odd() {
        Codelet<M>::dct3(x);
        a.put(x);
        b.get(x);
        Codelet<M>::dct3(x);
    }
    template <bool ADDED>
    WARMOPS_INLINE void unfold(const T* in, int64_t ldi, T* out, int64_t ldo) const {
        unrolled<0, M>([&](auto j_) WARMOPS_LAMBDA {
            constexpr int j = decltype(j_)::value;
            using R = Rotation<j>;
            const V<T> u = a[j], v = x[j], p = ee[j], r = eo[j], e0 = p + r, e1 = p - r;
            const V<T> o0 = scaled_add(v, R::sign * R::s, scaled(u, R::c)), o1 = scaled_add(v, -R::sign * R::c, scaled(u, R::s));
            V<T> s0 = e0 + o0, s1 = e1 + o1, s2 = e1 - o1, s3 = e0 - o0;
            if (ADDED) {
                s0 = s0 + load(in + j * ldi), s1 = s1 + load(in + (2 * M - 1 - j) * ldi);
                s2 = s2 + load(in + (2 * M + j) * ldi), s3 = s3 + load(in + (4 * M - 1 - j) * ldi);
            }
            store(out + j * ldo, s0);
            store(out + (2 * M - 1 - j) * ldo, s1);
            store(out + (2 * M + j) * ldo, s2);
            store(out + (4 * M - 1 - j) * ldo, s3);
        });
    }
};

}  // namespace
