// Philox4x32-10 and Box-Muller on vectors of counters. The same integers as csrc/philox.h, element for element.
#pragma once
#include "../philox.h"
#include "simd.h"

namespace {

// Multiples of this many elements are generated at a time: one vector of counters, four elements each.
constexpr int kNoiseBlock = 4 * kLanes<float>;

struct PhiloxKeys {
    VQ k0[10], k1[10];

    explicit PhiloxKeys(uint64_t seed) {
        uint32_t a = uint32_t(seed), b = uint32_t(seed >> 32);
        for (int i = 0; i < 10; ++i) {
            k0[i] = fill<VQ>(uint64_t(a));
            k1[i] = fill<VQ>(uint64_t(b));
            a += 0x9E3779B9u;
            b += 0xBB67AE85u;
        }
    }
};

// S independent vectors of counters, in 64-bit lanes: enough of them to hide the latency of a multiplication. Upper
// halves of the words carry rubbish: a multiplication reads the lower halves only.
template <int S>
WARMOPS_INLINE void philox_rounds(const VQ counter[S], const PhiloxKeys& keys, VQ w[S][4]) {
    const VQ m0 = fill<VQ>(uint64_t(0xD2511F53u)), m1 = fill<VQ>(uint64_t(0xCD9E8D57u));
    VQ c0[S], c1[S], c2[S], c3[S];
#pragma GCC unroll 4
    for (int s = 0; s < S; ++s) {  // the first round, with the third and fourth words zero
        const VQ p0 = mul_even(counter[s], m0);
        c0[s] = (counter[s] >> 32) ^ keys.k0[0];
        c1[s] = VQ{};
        c2[s] = (p0 >> 32) ^ keys.k1[0];
        c3[s] = p0;
    }
#pragma GCC unroll 9
    for (int i = 1; i < 10; ++i) {
#pragma GCC unroll 4
        for (int s = 0; s < S; ++s) {
            const VQ p0 = mul_even(c0[s], m0), p1 = mul_even(c2[s], m1);
            c0[s] = xor3(p1 >> 32, c1[s], keys.k0[i]);
            c1[s] = p1;
            c2[s] = xor3(p0 >> 32, c3[s], keys.k1[i]);
            c3[s] = p0;
        }
    }
#pragma GCC unroll 4
    for (int s = 0; s < S; ++s) {
        w[s][0] = c0[s];
        w[s][1] = c1[s];
        w[s][2] = c2[s];
        w[s][3] = c3[s];
    }
}

// The lower halves of both, in turns.
#if defined(__AVX512F__)
WARMOPS_INLINE VU in_turns(VQ a, VQ b) { return (VU)_mm512_mask_shuffle_epi32((__m512i)a, 0xAAAA, (__m512i)b, _MM_PERM_CCAA); }
#else
WARMOPS_INLINE VU in_turns(VQ a, VQ b) { return (VU)((a & 0xFFFFFFFFull) | (b << 32)); }
#endif

// sqrt(-2 ln u), u = (w + 0.5) / 2^32. Above 1/2 the complement is used, so that ln u near u = 1 keeps its digits.
#if defined(__AVX512F__)
// u = 2^e m, m in [1/2, 1), and ln m = ln(1 + f) - ln c, 1 + f = c m, with a c for each sixteenth: |f| <= 1/32, and c = 1
// next to m = 1.
WARMOPS_INLINE VF radius(VU w) {
    const __m512 cs = _mm512_setr_ps(0x1.f07c2p+0f, 0x1.d41d42p+0f, 0x1.bacf92p+0f, 0x1.a41a42p+0f, 0x1.8f9c18p+0f, 0x1.7d05f4p+0f,
                                     0x1.6c16c2p+0f, 0x1.5c9882p+0f, 0x1.4e5e0ap+0f, 0x1.414142p+0f, 0x1.3521dp+0f, 0x1.29e412p+0f,
                                     0x1.1f7048p+0f, 0x1.15b1e6p+0f, 0x1.0c9714p+0f, 1.0f);
    const __m512 two_ln_cs = _mm512_setr_ps(0x1.5322e4p+0f, 0x1.35028cp+0f, 0x1.188ee4p+0f, 0x1.fb358cp-1f, 0x1.c7ff9ap-1f, 0x1.973a34p-1f,
                                            0x1.68ac86p-1f, 0x1.3c2526p-1f, 0x1.1178e6p-1f, 0x1.d10384p-2f, 0x1.823c18p-2f, 0x1.365fc6p-2f,
                                            0x1.da7278p-3f, 0x1.4d3116p-3f, 0x1.894a84p-4f, 0.0f);
    const __m512 minus_one = _mm512_set1_ps(-1.0f);
    const __mmask16 upper = _mm512_movepi32_mask((__m512i)w);
    const __m512i folded = _mm512_mask_xor_epi32((__m512i)w, upper, (__m512i)w, _mm512_set1_epi32(-1));
    const __m512 p2 = (__m512)fma((VF)_mm512_cvtepi32_ps(folded), set1(0x1p-31f), set1(0x1p-32f));  // 2 u below, 2 (1 - u) above
    const VF e = (VF)_mm512_maskz_getexp_ps(__mmask16(~upper), p2);
    // Four bits of the mantissa choose c. Above they come from 1 - p2 / 2, kept in [1/2, 1).
    const __m512 chooses = _mm512_mask_fmadd_ps(p2, upper, _mm512_set1_ps(-0.5f + 0x1p-24f), _mm512_set1_ps(1.0f - 0x1p-24f));
    const __m512i index = _mm512_srli_epi32((__m512i)chooses, 19);
    const __m512 c = _mm512_permutexvar_ps(index, cs), two_ln_c = _mm512_permutexvar_ps(index, two_ln_cs);
    // f = c m - 1 below, (c - 1) - c p2 / 2 above
    const __m512 m = _mm512_getmant_ps(p2, _MM_MANT_NORM_p5_1, _MM_MANT_SIGN_src);
    const __m512 factor = _mm512_mask_mul_ps(m, upper, p2, _mm512_set1_ps(-0.5f));
    const VF f = fma((VF)c, (VF)factor, (VF)_mm512_mask_add_ps(minus_one, upper, c, minus_one));
    VF q = fma(f, set1(0.20412749f), set1(-0.25004653f));
    q = fma(q, f, set1(0.33333227f));
    q = fma(q, f, set1(-0.5f));
    const VF two_ln_2 = set1(1.3862944f), ln = fma(f * f, q, f);
    return sqrt(fma(ln, set1(-2.0f), fma(e, -two_ln_2, (VF)two_ln_c)));
}
#else
WARMOPS_INLINE VF radius(VU w) {
    const VI upper = (VI)w >> 31;
    const VF p = (__builtin_convertvector((VI)w ^ upper, VF) + 0.5f) * 0x1p-32f;
    // below: u = p = 2^e (1 + f) with 1 + f in [sqrt(1/2), sqrt(2))
    const VI bits = (VI)p + (0x3F800000 - 0x3F3504F3);
    const VF f_low = (VF)((bits & 0x7FFFFF) + 0x3F3504F3) - 1.0f;
    // above: u = 1 - p = 2^e (1 + f)
    const VF f_high = p > 0.29289322f ? 1.0f - (p + p) : -p;
    const VI e_high = p > 0.29289322f ? fill<VI>(-1) : VI{};
    const VF f = (VI)w < 0 ? f_high : f_low;
    const VF e = __builtin_convertvector((VI)w < 0 ? e_high : (bits >> 23) - 127, VF);
    VF q = set1(7.0376836292e-2f);
    q = fma(q, f, set1(-1.1514610310e-1f));
    q = fma(q, f, set1(1.1676998740e-1f));
    q = fma(q, f, set1(-1.2420140846e-1f));
    q = fma(q, f, set1(1.4249322787e-1f));
    q = fma(q, f, set1(-1.6668057665e-1f));
    q = fma(q, f, set1(2.0000714765e-1f));
    q = fma(q, f, set1(-2.4999993993e-1f));
    q = fma(q, f, set1(3.3333331174e-1f));
    const VF f2 = f * f;
    VF tail = fma(e, set1(-2.12194440e-4f), f2 * f * q);
    tail = fma(f2, set1(-0.5f), tail);
    const VF ln = fma(e, set1(0.693359375f), f + tail);
    return sqrt(ln * -2.0f);
}
#endif

// Cosine and sine of 2 pi (w + 0.5) / 2^32; quarter turns are taken off in integers.
WARMOPS_INLINE void cos_sin(VU w, VF& cosine, VF& sine) {
    const VF rest = __builtin_convertvector((VI)(w << 2), VF);  // of the quarter turn, in units of 2^-32 turns / 4
    const VF g = fma(rest, set1(3.65729529994141e-10f), fma(rest, set1(-1.017735066980541e-17f), set1(7.31459059988282e-10f)));
    const VF g2 = g * g;
    VF s = fma(g2, set1(-1.9515295891e-4f), set1(8.3321608736e-3f));
    s = fma(s, g2, set1(-1.6666654611e-1f));
    s = fma(s, g2 * g, g);
    VF c = fma(g2, set1(2.443315711809948e-5f), set1(-1.388731625493765e-3f));
    c = fma(c, g2, set1(4.166664568298827e-2f));
    c = fma(c, g2, set1(-0.5f));
    c = fma(c, g2, set1(1.0f));
    const VU turn = w + 0x20000000u;  // its two upper bits count the quarter turns
    const VU odd = turn & 0x40000000u;
    cosine = (VF)((VU)(odd != 0 ? s : c) ^ ((turn + 0x40000000u) & 0x80000000u));
    sine = (VF)((VU)(odd != 0 ? c : s) ^ (turn & 0x80000000u));
}

// Counters in the order in which one unpacking brings the elements of a pair of vectors into theirs.
struct CounterLanes {
    VQ lanes;
    CounterLanes() {
        for (int i = 0; i < kLanes<double>; ++i) lanes[i] = uint64_t(i % 2 * (kLanes<double> / 2) + i / 2);
    }
};

// The words of 2 B vectors of counters, elements 4 * counter and on: of each, the words for radii, then those for angles.
template <int B>
WARMOPS_INLINE void philox_blocks(uint64_t counter, const CounterLanes& lanes, const PhiloxKeys& keys, float* out) {
    constexpr int L = kLanes<float>;
    VQ counters[2 * B], w[2 * B][4];
#pragma GCC unroll 4
    for (int b = 0; b < 2 * B; ++b) counters[b] = fill<VQ>(counter + uint64_t(b * kLanes<double>)) + lanes.lanes;
    philox_rounds<2 * B>(counters, keys, w);
#pragma GCC unroll 4
    for (int b = 0; b < 2 * B; ++b) {
        store(out + 2 * b * L, (VF)in_turns(w[b][0], w[b][2]));
        store(out + (2 * b + 1) * L, (VF)in_turns(w[b][1], w[b][3]));
    }
}

// One block of words to normals, in place and in the order of the elements.
WARMOPS_INLINE void box_muller_block(float* block) {
    constexpr int L = kLanes<float>;
    for (int i = 0; i < 4; i += 2) {
        const VF r = radius((VU)load(block + i * L));
        VF c, s;
        cos_sin((VU)load(block + (i + 1) * L), c, s);
        store(block + i * L, unpack_lo(r * c, r * s));
        store(block + (i + 1) * L, unpack_hi(r * c, r * s));
    }
}

// The normals of one sample.
template <class T>
struct Noise;

template <>
struct Noise<float> {
    PhiloxKeys keys;
    CounterLanes lanes;
    explicit Noise(uint64_t seed) : keys(seed) {}

    // Writes elements [first, first + count) and returns where they begin: a few before and up to kNoiseBlock after
    // them are written too, so buffer holds count + kNoiseBlock + 4.
    float* generate(int64_t first, int64_t count, float* buffer) const {
        const uint64_t counter = uint64_t(first) / 4;
        const int64_t skip = first % 4;
        // Two loops: each alone keeps the processor's window full, together they do not fit it.
        int64_t i = 0;
        for (; i + kNoiseBlock < skip + count; i += 2 * kNoiseBlock) philox_blocks<2>(counter + uint64_t(i / 4), lanes, keys, buffer + i);
        if (i < skip + count) philox_blocks<1>(counter + uint64_t(i / 4), lanes, keys, buffer + i);
        for (i = 0; i < skip + count; i += kNoiseBlock) box_muller_block(buffer + i);
        return buffer + skip;
    }
};

template <>
struct Noise<double> {
    uint32_t k0, k1;
    explicit Noise(uint64_t seed) : k0(uint32_t(seed)), k1(uint32_t(seed >> 32)) {}

    double* generate(int64_t first, int64_t count, double* buffer) const {
        const uint64_t counter = uint64_t(first) / 4;
        const int64_t skip = first % 4;
        for (int64_t i = 0; i < skip + count; i += 4) {
            const uint64_t j = counter + uint64_t(i / 4);
            warmops::box_muller(warmops::philox4x32(warmops::Words{{uint32_t(j), uint32_t(j >> 32), 0, 0}}, k0, k1), buffer + i);
        }
        return buffer + skip;
    }
};

}  // namespace
