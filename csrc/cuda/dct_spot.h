// Where the tiles of a launch lie.
#pragma once
#include "dct.h"
#include "normal_group.h"  // divide

namespace warmops {
namespace cuda {

// A tile has a x b elements; an axis that is not transformed is cut into several.
struct Tiles {
    int a, b;
    int64_t along_a, along_b, total;
};

inline Tiles tiles_of(const Dct& d, int a, int b) {
    Tiles t{a, b, 1, 1, 1};
    if (d.a.kind == kNone) t.along_a = (d.a.out + a - 1) / a;
    if (d.b.kind == kNone) t.along_b = (d.b.out + b - 1) / b;
    t.total = t.along_a * t.along_b;
    for (int i = 0; i < d.dims; ++i) t.total *= d.sizes[i];
    return t;
}

// A tile's first element in x and out, and how many elements of it each axis has there.
struct Spot {
    int64_t x = 0, out = 0;
    int a_in, b_in, a_out, b_out;
};

WARMOPS_HD int at_most(int64_t rest, int tile) { return int(rest < tile ? rest : int64_t(tile)); }

WARMOPS_HD void cut(const DctAxis& axis, int tile, int64_t first, Spot& s, int& in, int& out) {
    in = at_most(axis.in - first, tile);
    out = at_most(axis.out - first, tile);
    s.x += first * axis.x_stride;
    s.out += first * axis.out_stride;
}

WARMOPS_HD Spot spot_of(const Dct& d, const Tiles& tiles, int64_t index) {
    Spot s;
    int64_t along_a = 0, along_b = 0, i;
    if (tiles.along_b > 1) divide(index, tiles.along_b, index, along_b);
    if (tiles.along_a > 1) divide(index, tiles.along_a, index, along_a);
    for (int k = d.dims - 1; k > 0; --k) {
        divide(index, d.sizes[k], index, i);
        s.x += i * d.x_strides[k];
        s.out += i * d.out_strides[k];
    }
    if (d.dims > 0) {
        s.x += index * d.x_strides[0];
        s.out += index * d.out_strides[0];
    }
    cut(d.a, tiles.a, along_a * tiles.a, s, s.a_in, s.a_out);
    cut(d.b, tiles.b, along_b * tiles.b, s, s.b_in, s.b_out);
    return s;
}

}  // namespace cuda
}  // namespace warmops
