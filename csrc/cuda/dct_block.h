// Transforms of any length in shared memory: what a block does with one tile, as steps between barriers.
//
// A length is halved by sums, differences and rotations (the formulas of dct_codelets.h, one level a step) down to leaves
// of 17 to 32 points or an odd length: straight-line code for common ones, multiplied out for others. Cosine III runs the
// steps of II backwards, transposed. Type I is multiplied out whole. A step is a loop over independent items, given to an
// executor: the block's threads and a barrier on the device, plain loops in the tests.
// Lines of a transform lie side by side: element k of line l is at k * pitch + l, pitch odd, free of bank conflicts both ways.
#pragma once
#include <algorithm>

#include "dct_leaf.h"
#include "dct_scalar.h"
#include "dct_spot.h"

namespace warmops {
namespace cuda {

constexpr int kMostPoints = 2048;

WARMOPS_HD int odd(int n) { return n | 1; }

// cos(pi i / (2q)), i = 0 .. q, for the rotations; one whole turn of the leaf's own q for the products.
inline int64_t table_bytes(int kind, int n, int64_t bytes) {
    if (kind == kNone) return 0;
    const Levels levels = block_levels(kind, n);
    return ((levels.depth > 0 ? 2 * n + 1 : 0) + (leaf_is_codelet(kind, levels.leaf) ? 0 : 4 * quarter(kind, levels.leaf))) * bytes;
}

// Shared memory of so many tiles of a x b: two buffers, in each of which the lines of either axis fit, and one axis' tables.
inline int64_t block_bytes(int kind_a, int a, int kind_b, int b, int64_t bytes, int images = 1) {
    const int64_t columns = int64_t(a) * odd(images * b), rows = int64_t(b) * odd(images * a);
    const int64_t tables_a = table_bytes(kind_a, a, bytes), tables_b = table_bytes(kind_b, b, bytes);
    return 2 * (columns > rows ? columns : rows) * bytes + (tables_a > tables_b ? tables_a : tables_b);
}

constexpr int64_t kComfortable = 72 * 1024;  // bytes: three blocks to a multiprocessor of 228 KiB

// Tiles for a launch: the whole image, or as many lines of one axis as are comfortable. a = 0: no tile fits in `limit` bytes.
inline Tiles block_tiles(const Dct& d, int64_t bytes, int64_t limit) {
    const bool columns = d.a.kind != kNone, rows = d.b.kind != kNone;
    const int64_t n = columns ? d.a.out : d.b.out, least = std::clamp<int64_t>(4096 / n, 32, kMostPoints);
    int64_t a = d.a.out, b = d.b.out;
    int64_t& lines = columns ? b : a;
    const auto size = [&] { return block_bytes(d.a.kind, int(a), d.b.kind, int(b), bytes); };
    if (!columns || !rows) {
        lines = lines < least ? lines : least;
        while (lines > 1 && (size() > limit || (lines > 8 && size() > kComfortable))) lines = (lines + 1) / 2;
    }
    if (n > kMostPoints || a > kMostPoints || b > kMostPoints || size() > limit) return {0, 0, 0, 0, 0};
    return tiles_of(d, int(a), int(b));
}

// Small tiles go together in a block.
inline int block_images(const Dct& d, const Tiles& tiles, int64_t bytes) {
    int images = 4096 / (tiles.a * tiles.b);
    images = int(images < tiles.total ? images : tiles.total);
    while (images > 1 && block_bytes(d.a.kind, tiles.a, d.b.kind, tiles.b, bytes, images) > kComfortable) images /= 2;
    return images > 1 ? images : 1;
}

// One step: items that do not depend on each other, then a barrier.
template <class Exec, class F>
WARMOPS_HD void each(const Exec& exec, int outer, int inner, const F& f) {
    exec.loop(outer, inner, f);
    exec.barrier();
}

// Halving: all nodes of a depth at once. Item q is pair j of a node.
struct Pair {
    int first, length, j;  // the node's first element
    bool four;
};
WARMOPS_HD Pair pair_of(int q, int n, int depth, bool root_is_four) {
    const int node = q & ((1 << depth) - 1), length = n >> depth;
    return {node * length, length, q >> depth, is_four(unsigned(node), depth, root_is_four)};
}

template <class T>
struct Rotation {
    T c, s;  // of (2j+1) pi / (4 length)
    WARMOPS_METHOD Rotation(const T* table, int n, int depth, int j) {
        const int i = (2 * j + 1) << depth;
        c = table[i];
        s = table[2 * n - i];
    }
};

template <class T>
WARMOPS_HD void split_pair(const Lines<T>& x, const T* table, int n, int depth, const Pair& p, int l) {
    const int h = p.length / 2;
    const T u = x.get(p.first + p.j, l), v = x.get(p.first + p.length - 1 - p.j, l);
    T a, b;
    if (p.four) {
        const Rotation<T> r(table, n, depth, p.j);
        a = plus_product(r.c * u, r.s, v);
        b = plus_product(r.s * u, -r.c, v);
        if (p.j & 1) b = -b;
    } else {
        a = u + v;
        b = u - v;
    }
    x.put(p.first + p.j, l, a);
    x.put(p.first + h + p.j, l, b);
}

template <class T>
WARMOPS_HD void split_pair_transposed(const Lines<T>& x, const T* table, int n, int depth, const Pair& p, int l) {
    T a = x.get(p.first + p.j, l), b = x.get(p.first + p.length / 2 + p.j, l);
    T u = a + b, v = a - b;
    if (p.four) {
        const Rotation<T> r(table, n, depth, p.j);
        if (p.j & 1) b = -b;
        u = plus_product(r.c * a, r.s, b);
        v = plus_product(r.s * a, -r.c, b);
    }
    x.put(p.first + p.j, l, u);
    x.put(p.first + p.length - 1 - p.j, l, v);
}

// Results of the halves, in the node's order. Pair 0 of type IV is the two that have no partner.
template <class T>
WARMOPS_HD void join_pair(const Lines<T>& x, const Pair& p, int l) {
    const int h = p.length / 2, k = p.j;
    if (!p.four) {
        x.put(p.first + 2 * k, l, x.get(p.first + k, l));
        x.put(p.first + 2 * k + 1, l, x.get(p.first + h + k, l));
        return;
    }
    const T a = x.get(p.first + k, l), b = x.get(p.first + (k == 0 ? h : 2 * h - k), l);
    x.put(p.first + (k == 0 ? 0 : 2 * k - 1), l, k == 0 ? a : a + b);
    x.put(p.first + (k == 0 ? 2 * h - 1 : 2 * k), l, k == 0 ? b : a - b);
}

template <class T>
WARMOPS_HD void join_pair_transposed(const Lines<T>& x, const Pair& p, int l) {
    const int h = p.length / 2, k = p.j;
    const bool alone = p.four && k == 0;
    const T u = x.get(p.first + (!p.four ? 2 * k : alone ? 0 : 2 * k - 1), l);
    const T v = x.get(p.first + (!p.four ? 2 * k + 1 : alone ? 2 * h - 1 : 2 * k), l);
    const bool mixed = p.four && !alone;
    x.put(p.first + k, l, mixed ? u + v : u);
    x.put(p.first + (mixed ? 2 * h - k : h + k), l, mixed ? u - v : v);
}

// One axis of the tile. On return x.from holds the result.
template <class T, class Exec>
WARMOPS_HD void transform_lines(Lines<T>& x, T* tables, bool tables_ready, const DctAxis& axis, int n, const Exec& exec) {
    const Levels levels = block_levels(axis.kind, n);
    const int kind = axis.kind, depth = levels.depth, leaf = levels.leaf, base = kind & 3;
    const bool four = base == 3, backwards = base == 2;
    T *rotations = tables, *turn = tables + (depth > 0 ? 2 * n + 1 : 0);
    const int q = quarter(kind, leaf), turns = leaf_is_codelet(kind, leaf) ? 0 : 4 * q;
    const int entries = tables_ready ? 0 : (depth > 0 ? 2 * n + 1 : 0) + turns;
    each(exec, entries, 1, [&](int i, int) {
        const bool rotation = depth > 0 && i <= 2 * n;
        tables[i] = T(rotation ? table_cosine(i, 2 * n) : table_cosine(int(i - (turn - tables)), q));
    });
    for (int d = 0; d < depth; ++d) {
        each(exec, n / 2, x.count, [&](int i, int l) {
            const Pair p = pair_of(i, n, d, four);
            if (backwards) join_pair_transposed(x, p, l);
            else split_pair(x, rotations, n, d, p, l);
        });
        x.swap();
    }
    if (leaf_is_codelet(kind, leaf)) {
        each(exec, 1 << depth, x.count, [&](int node, int l) {
            codelet_leaf(x.from + node * leaf * x.pitch + l, x.pitch, leaf, is_four(unsigned(node), depth, four), backwards);
        });
    } else {
        const bool folded = leaf_is_folded(kind, leaf);
        if (folded && !backwards) {
            each(exec, (leaf + 1) / 2 << depth, x.count, [&](int i, int l) { fold_item(x, i, leaf, depth, four, false, l); });
            x.swap();
        }
        exec.loop(1 << depth, x.count, [&](int node, int l) {
            if (leaf_sums_first(kind, is_four(unsigned(node), depth, four)))
                x.put(node * leaf, l, sum_in_pairs(x.from + node * leaf * x.pitch + l, x.pitch, folded ? (leaf + 1) / 2 : leaf));
        });
        const int groups = leaf_groups(leaf) << depth;
        each(exec, groups, (x.count + kLeafLines - 1) / kLeafLines, [&](int i, int l) { leaf_products(x, turn, kind, i, leaf, depth, l); });
        x.swap();
        if (folded && backwards) {
            each(exec, (leaf + 1) / 2 << depth, x.count, [&](int i, int l) { fold_item(x, i, leaf, depth, four, true, l); });
            x.swap();
        }
    }
    for (int d = depth - 1; d >= 0; --d) {
        each(exec, n / 2, x.count, [&](int i, int l) {
            const Pair p = pair_of(i, n, d, four);
            if (backwards) split_pair_transposed(x, rotations, n, d, p, l);
            else join_pair(x, p, l);
        });
        x.swap();
    }
}

// A sine transform is a cosine transform of reversed or alternating input, as in dct_tile.h; I is its own. Where the kernel
// takes or gives element i, whether ends_in or ends_out multiplies it, and its sign.
WARMOPS_HD int input_place(const DctAxis& axis, int n, int i) { return axis.kind == 6 || axis.kind == 7 ? n - 1 - i : i; }
WARMOPS_HD int output_place(const DctAxis& axis, int n, int i) { return axis.kind == 5 ? n - 1 - i : i; }
WARMOPS_HD bool special_input(const DctAxis& axis, int n, int i) {
    const bool first = i == 0, last = i == n - 1;
    return axis.kind == 0 ? first || last : axis.kind == 2 ? first : axis.kind == 6 && last;
}
WARMOPS_HD bool special_output(const DctAxis& axis, int n, int i) {
    const bool first = i == 0, last = i == n - 1;
    return axis.kind == 0 ? first || last : axis.kind == 1 ? first : axis.kind == 5 && last;
}
WARMOPS_HD bool negative_input(const DctAxis& axis, int i) { return axis.kind == 5 && (i & 1); }
WARMOPS_HD bool negative_output(const DctAxis& axis, int i) { return (axis.kind == 6 || axis.kind == 7) && (i & 1); }

// The factor of an element that is special in neither, one or both axes: each product rounded once.
template <class T>
struct Factors {
    T neither, in_a, in_b, both;
    WARMOPS_METHOD Factors(double scale, double a, double b) : neither(T(scale)), in_a(T(scale * a)), in_b(T(scale * b)), both(T(scale * a * b)) {}
    WARMOPS_METHOD T of(bool special_a, bool special_b, bool negative) const {
        const T factor = special_a ? (special_b ? both : in_a) : special_b ? in_b : neither;
        return negative ? -factor : factor;
    }
};

// Tiles side by side: read, transformed along a, then along b, written. Tables of one axis are ready but for the first time.
template <class T, class Exec>
WARMOPS_HD void block_tile(const Dct& d, const Tiles& tiles, int images, int64_t index, bool first, T* shared, const Exec& exec) {
    const int a = tiles.a, b = tiles.b, pa = odd(images * a), pb = odd(images * b), buffer = a * pb > b * pa ? a * pb : b * pa;
    const bool columns = d.a.kind != kNone, rows = d.b.kind != kNone;
    const int here = at_most(tiles.total - index * images, images);
    T* tables = shared + 2 * buffer;
    Lines<T> x{shared, shared + buffer, columns ? pb : pa, images * (columns ? b : a)};

    const Factors<T> before(1.0, d.a.ends_in, d.b.ends_in);
    for (int p = 0; p < here; ++p) {
        const Spot s = spot_of(d, tiles, index * images + p);
        with_stored<T>(d.x_dtype, [&](auto stored) {
            using S = decltype(stored);
            const S* in = static_cast<const S*>(d.x) + s.x;
            exec.loop(columns ? a : s.a_out, rows ? b : s.b_out, [&](int i, int j) {
                T v = T(0);
                if (i < s.a_in && j < s.b_in) v = widened(in[i * d.a.x_stride + j * d.b.x_stride]);
                v *= before.of(special_input(d.a, a, i), special_input(d.b, b, j), negative_input(d.a, i) != negative_input(d.b, j));
                const int r = input_place(d.a, a, i), c = input_place(d.b, b, j);
                x.from[columns ? r * pb + p * b + c : c * pa + p * a + r] = v;
            });
        });
    }
    exec.barrier();
    if (columns) transform_lines(x, tables, !first && !rows, d.a, a, exec);
    if (rows) {
        if (columns) {
            for (int p = 0; p < here; ++p) exec.loop(a, b, [&](int r, int c) { x.to[c * pa + p * a + r] = x.from[r * pb + p * b + c]; });
            exec.barrier();
            x.swap();
        }
        x.pitch = pa;
        x.count = images * a;
        transform_lines(x, tables, !first && !columns, d.b, b, exec);
    }
    const Factors<T> after(d.a.scale * d.b.scale, d.a.ends_out, d.b.ends_out);
    for (int p = 0; p < here; ++p) {
        const Spot s = spot_of(d, tiles, index * images + p);
        with_stored<T>(d.out_dtype, [&](auto stored) {
            using S = decltype(stored);
            S* out = static_cast<S*>(d.out) + s.out;
            exec.loop(s.a_out, s.b_out, [&](int i, int j) {
                const int r = output_place(d.a, a, i), c = output_place(d.b, b, j);
                const T v = x.from[rows ? c * pa + p * a + r : r * pb + p * b + c];
                const T factor = after.of(special_output(d.a, a, i), special_output(d.b, b, j), negative_output(d.a, i) != negative_output(d.b, j));
                round_to(v * factor, out[i * d.a.out_stride + j * d.b.out_stride]);
            });
        });
    }
    exec.barrier();
}

}  // namespace cuda
}  // namespace warmops
