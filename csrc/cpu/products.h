// Register-blocked products of the small blur matrices with rows of an image, and the folding around them.
#pragma once
#include "axis.h"
#include "simd.h"

namespace {

#if defined(__AVX512F__)
constexpr int kTall = 8;  // rows of a register tile; its accumulators and operands just fit the register file
#else
constexpr int kTall = 4;
#endif
constexpr int kWide = 2;        // vectors of a register tile
constexpr int64_t kChunk = 64;  // products summed at a time
template <class T>
constexpr int kStrip = kWide * kLanes<T>;  // columns that the vertical pass works on at a time

// g[i, :] = identity * f[i, :] + sum_k s[k, i] f[k, :] for R rows i: the image's rows are vectors, the matrix is broadcast.
template <class T, int R, int W>
WARMOPS_INLINE void tile_vertical(const T* f, int64_t ldf, int64_t depth, const T* s, int64_t lds, const T* same, int64_t ld_same,
                                  T identity, T* g, int64_t ldg) {
    V<T> acc[R][W];
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 2
        for (int w = 0; w < W; ++w) acc[r][w] = V<T>{};
    for (int64_t k = 0; k < depth; ++k) {
        V<T> b0 = load(f + k * ldf), b1 = W > 1 ? load(f + k * ldf + (W - 1) * kLanes<T>) : b0;
        keep_in_register(b0);
        if (W > 1) keep_in_register(b1);
#pragma GCC unroll 8
        for (int r = 0; r < R; ++r) {
            const V<T> a = set1(s[k * lds + r]);
            acc[r][0] = fma(a, b0, acc[r][0]);
            if (W > 1) acc[r][W - 1] = fma(a, b1, acc[r][W - 1]);
        }
    }
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 2
        for (int w = 0; w < W; ++w) {
            V<T> y = acc[r][w];
            if (same) y = fma(set1(identity), load(same + r * ld_same + w * kLanes<T>), y);
            store(g + r * ldg + w * kLanes<T>, y);
        }
}

// A strip of W vectors of columns: g = identity * f + s^T f, s of [depth, rows]. Strides may be negative. Sums are taken
// in chunks: their rounding errors grow with the root of the chunk, not of the depth.
template <class T, int W>
void product_vertical(const T* f, int64_t ldf, int64_t depth, const T* s, int64_t lds, int64_t rows, T identity, T* g, int64_t ldg,
                      int64_t chunk = kChunk) {
    for (int64_t k = 0; k < depth; k += chunk) {
        const int64_t some = depth - k < chunk ? depth - k : chunk;
        const T *from = f + k * ldf, *matrix = s + k * lds, *same = k > 0 ? g : identity != T(0) ? f : nullptr;
        const int64_t ld_same = k > 0 ? ldg : ldf;
        const T factor = k > 0 ? T(1) : identity;
        int64_t i = 0;
        const auto add = [&]() { return same ? same + i * ld_same : nullptr; };
        for (; i + kTall <= rows; i += kTall)
            tile_vertical<T, kTall, W>(from, ldf, some, matrix + i, lds, add(), ld_same, factor, g + i * ldg, ldg);
        if (kTall > 4)
            for (; i + 4 <= rows; i += 4) tile_vertical<T, 4, W>(from, ldf, some, matrix + i, lds, add(), ld_same, factor, g + i * ldg, ldg);
        for (; i + 2 <= rows; i += 2) tile_vertical<T, 2, W>(from, ldf, some, matrix + i, lds, add(), ld_same, factor, g + i * ldg, ldg);
        if (i < rows) tile_vertical<T, 1, W>(from, ldf, some, matrix + i, lds, add(), ld_same, factor, g + i * ldg, ldg);
    }
    if (depth == 0)
        for (int64_t i = 0; i < rows; ++i)
            for (int w = 0; w < W; ++w) store(g + i * ldg + w * kLanes<T>, V<T>{});
}

// g[r, :] = identity * f[r, :] + sum_k f[r, k] s[k, :] for kTall rows and W vectors: the matrix's rows are vectors, the image is broadcast.
template <class T, int W, int LD>
WARMOPS_INLINE void tile_horizontal(const T* f, int64_t ldf_, int64_t depth, const T* s, int64_t lds, const T* same, int64_t ld_same,
                                    T identity, T* g, int64_t ldg) {
    const int64_t ldf = LD ? LD : ldf_;  // a constant leaves the address registers free
    V<T> acc[kTall][W];
#pragma GCC unroll 8
    for (int r = 0; r < kTall; ++r)
#pragma GCC unroll 2
        for (int w = 0; w < W; ++w) acc[r][w] = V<T>{};
    for (int64_t k = 0; k < depth; ++k) {
        V<T> b0 = load(s + k * lds), b1 = W > 1 ? load(s + k * lds + (W - 1) * kLanes<T>) : b0;
        keep_in_register(b0);
        if (W > 1) keep_in_register(b1);
#pragma GCC unroll 8
        for (int r = 0; r < kTall; ++r) {
            const V<T> a = set1(f[r * ldf + k]);
            acc[r][0] = fma(a, b0, acc[r][0]);
            if (W > 1) acc[r][W - 1] = fma(a, b1, acc[r][W - 1]);
        }
    }
#pragma GCC unroll 8
    for (int r = 0; r < kTall; ++r)
#pragma GCC unroll 2
        for (int w = 0; w < W; ++w) {
            V<T> y = acc[r][w];
            if (same) y = fma(set1(identity), load(same + r * ld_same + w * kLanes<T>), y);
            store(g + r * ldg + w * kLanes<T>, y);
        }
}

template <class T, int LD>
void product_horizontal_ld(const T* f, int64_t ldf, int64_t depth, const T* s, int64_t lds, int64_t columns, T identity, T* g, int64_t ldg,
                           int64_t chunk) {
    constexpr int64_t L = kLanes<T>;
    for (int64_t k = 0; k < depth; k += chunk) {
        const int64_t some = depth - k < chunk ? depth - k : chunk;
        const T *from = f + k, *matrix = s + k * lds, *same = k > 0 ? g : identity != T(0) ? f : nullptr;
        const int64_t ld_same = k > 0 ? ldg : ldf;
        const T factor = k > 0 ? T(1) : identity;
        int64_t j = 0;
        const auto add = [&]() { return same ? same + j : nullptr; };
        for (; j + L < columns; j += 2 * L)
            tile_horizontal<T, 2, LD>(from, ldf, some, matrix + j, lds, add(), ld_same, factor, g + j, ldg);
        if (j < columns) tile_horizontal<T, 1, LD>(from, ldf, some, matrix + j, lds, add(), ld_same, factor, g + j, ldg);
    }
    if (depth == 0)
        for (int r = 0; r < kTall; ++r)
            for (int64_t j = 0; j < columns; j += L) store(g + r * ldg + j, V<T>{});
}

// Row strides of the buffers that products read along rows: those that product_horizontal knows as constants, if they suffice.
constexpr int64_t kStrides[] = {96, 160, 288, 544};
inline int64_t row_stride(int64_t columns) {
    for (int64_t stride : kStrides)
        if (columns <= stride) return stride;
    return columns;
}

// kTall rows: g = identity * f + f s, s of [depth, columns]; columns are rounded up to whole vectors (s is padded).
template <class T>
void product_horizontal(const T* f, int64_t ldf, int64_t depth, const T* s, int64_t lds, int64_t columns, T identity, T* g, int64_t ldg,
                        int64_t chunk = kChunk) {
    switch (ldf) {
        case kStrides[0]: return product_horizontal_ld<T, kStrides[0]>(f, ldf, depth, s, lds, columns, identity, g, ldg, chunk);
        case kStrides[1]: return product_horizontal_ld<T, kStrides[1]>(f, ldf, depth, s, lds, columns, identity, g, ldg, chunk);
        case kStrides[2]: return product_horizontal_ld<T, kStrides[2]>(f, ldf, depth, s, lds, columns, identity, g, ldg, chunk);
        case kStrides[3]: return product_horizontal_ld<T, kStrides[3]>(f, ldf, depth, s, lds, columns, identity, g, ldg, chunk);
        default: return product_horizontal_ld<T, 0>(f, ldf, depth, s, lds, columns, identity, g, ldg, chunk);
    }
}

// In place: row p becomes x_p + x_{n-1-p}, row n-1-p becomes x_p - x_{n-1-p}; a middle row is doubled.
template <class T, int W>
WARMOPS_INLINE void fold_rows(T* f, int64_t ld, int64_t n) {
    for (int64_t p = 0; p < n / 2; ++p)
        for (int w = 0; w < W; ++w) {
            T *a = f + p * ld + w * kLanes<T>, *b = f + (n - 1 - p) * ld + w * kLanes<T>;
            const V<T> x = load(a), y = load(b);
            store(a, x + y);
            store(b, x - y);
        }
    if (n % 2)
        for (int w = 0; w < W; ++w) {
            T* m = f + n / 2 * ld + w * kLanes<T>;
            store(m, load(m) + load(m));
        }
}

// The inverse (up to the factor 1/2 that the matrices carry); the odd part has no middle row.
template <class T, int W>
WARMOPS_INLINE void unfold_rows(T* g, int64_t ld, int64_t n) {
    for (int64_t p = 0; p < n / 2; ++p)
        for (int w = 0; w < W; ++w) {
            T *a = g + p * ld + w * kLanes<T>, *b = g + (n - 1 - p) * ld + w * kLanes<T>;
            const V<T> e = load(a), o = load(b);
            store(a, e + o);
            store(b, e - o);
        }
}

// f[0, n) -> even[0, ceil(n/2)), odd[0, n/2) of one row. Whole vectors are read and written: a margin of one vector
// lies before f and after all three.
template <class T>
WARMOPS_INLINE void fold_columns(const T* f, int64_t n, T* even, T* odd) {
    constexpr int64_t L = kLanes<T>;
    const int64_t half = n / 2;
    for (int64_t p = 0; p < half; p += L) {
        const V<T> x = load(f + p), y = reverse(load(f + n - L - p));
        store(even + p, x + y);
        store(odd + p, x - y);
    }
    if (n % 2) even[half] = f[half] + f[half];
}

// The inverse (up to the factor 1/2 that the matrices carry). A margin of one vector lies before and after y.
template <class T>
WARMOPS_INLINE void unfold_columns(const T* even, const T* odd, int64_t n, T* y) {
    constexpr int64_t L = kLanes<T>;
    const int64_t half = n / 2, whole = half / L * L;
    if (whole < half) {  // the vector next to the middle: the upper half runs over into the lower, which is written next
        const V<T> e = load(even + whole), o = load(odd + whole);
        store(y + n - L - whole, reverse(e - o));
        store(y + whole, first_lanes(int(half - whole), e + o, load(y + whole)));
    }
    for (int64_t p = whole - L; p >= 0; p -= L) {
        const V<T> e = load(even + p), o = load(odd + p);
        store(y + n - L - p, reverse(e - o));
        store(y + p, e + o);
    }
    if (n % 2) y[half] = even[half];
}

// Columns of a block of kTall rows through one axis: fold, multiply each part, unfold.
template <class T>
struct ColumnPass {
    static constexpr int64_t L = kLanes<T>;
    const AxisPlan<T>& plan;
    int64_t ld;  // of the buffers below, kTall rows each, with margins
    int64_t offset[kMaxParts];
    Buffer<T> folded, product, even_a, even_b;

    explicit ColumnPass(const AxisPlan<T>& p)
        : plan(p), ld(layout()), folded(kTall * ld), product(kTall * ld), even_a(kTall * ld), even_b(kTall * ld) {}

    // y = blur of f, rows of length n; f and y have margins of one vector on both sides. f may be y.
    void run(const AxisBlur<T>& blur, const T* f, int64_t ldf, T* y, int64_t ldy) {
        if (plan.folds == 0) {
            multiply(blur, plan.part[0], f, ldf, product.data + offset[0]);
            for (int r = 0; r < kTall; ++r)
                for (int64_t j = 0; j < plan.n; j += L) store(y + r * ldy + j, load(product.data + offset[0] + r * ld + j));
            return;
        }
        const T* from = f;
        int64_t ld_from = ldf;
        for (int level = 0; level < plan.folds; ++level) {
            T* even = level + 1 == plan.folds ? folded.data + offset[plan.parts - 1] : (level % 2 ? even_b : even_a).data + L;
            T* odd = folded.data + offset[level];
            for (int r = 0; r < kTall; ++r) fold_columns(from + r * ld_from, plan.part[level].points, even + r * ld, odd + r * ld);
            from = even;
            ld_from = ld;
        }
        for (int i = 0; i < plan.parts; ++i) multiply(blur, plan.part[i], folded.data + offset[i], ld, product.data + offset[i]);
        const T* even = product.data + offset[plan.parts - 1];
        for (int level = plan.folds - 1; level >= 0; --level) {
            T* to = level == 0 ? y : (level % 2 ? even_b : even_a).data + L;
            const int64_t ld_to = level == 0 ? ldy : ld;
            const T* odd = product.data + offset[level];
            for (int r = 0; r < kTall; ++r) unfold_columns(even + r * ld, odd + r * ld, plan.part[level].points, to + r * ld_to);
            even = to;
        }
    }

  private:
    int64_t layout() {
        int64_t total = L;
        for (int i = 0; i < plan.parts; ++i) {
            offset[i] = total;
            total += round_up(plan.part[i].rows, L) + L;
        }
        const int64_t half = round_up((plan.n + 1) / 2, L) + 3 * L;
        return row_stride(total > half ? total : half);
    }

    void multiply(const AxisBlur<T>& blur, const PartShape& p, const T* f, int64_t ldf, T* g) {
        product_horizontal(f, ldf, p.rows, blur.matrices.data + p.matrix, p.ld, p.rows, T(blur.delta * p.factor), g, ld);
    }
};

// A strip of W vectors of columns through one axis, in place of f, which is folded once; the result is written to g.
template <class T, int W>
void strip_vertical(const AxisBlur<T>& blur, T* f, int64_t ldf, T* g, int64_t ldg) {
    const AxisPlan<T>& plan = blur.plan;
    for (int level = 1; level < plan.folds; ++level) fold_rows<T, W>(f, ldf, plan.part[level].points);
    for (int i = 0; i < plan.parts; ++i) {
        const PartShape& p = plan.part[i];
        const T* s = blur.matrices.data + p.matrix;
        const T identity = T(blur.delta * p.factor);
        if (p.kind == Part::odd) {  // rows points-1, points-2, ... hold the odd part
            const int64_t last = p.points - 1;
            product_vertical<T, W>(f + last * ldf, -ldf, p.rows, s, p.ld, p.rows, identity, g + last * ldg, -ldg);
        } else {
            product_vertical<T, W>(f, ldf, p.rows, s, p.ld, p.rows, identity, g, ldg);
        }
    }
    for (int level = plan.folds - 1; level >= 0; --level) unfold_rows<T, W>(g, ldg, plan.part[level].points);
}

}  // namespace
