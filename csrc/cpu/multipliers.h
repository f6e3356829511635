// The blur in the cosine domain: one factor per mode.
#pragma once
#include <math.h>

#include "buffer.h"

namespace {

// exp(-c) - 1, exp(-4 c) - 1, exp(-9 c) - 1, .. by their ratios, which double carries to 1e-12 for any n here; as differences
// from 1 for D.
template <class V>
struct Decay {
    V ratio, step;  // expm1(-c), expm1(-2 c)
    V value{};

    WARMOPS_INLINE V next() {
        value = value + ratio + value * ratio;
        ratio = ratio + step + ratio * step;
        return value;
    }
};

// The blur of n points as III(d * II(x)) with the plain kernels of strip_dct.h, plus x where identity: for weak blur
// D = B - I is small and has all its digits; for strong blur x + D x would cancel.
template <class T>
struct Multipliers {
    int64_t n;
    bool identity = false;
    Buffer<T> d;

    explicit Multipliers(int64_t points) : n(points), d(points) {}

    static double exponent(int64_t n, double sigma) {
        const double x = M_PI / double(n) * sigma;
        return 0.5 * x * x;
    }
    static bool is_weak(int64_t n, double c) { return c * double(n) * double(n) < 2.0; }  // up to sigma = 0.64

    void build(double sigma) {
        const double c = exponent(n, sigma);
        identity = is_weak(n, c);
        const double rest = identity ? 0.0 : 1.0, weight = 2.0 / double(n);
        d.data[0] = T(rest / double(n));
        if (sizeof(T) == 8) {
            for (int64_t k = 1; k < n; ++k) {
                const double z = -c * double(k) * double(k);
                d.data[k] = T((identity ? expm1(z) : exp(z)) * 2.0 / double(n));
            }
            return;
        }
        Decay<double> decay{expm1(-c), expm1(-2.0 * c)};
        for (int64_t k = 1; k < n; ++k) d.data[k] = T((decay.next() + rest) * weight);
    }
};

// The same numbers for kLanes images, lane for lane.
template <class T>
struct LaneMultipliers {
    static constexpr int64_t L = kLanes<T>, LD = kLanes<double>;
    Multipliers<T> one;
    Buffer<T> d;         // [n, L]
    Buffer<T> identity;  // all bits of the lanes to whose images x is added

    explicit LaneMultipliers(int64_t points) : one(points), d(points * L), identity(L) {}

    void build(const double* sigma) {
        const int64_t n = one.n;
        if (sizeof(T) == 8) {
            for (int64_t l = 0; l < L; ++l) {
                one.build(sigma[l]);
                for (int64_t k = 0; k < n; ++k) d.data[k * L + l] = one.d.data[k];
                set_identity(l, one.identity);
            }
            return;
        }
        for (int64_t l = 0; l < L; l += LD) {
            Decay<VD> decay;
            VD rest;
            for (int i = 0; i < LD; ++i) {
                const double c = Multipliers<T>::exponent(n, sigma[l + i]);
                const bool weak = Multipliers<T>::is_weak(n, c);
                set_identity(l + i, weak);
                rest[i] = weak ? 0.0 : 1.0;
                decay.ratio[i] = expm1(-c);
                decay.step[i] = expm1(-2.0 * c);
            }
            put(d.data + l, rest / set1(double(n)));
            for (int64_t k = 1; k < n; ++k) put(d.data + k * L + l, (decay.next() + rest) * set1(2.0 / double(n)));
        }
    }

  private:
    void set_identity(int64_t lane, bool on) { memset(identity.data + lane, on ? 0xFF : 0, sizeof(T)); }
    static WARMOPS_INLINE void put(T* p, VD v) {
        for (int i = 0; i < LD; ++i) p[i] = T(v[i]);
    }
};

}  // namespace
