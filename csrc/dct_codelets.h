// Cosine transforms of a length known at compile time, straight-line and in registers, for g++ and nvcc alike.
//
// Plain kernels, no factor in front:  II  y_k = sum_j x_j cos(pi k (2j+1) / (2N)),  III its transpose,
// IV  y_k = sum_j x_j cos(pi (2k+1)(2j+1) / (4N)).  An even length halves by sums, differences and rotations only, so
// errors grow with log N [Plonka & Tasche, Fast and numerically stable algorithms for discrete cosine transforms, 2005]:
//     II(N)  = II(N/2) of x_j + x_{N-1-j} (even k), IV(N/2) of x_j - x_{N-1-j} (odd k)
//     IV(N)  = two II(N/2) of the rotated pairs (x_j, x_{N-1-j}), then sums and differences
// An odd length is multiplied out. V is float, double or a vector of them with +, - and the functions
// scaled(V x, double c) = c x and scaled_add(V x, double c, V y) = c x + y, declared before this header is included.
#pragma once
#include <stdint.h>

#if defined(__CUDACC__)
#define WARMOPS_CODELET static __host__ __device__ __forceinline__
#define WARMOPS_CONSTANT __host__ __device__ constexpr
#define WARMOPS_LAMBDA
#elif defined(WARMOPS_SLOW_CODELETS)  // for tests: a call each, compiled in a moment
#define WARMOPS_CODELET static inline
#define WARMOPS_CONSTANT constexpr
#define WARMOPS_LAMBDA
#else
#define WARMOPS_CODELET static inline __attribute__((always_inline))
#define WARMOPS_CONSTANT constexpr
#define WARMOPS_LAMBDA __attribute__((always_inline))
#endif

namespace warmops {

constexpr double kPi = 3.14159265358979323846;

// sin and cos on [0, pi/4]: Taylor series summed from the small end, exact to an ulp or so.
WARMOPS_CONSTANT double small_sin(double x) {
    double y = 0.0;
    for (int i = 23; i >= 3; i -= 2) y = (1.0 + y) * (-x * x / double(i * (i - 1)));
    return x + x * y;
}
WARMOPS_CONSTANT double small_cos(double x) {
    double y = 0.0;
    for (int i = 22; i >= 2; i -= 2) y = (1.0 + y) * (-x * x / double(i * (i - 1)));
    return 1.0 + y;
}
// cos(pi a / b), the angle reduced in integers.
WARMOPS_CONSTANT double cos_pi(int64_t a, int64_t b) {
    a %= 2 * b;
    if (a < 0) a += 2 * b;
    if (a > b) a = 2 * b - a;
    const bool upper = 2 * a > b;
    if (upper) a = b - a;
    const double c = 4 * a > b ? small_sin(kPi * double(b - 2 * a) / double(2 * b)) : small_cos(kPi * double(a) / double(b));
    return upper ? -c : c;
}
WARMOPS_CONSTANT double sin_pi(int64_t a, int64_t b) { return cos_pi(b - 2 * a, 2 * b); }

template <int I>
struct Index {
    static constexpr int value = I;
};
template <int From, int To, class F>
WARMOPS_CODELET void unrolled(const F& f) {
    if constexpr (From < To) {
        f(Index<From>{});
        unrolled<From + 1, To>(f);
    }
}

// In place, x[0 .. N).
template <int N>
struct Codelet {
    template <class V>
    WARMOPS_CODELET void dct2(V* x) {
        if constexpr (N == 1) {
        } else if constexpr (N % 2 == 0) {
            V e[N / 2], o[N / 2];
            unrolled<0, N / 2>([&](auto j_) WARMOPS_LAMBDA {
                constexpr int j = decltype(j_)::value;
                e[j] = x[j] + x[N - 1 - j];
                o[j] = x[j] - x[N - 1 - j];
            });
            Codelet<N / 2>::dct2(e);
            Codelet<N / 2>::dct4(o);
            unrolled<0, N / 2>([&](auto k_) WARMOPS_LAMBDA {
                constexpr int k = decltype(k_)::value;
                x[2 * k] = e[k];
                x[2 * k + 1] = o[k];
            });
        } else {
            V e[N / 2 + 1], o[N / 2];
            unrolled<0, N / 2>([&](auto j_) WARMOPS_LAMBDA {
                constexpr int j = decltype(j_)::value;
                e[j] = x[j] + x[N - 1 - j];
                o[j] = x[j] - x[N - 1 - j];
            });
            e[N / 2] = x[N / 2];
            unrolled<0, N>([&](auto k_) WARMOPS_LAMBDA {
                constexpr int k = decltype(k_)::value;
                const V* f = k % 2 ? o : e;
                constexpr double first = cos_pi(k, 2 * N);
                V y = k == 0 ? f[0] : scaled(f[0], first);
                unrolled<1, N / 2 + 1 - k % 2>([&](auto j_) WARMOPS_LAMBDA {
                    constexpr int j = decltype(j_)::value;
                    constexpr double c = cos_pi(k * (2 * j + 1), 2 * N);
                    y = k == 0 ? y + f[j] : scaled_add(f[j], c, y);
                });
                x[k] = y;
            });
        }
    }

    template <class V>
    WARMOPS_CODELET void dct3(V* x) {
        if constexpr (N == 1) {
        } else if constexpr (N % 2 == 0) {
            V e[N / 2], o[N / 2];
            unrolled<0, N / 2>([&](auto k_) WARMOPS_LAMBDA {
                constexpr int k = decltype(k_)::value;
                e[k] = x[2 * k];
                o[k] = x[2 * k + 1];
            });
            Codelet<N / 2>::dct3(e);
            Codelet<N / 2>::dct4(o);
            unrolled<0, N / 2>([&](auto j_) WARMOPS_LAMBDA {
                constexpr int j = decltype(j_)::value;
                x[j] = e[j] + o[j];
                x[N - 1 - j] = e[j] - o[j];
            });
        } else {
            V y[N];
            unrolled<0, N / 2 + 1>([&](auto j_) WARMOPS_LAMBDA {
                constexpr int j = decltype(j_)::value;
                constexpr double first = cos_pi(2 * j + 1, 2 * N);
                V e = x[0], o = scaled(x[1], first);
                unrolled<1, N / 2 + 1>([&](auto k_) WARMOPS_LAMBDA {
                    constexpr int k = decltype(k_)::value;
                    constexpr double even = cos_pi(2 * k * (2 * j + 1), 2 * N), odd = cos_pi((2 * k + 1) * (2 * j + 1), 2 * N);
                    e = scaled_add(x[2 * k], even, e);
                    if constexpr (2 * k + 1 < N) o = scaled_add(x[2 * k + 1], odd, o);
                });
                y[j] = e + o;
                y[N - 1 - j] = e - o;
                if constexpr (j == N / 2) y[j] = e;  // the middle, where the odd part is zero
            });
            unrolled<0, N>([&](auto j_) WARMOPS_LAMBDA { x[decltype(j_)::value] = y[decltype(j_)::value]; });
        }
    }

    template <class V>
    WARMOPS_CODELET void dct4(V* x) {
        if constexpr (N % 2 == 0) {
            V a[N / 2], b[N / 2];
            unrolled<0, N / 2>([&](auto j_) WARMOPS_LAMBDA {
                constexpr int j = decltype(j_)::value;
                constexpr double c = cos_pi(2 * j + 1, 4 * N), s = sin_pi(2 * j + 1, 4 * N), sign = j % 2 ? -1.0 : 1.0;
                a[j] = scaled_add(x[N - 1 - j], s, scaled(x[j], c));
                b[j] = scaled_add(x[N - 1 - j], -sign * c, scaled(x[j], sign * s));
            });
            Codelet<N / 2>::dct2(a);
            Codelet<N / 2>::dct2(b);
            x[0] = a[0];
            unrolled<1, N / 2>([&](auto k_) WARMOPS_LAMBDA {
                constexpr int k = decltype(k_)::value;
                x[2 * k] = a[k] - b[N / 2 - k];
                x[2 * k - 1] = a[k] + b[N / 2 - k];
            });
            x[N - 1] = b[0];
        } else {
            V y[N];
            unrolled<0, N>([&](auto k_) WARMOPS_LAMBDA {
                constexpr int k = decltype(k_)::value;
                constexpr double first = cos_pi(2 * k + 1, 4 * N);
                V sum = scaled(x[0], first);
                unrolled<1, N>([&](auto j_) WARMOPS_LAMBDA {
                    constexpr int j = decltype(j_)::value;
                    constexpr double c = cos_pi((2 * k + 1) * (2 * j + 1), 4 * N);
                    sum = scaled_add(x[j], c, sum);
                });
                y[k] = sum;
            });
            unrolled<0, N>([&](auto j_) WARMOPS_LAMBDA { x[decltype(j_)::value] = y[decltype(j_)::value]; });
        }
    }
};

}  // namespace warmops
