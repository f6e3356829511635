// Temporary; replaced by helper.
#pragma once
#include <cmath>
#include <cstdint>
namespace warmops {
struct Words { uint32_t w[4]; };
static inline Words philox4x32(Words c, uint32_t k0, uint32_t k1) {
    for (int i = 0; i < 10; ++i) {
        uint64_t p0 = uint64_t(c.w[0]) * 0xD2511F53u, p1 = uint64_t(c.w[2]) * 0xCD9E8D57u;
        c = Words{{uint32_t(p1 >> 32) ^ c.w[1] ^ k0, uint32_t(p1), uint32_t(p0 >> 32) ^ c.w[3] ^ k1, uint32_t(p0)}};
        k0 += 0x9E3779B9u; k1 += 0xBB67AE85u;
    }
    return c;
}
static inline void box_muller(const Words& x, double out[4]) {
    for (int i = 0; i < 4; i += 2) {
        double r = ::sqrt(-2.0 * ::log((x.w[i] + 0.5) * 0x1p-32));
        uint32_t q = (x.w[i+1] + 0x20000000u) >> 30;
        double g = (double(int32_t(x.w[i+1] << 2) >> 2) + 0.5) * (2 * M_PI * 0x1p-32), s = ::sin(g), c = ::cos(g);
        double cc = q & 1 ? s : c, ss = q & 1 ? c : s;
        out[i] = r * ((q == 1 || q == 2) ? -cc : cc);
        out[i+1] = r * (q >= 2 ? -ss : ss);
    }
}
}
