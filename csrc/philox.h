// Philox4x32-10 [Salmon et al., SC 2011] and Box-Muller, one counter at a time. For g++ and nvcc alike: the scalar and
// float64 paths of the CPU, the CUDA kernels, and what the vectorised form in cpu/noise.h is compared with.
#pragma once
#include <math.h>
#include <stdint.h>
#include <string.h>

// Always inlined: the CPU files are compiled once per instruction set, and the linker must not keep one copy for all.
#if defined(__CUDACC__)
#define WARMOPS_HD static __host__ __device__ __forceinline__
#elif defined(__GNUC__)
#define WARMOPS_HD static inline __attribute__((always_inline))
#else
#define WARMOPS_HD static inline
#endif

namespace warmops {

struct Words {
    uint32_t w[4];
};

WARMOPS_HD Words philox4x32(Words counter, uint32_t k0, uint32_t k1) {
    uint32_t c0 = counter.w[0], c1 = counter.w[1], c2 = counter.w[2], c3 = counter.w[3];
    for (int round = 0; round < 10; ++round) {
        const uint64_t p0 = uint64_t(c0) * 0xD2511F53u, p1 = uint64_t(c2) * 0xCD9E8D57u;
        c0 = uint32_t(p1 >> 32) ^ c1 ^ k0;
        c1 = uint32_t(p1);
        c2 = uint32_t(p0 >> 32) ^ c3 ^ k1;
        c3 = uint32_t(p0);
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    return Words{{c0, c1, c2, c3}};
}

// Words number `index` (elements 4 * index .. 4 * index + 3) of the sample with this seed.
WARMOPS_HD Words sample_words(uint64_t seed, uint64_t index) {
    return philox4x32(Words{{uint32_t(index), uint32_t(index >> 32), 0, 0}}, uint32_t(seed), uint32_t(seed >> 32));
}

// The angle t = 2 pi (w + 0.5) / 2^32 is (pi/2) quarter + g with |g| <= pi/4, taken apart in integers.
WARMOPS_HD uint32_t quarter_of(uint32_t w) { return (w + 0x20000000u) >> 30; }
// 2^32 g / pi = 2 (w - quarter 2^30) + 1, exact in 32 bits.
WARMOPS_HD int32_t odd_rest_of(uint32_t w) { return int32_t(2 * (w - (quarter_of(w) << 30)) + 1); }

// r cos t and r sin t from cos g and sin g.
template <class T>
WARMOPS_HD void turn(uint32_t quarter, T r, T cos_g, T sin_g, T out[2]) {
    const T c = quarter & 1 ? sin_g : cos_g, s = quarter & 1 ? cos_g : sin_g;
    out[0] = r * (quarter == 1 || quarter == 2 ? -c : c);
    out[1] = r * (quarter >= 2 ? -s : s);
}

// sqrt(-2 ln u), u = (w + 0.5) / 2^32, without a library logarithm.
WARMOPS_HD float radius(uint32_t w) {
    float f, e;  // u = 2^e (1 + f), 1 + f in [sqrt(1/2), sqrt(2)]
    if (w >= 0x80000000u) {
        const float p = float(2 * ~w + 1) * 0x1p-33f;  // 1 - u: near u = 1 only the complement has the digits
        const bool far = p > 0.29289323f;
        f = far ? 1.0f - 2.0f * p : -p;
        e = far ? -1.0f : 0.0f;
    } else {
        const float p = float(2 * w + 1) * 0x1p-33f;
        uint32_t bits;
        memcpy(&bits, &p, 4);
        const uint32_t sqrt_half = 0x3F3504F3u;
        const uint32_t shifted = bits - sqrt_half;  // modulo 2^32: p may lie below sqrt(1/2)
        e = float(int32_t(shifted) >> 23);
        const uint32_t mantissa = (shifted & 0x007FFFFFu) + sqrt_half;
        memcpy(&f, &mantissa, 4);
        f -= 1.0f;
    }
    // ln(1 + f) = f - f^2 / 2 + f^3 q(f); q is minimax on the interval of f (relative error of the logarithm 8e-10).
    float q = 0.0674665123f;
    q = q * f - 0.116756707f;
    q = q * f + 0.11888168f;
    q = q * f - 0.124055862f;
    q = q * f + 0.142195508f;
    q = q * f - 0.166679963f;
    q = q * f + 0.200021192f;
    q = q * f - 0.250000089f;
    q = q * f + 0.333333135f;
    const float f2 = f * f;
    const float tail = f2 * f * q - e * 2.12194442e-4f - 0.5f * f2;  // ln 2 = 0.693359375 - 2.12194442e-4
    return sqrtf(-2.0f * (e * 0.693359375f + (f + tail)));
}

WARMOPS_HD double radius_f64(uint32_t w) { return sqrt(-2.0 * log((w + 0.5) * 0x1p-32)); }

// g = (pi / 2^32) odd_rest, correct to about half an ulp: the upper part times 3.140625 is exact.
WARMOPS_HD float small_angle(int32_t odd_rest) {
    const int32_t upper = (odd_rest + 0x8000) & ~0xFFFF;
    const float hi = float(upper) * 0x1p-32f, lo = float(odd_rest - upper) * 0x1p-32f;
    return hi * 3.140625f + (lo * 3.14159274f + hi * 9.67653585e-4f);
}

// Four standard normals, within 4 ulp of the exact values of the same four words.
WARMOPS_HD void box_muller(const Words& x, float out[4]) {
    for (int i = 0; i < 4; i += 2) {
        const float g = small_angle(odd_rest_of(x.w[i + 1]));
        const float g2 = g * g;
        // minimax on [-pi/4, pi/4]: relative errors 4e-9 and 1e-10
        const float s = g + g * g2 * ((-1.95152767e-4f * g2 + 8.3321603e-3f) * g2 - 0.166666552f);
        const float c = 1.0f - (0.5f * g2 - g2 * g2 * ((2.44331495e-5f * g2 - 1.38873165e-3f) * g2 + 4.16666456e-2f));
        turn(quarter_of(x.w[i + 1]), radius(x.w[i]), c, s, out + i);
    }
}

WARMOPS_HD void box_muller(const Words& x, double out[4]) {
    for (int i = 0; i < 4; i += 2) {
        const double g = double(odd_rest_of(x.w[i + 1])) * (3.141592653589793 * 0x1p-32);
        turn(quarter_of(x.w[i + 1]), radius_f64(x.w[i]), cos(g), sin(g), out + i);
    }
}

}  // namespace warmops
