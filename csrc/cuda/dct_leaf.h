// Leaves of the tree of halves in dct_block.h: straight-line code, or products with a matrix whose entries come from one table.
#pragma once
#include "dct.h"
#include "dct_scalar.h"

namespace warmops {
namespace cuda {

constexpr int kMostLeaf = 32;     // points: an even length above is halved
constexpr int kMostDirect = 256;  // points of a leaf that is multiplied out
constexpr int kLeafOutputs = 4, kLeafLines = 4;  // of one item
constexpr int kChunkOfSum = 16;  // sums are taken in chunks: errors grow with the root of their length

WARMOPS_HD float plus_product(float sum, float a, float x) { return fmaf(a, x, sum); }
WARMOPS_HD double plus_product(double sum, double a, double x) { return fma(a, x, sum); }

// n = leaf << depth. Type I is not halved.
struct Levels {
    int depth, leaf;
};
WARMOPS_HD Levels block_levels(int kind, int n) {
    Levels levels{0, n};
    if ((kind & 3) == 0) return levels;
    while (levels.leaf % 2 == 0 && levels.leaf > kMostLeaf) {
        levels.leaf /= 2;
        ++levels.depth;
    }
    return levels;
}

// Leaves that are straight-line code: those of common lengths.
WARMOPS_HD bool leaf_is_codelet(int kind, int leaf) {
    constexpr unsigned long long kCodelets = 1ull << 8 | 1ull << 16 | 1ull << 20 | 1ull << 24 | 1ull << 25 | 1ull << 28 | 1ull << 30 | 1ull << 32;
    return (kind & 3) != 0 && leaf <= kMostLeaf && (kCodelets >> leaf & 1) != 0;
}

// The leaf's cosines are cos(pi i / (2 quarter)), i below 4 quarter.
WARMOPS_HD int quarter(int kind, int leaf) { return kind == 0 ? leaf - 1 : kind == 4 ? leaf + 1 : 2 * leaf; }

// A long odd leaf of type II is folded first: its even outputs see sums of the input, its odd ones differences. III is unfolded.
WARMOPS_HD bool leaf_is_folded(int kind, int leaf) { return leaf > kMostLeaf && leaf % 2 == 1 && (kind & 3) != 0; }

// Output 0 of cosine I and II is a plain sum, and all there is of an image of one colour: it is summed in pairs, apart from the products,
// which round the same number the same way each time.
WARMOPS_HD bool leaf_sums_first(int kind, bool four) { return !four && (kind == 0 || (kind & 3) == 1); }

// Outputs of a leaf come in two parts (of a folded one the even and the odd), each in groups.
WARMOPS_HD int leaf_groups(int leaf) { return (((leaf + 1) / 2) + kLeafOutputs - 1) / kLeafOutputs + (leaf / 2 + kLeafOutputs - 1) / kLeafOutputs; }

// One output: the sum over i < count of x[source + i * stride] cos(pi (start + i * step) / (2 quarter)); it goes to place.
struct LeafRow {
    int start, step, source, stride, count, place;
};
WARMOPS_HD LeafRow leaf_row(int kind, bool four, int leaf, bool second, int k) {
    const int even = (leaf + 1) / 2, period = 4 * quarter(kind, leaf);
    LeafRow row{0, 0, 0, 1, leaf, second ? even + k : k};
    const int o = row.place;
    if (kind == 0) {
        row.step = 2 * o;
    } else if (kind == 4) {
        row.start = (leaf + 1 - 2 * (o + 1)) % period;
        row.step = -2 * (o + 1);
    } else if (four) {
        row.start = 2 * o + 1;
        row.step = 2 * (2 * o + 1);
    } else if ((kind & 3) != 2) {
        if (leaf_is_folded(kind, leaf)) {
            row.place = 2 * k + (second ? 1 : 0);
            row.source = second ? even : 0;
            row.count = second ? leaf / 2 : even;
        }
        row.start = 2 * row.place;
        row.step = 4 * row.place;
    } else if (leaf_is_folded(kind, leaf)) {
        row.start = second ? 2 * (2 * k + 1) : 0;
        row.step = 4 * (2 * k + 1);
        row.source = second ? 1 : 0;
        row.stride = 2;
        row.count = second ? leaf / 2 : even;
    } else {
        row.step = 2 * (2 * o + 1);
    }
    row.start = (row.start % period + period) % period;
    row.step = (row.step % period + period) % period;
    return row;
}

// A buffer's lines and the other buffer's: element k of line l is at k * pitch + l.
template <class T>
struct Lines {
    T* from;
    T* to;
    int pitch, count;
    WARMOPS_METHOD T get(int k, int l) const { return from[k * pitch + l]; }
    WARMOPS_METHOD void put(int k, int l, T v) const { to[k * pitch + l] = v; }
    WARMOPS_METHOD void swap() {
        T* t = from;
        from = to;
        to = t;
    }
};

// Whether a node of the tree of halves is of type IV: II has children II and IV, IV has II and II; the last bit of a node's
// index says which child it is.
WARMOPS_HD bool is_four(unsigned node, int depth, bool root_is_four) {
#if defined(__CUDA_ARCH__)
    const int ones = __ffs(int(~node)) - 1;
#else
    const int ones = __builtin_ctz(~node);
#endif
    const int run = ones < depth ? ones : depth;
    return ((run & 1) != 0) != (run == depth && root_is_four);
}

// cos(pi i / (2q)) for a table.
WARMOPS_HD double table_cosine(int i, int q) {
#if defined(__CUDA_ARCH__)
    return cospi(double(i) / double(2 * q));
#else
    return cos_pi(i, 2 * q);
#endif
}

template <int N, class T>
WARMOPS_HD void straight_leaf(T* x, int pitch, bool four, bool backwards) {
    T v[N];
    unrolled<0, N>([&](auto k_) WARMOPS_LAMBDA { v[decltype(k_)::value] = x[decltype(k_)::value * pitch]; });
    if (four) Codelet<N>::dct4(v);
    else if (backwards) Codelet<N>::dct3(v);
    else Codelet<N>::dct2(v);
    unrolled<0, N>([&](auto k_) WARMOPS_LAMBDA { x[decltype(k_)::value * pitch] = v[decltype(k_)::value]; });
}
template <class T>
WARMOPS_HD void codelet_leaf(T* x, int pitch, int leaf, bool four, bool backwards) {
    switch (leaf) {
        case 8: return straight_leaf<8>(x, pitch, four, backwards);
        case 16: return straight_leaf<16>(x, pitch, four, backwards);
        case 20: return straight_leaf<20>(x, pitch, four, backwards);
        case 24: return straight_leaf<24>(x, pitch, four, backwards);
        case 25: return straight_leaf<25>(x, pitch, four, backwards);
        case 28: return straight_leaf<28>(x, pitch, four, backwards);
        case 30: return straight_leaf<30>(x, pitch, four, backwards);
        case 32: return straight_leaf<32>(x, pitch, four, backwards);
    }
}

// Item i of 2^depth leaves: element j of one of them and its mirror image. Leaves of type IV are only copied.
template <class T>
WARMOPS_HD void fold_item(const Lines<T>& x, int i, int leaf, int depth, bool root_is_four, bool backwards, int l) {
    const int node = i & ((1 << depth) - 1), j = i >> depth, even = (leaf + 1) / 2, first = node * leaf;
    const bool four = is_four(unsigned(node), depth, root_is_four);
    const int difference = even + j, mirror = leaf - 1 - j;
    if (j == leaf / 2) {
        x.put(first + j, l, x.get(first + j, l));
        return;
    }
    const T u = x.get(first + j, l), v = x.get(first + (four || backwards ? difference : mirror), l);
    x.put(first + j, l, four ? u : u + v);
    x.put(first + (backwards && !four ? mirror : difference), l, four ? v : u - v);
}

// x[0] + x[stride] + .., count of them: exact in all but a few places where they are equal.
template <int N, class T>
WARMOPS_HD T sum_of_block(const T* x, int stride, int count) {
    if constexpr (N == 1) {
        return count > 0 ? *x : T(0);
    } else {
        return sum_of_block<N / 2>(x, stride, count) + sum_of_block<N / 2>(x + N / 2 * stride, stride, count - N / 2);
    }
}
template <class T>
WARMOPS_HD T sum_in_pairs(const T* x, int stride, int count) {
    T total = T(0);
    for (int i = 0; i < count; i += 4 * kChunkOfSum) {
        T sum = T(0);
        for (int j = i; j < count && j < i + 4 * kChunkOfSum; j += kChunkOfSum) sum += sum_of_block<kChunkOfSum>(x + j * stride, stride, count - j);
        total += sum;
    }
    return total;
}

// Item i of 2^depth leaves: a group of outputs of one of them, for every (step)th line from l.
template <class T>
WARMOPS_HD void leaf_products(const Lines<T>& x, const T* turn, int kind, int i, int leaf, int depth, int l) {
    const int node = i & ((1 << depth) - 1), even = (leaf + 1) / 2, first = node * leaf;
    const bool four = is_four(unsigned(node), depth, (kind & 3) == 3);
    const int groups = (even + kLeafOutputs - 1) / kLeafOutputs, group = i >> depth;
    const bool second = group >= groups;
    const int begin = (second ? group - groups : group) * kLeafOutputs, end = second ? leaf / 2 : even;
    const int period = 4 * quarter(kind, leaf), step = (x.count + kLeafLines - 1) / kLeafLines;
    int at[kLeafOutputs], stride[kLeafOutputs], place[kLeafOutputs];
    LeafRow row;
#pragma unroll
    for (int o = kLeafOutputs - 1; o >= 0; --o) {
        row = leaf_row(kind, four, leaf, second, begin + o < end ? begin + o : begin);
        at[o] = row.start;
        stride[o] = row.step;
        place[o] = begin + o < end && !(row.place == 0 && leaf_sums_first(kind, four)) ? first + row.place : -1;
    }
    const T* line[kLeafLines];
#pragma unroll
    for (int m = 0; m < kLeafLines; ++m) line[m] = x.from + (first + row.source) * x.pitch + (l + m * step < x.count ? l + m * step : l);
    T total[kLeafOutputs][kLeafLines] = {};
    for (int chunk = 0; chunk < row.count; chunk += kChunkOfSum) {
        T sum[kLeafOutputs][kLeafLines] = {};
        const int until = chunk + kChunkOfSum < row.count ? chunk + kChunkOfSum : row.count;
        for (int j = chunk; j < until; ++j) {
            const int offset = j * row.stride * x.pitch;
            T v[kLeafLines];
#pragma unroll
            for (int m = 0; m < kLeafLines; ++m) v[m] = line[m][offset];
#pragma unroll
            for (int o = 0; o < kLeafOutputs; ++o) {
                const T c = turn[at[o]];
                at[o] += stride[o];
                if (at[o] >= period) at[o] -= period;
#pragma unroll
                for (int m = 0; m < kLeafLines; ++m) sum[o][m] = plus_product(sum[o][m], c, v[m]);
            }
        }
#pragma unroll
        for (int o = 0; o < kLeafOutputs; ++o)
#pragma unroll
            for (int m = 0; m < kLeafLines; ++m) total[o][m] += sum[o][m];
    }
#pragma unroll
    for (int o = 0; o < kLeafOutputs; ++o)
#pragma unroll
        for (int m = 0; m < kLeafLines; ++m)
            if (place[o] >= 0 && l + m * step < x.count) x.put(place[o], l + m * step, total[o][m]);
}

}  // namespace cuda
}  // namespace warmops
