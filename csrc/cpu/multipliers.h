// The blur in the cosine domain: one factor per mode.
#pragma once
#include <math.h>

#include "buffer.h"

namespace {

// The blur of n points as III(d * II(x)) with the plain kernels of strip_dct.h, plus x where identity: for weak blur
// D = B - I is small and has all its digits; for strong blur x + D x would cancel.
template <class T>
struct Multipliers {
    int64_t n;
    bool identity = false;
    Buffer<T> d;

    explicit Multipliers(int64_t points) : n(points), d(points) {}

    void build(double sigma) {
        const double x = M_PI / double(n) * sigma, c = 0.5 * x * x;
        identity = c * double(n) * double(n) < 2.0;  // up to sigma = 0.64
        const double delta = identity ? 1.0 : 0.0;
        d.data[0] = T((1.0 - delta) / double(n));
        if (sizeof(T) == 8) {
            for (int64_t k = 1; k < n; ++k) {
                const double z = -c * double(k) * double(k);
                d.data[k] = T((identity ? expm1(z) : exp(z)) * 2.0 / double(n));
            }
            return;
        }
        // exp(-c k^2) by its ratios, which double carries to 1e-12 for any n here; as differences from 1 for D.
        const double step = expm1(-2.0 * c), weight = 2.0 / double(n);
        double ratio = expm1(-c), value = 0.0;
        for (int64_t k = 1; k < n; ++k) {
            value = value + ratio + value * ratio;
            ratio = ratio + step + ratio * step;
            d.data[k] = T((value + (1.0 - delta)) * weight);
        }
    }
};

}  // namespace
