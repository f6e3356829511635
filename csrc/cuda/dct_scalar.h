// What the transforms need of numbers: arithmetic on one, and 16-bit formats, on the device and on the host.
#pragma once
#include <math.h>
#include <stdint.h>
#include <string.h>

#if defined(__CUDACC__)
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#endif

#include "../philox.h"  // WARMOPS_HD

namespace warmops {

WARMOPS_HD float scaled(float x, double c) { return x * float(c); }
WARMOPS_HD double scaled(double x, double c) { return x * c; }
WARMOPS_HD float scaled_add(float x, double c, float y) { return fmaf(x, float(c), y); }
WARMOPS_HD double scaled_add(double x, double c, double y) { return fma(x, c, y); }

}  // namespace warmops

#include "../dct_codelets.h"  // looks the functions above up

// WARMOPS_HD for members of a class.
#if defined(__CUDACC__)
#define WARMOPS_METHOD __host__ __device__ __forceinline__
#else
#define WARMOPS_METHOD inline
#endif

namespace warmops {
namespace cuda {

struct Half {
    uint16_t bits;
};
struct Bfloat16 {
    uint16_t bits;
};
template <class S>
struct alignas(16) Chunk {
    S e[16 / sizeof(S)];
};

WARMOPS_HD float from_bits(uint32_t bits) {
#if defined(__CUDA_ARCH__)
    return __uint_as_float(bits);
#else
    float x;
    memcpy(&x, &bits, 4);
    return x;
#endif
}
WARMOPS_HD uint32_t to_bits(float x) {
#if defined(__CUDA_ARCH__)
    return __float_as_uint(x);
#else
    uint32_t bits;
    memcpy(&bits, &x, 4);
    return bits;
#endif
}

WARMOPS_HD float widened(float x) { return x; }
WARMOPS_HD double widened(double x) { return x; }
WARMOPS_HD float widened(Bfloat16 x) { return from_bits(uint32_t(x.bits) << 16); }
WARMOPS_HD float widened(Half x) {
#if defined(__CUDA_ARCH__)
    return __half2float(__ushort_as_half(x.bits));
#else
    const uint32_t sign = uint32_t(x.bits & 0x8000) << 16, rest = x.bits & 0x7FFF;
    if (rest >= 0x7C00) return from_bits(sign | 0x7F800000 | (rest & 0x3FF) << 13);
    if (rest >= 0x0400) return from_bits(sign | ((rest << 13) + (112u << 23)));
    const float tiny = float(rest) * from_bits(103u << 23);  // 2^-24
    return sign ? -tiny : tiny;
#endif
}

// To the nearest, ties to even.
WARMOPS_HD void round_to(float x, float& y) { y = x; }
WARMOPS_HD void round_to(double x, double& y) { y = x; }
WARMOPS_HD void round_to(float x, Bfloat16& y) {
#if defined(__CUDA_ARCH__)
    y.bits = __bfloat16_as_ushort(__float2bfloat16_rn(x));
#else
    const uint32_t bits = to_bits(x);
    y.bits = uint16_t(x != x ? 0x7FFF : (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16);
#endif
}
WARMOPS_HD void round_to(float x, Half& y) {
#if defined(__CUDA_ARCH__)
    y.bits = __half_as_ushort(__float2half_rn(x));
#else
    const uint32_t bits = to_bits(x), sign = bits >> 16 & 0x8000, rest = bits & 0x7FFFFFFF;
    uint32_t half;
    if (rest > 0x7F800000) half = 0x7FFF;
    else if (rest >= 0x477FF000) half = 0x7C00;  // 65520 and above
    else if (rest >= 0x38800000) half = (rest - (112u << 23) + 0xFFF + (rest >> 13 & 1)) >> 13;
    else half = to_bits(from_bits(rest) + 0.5f) - to_bits(0.5f);  // the addition rounds to multiples of 2^-24
    y.bits = uint16_t(sign | half);
#endif
}

// Two neighbours at once: one instruction on the device.
template <class T, class S>
WARMOPS_HD void round_pair(T x, T y, S* to) {
    round_to(x, to[0]);
    round_to(y, to[1]);
}
#if defined(__CUDA_ARCH__)
WARMOPS_HD void round_pair(float x, float y, Half* to) {
    const __half2 pair = __floats2half2_rn(x, y);
    to[0].bits = __half_as_ushort(__low2half(pair));
    to[1].bits = __half_as_ushort(__high2half(pair));
}
WARMOPS_HD void round_pair(float x, float y, Bfloat16* to) {
    const __nv_bfloat162 pair = __floats2bfloat162_rn(x, y);
    to[0].bits = __bfloat16_as_ushort(__low2bfloat16(pair));
    to[1].bits = __bfloat16_as_ushort(__high2bfloat16(pair));
}
#endif

// *p, or zero without touching it. On the device one load under a predicate: left to itself, the compiler makes code of
// quadratic size of a column's loads.
template <class S>
WARMOPS_HD S load_if(bool inside, const S* p) {
#if defined(__CUDA_ARCH__)
    S x;
    if constexpr (sizeof(S) == 2) {
        asm volatile("{ .reg .pred p; setp.ne.b32 p, %2, 0; mov.b16 %0, 0; @p ld.global.b16 %0, [%1]; }" : "=h"(x.bits) : "l"(p), "r"(int(inside)));
    } else if constexpr (sizeof(S) == 4) {
        asm volatile("{ .reg .pred p; setp.ne.b32 p, %2, 0; mov.b32 %0, 0; @p ld.global.b32 %0, [%1]; }" : "=f"(x) : "l"(p), "r"(int(inside)));
    } else {
        asm volatile("{ .reg .pred p; setp.ne.b32 p, %2, 0; mov.b64 %0, 0; @p ld.global.b64 %0, [%1]; }" : "=d"(x) : "l"(p), "r"(int(inside)));
    }
    return x;
#else
    return inside ? *p : S();
#endif
}

// f(S()) with S the stored type; T is the type of the arithmetic.
template <class T, class F>
WARMOPS_HD void with_stored(int dtype, const F& f) {
    if constexpr (sizeof(T) == 8) {
        f(double());
    } else {
        if (dtype == 1) f(float());
        else if (dtype == 2) f(Half());
        else f(Bfloat16());
    }
}

}  // namespace cuda
}  // namespace warmops
