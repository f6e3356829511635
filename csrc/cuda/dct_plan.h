// From tensors and axes to a launch: roles of the axes, batch dimensions merged, tiles, shared memory. Host code, no CUDA.
#pragma once
#include <stdexcept>
#include <string>
#include <tuple>
#include <vector>

#include "dct.h"
#include "dct_block.h"
#include "dct_tile.h"

namespace warmops {
namespace cuda {

struct TensorView {
    void* data;
    int dtype;
    std::vector<int64_t> sizes, strides;
};

using AxisRequest = std::tuple<int, int, double, double, double>;  // dim, kind, scale, ends_in, ends_out

// Whether a transform of n points runs in shared memory: no long odd part, and at least one line fits.
inline bool dct_fits_axis(int kind, int64_t n, int64_t bytes, int64_t limit) {
    if (n < 1 || n > kMostPoints || (kind == 0 && n < 2)) return false;
    return block_levels(kind, int(n)).leaf <= kMostDirect && block_bytes(kind, int(n), kNone, 1, bytes) <= limit;
}

// Whether two axes go together: the whole image lies in shared memory.
inline bool dct_fits_pair(int kind_a, int64_t a, int kind_b, int64_t b, int64_t bytes, int64_t limit) {
    if (!dct_fits_axis(kind_a, a, bytes, limit) || !dct_fits_axis(kind_b, b, bytes, limit)) return false;
    return (a == b && has_tile(a, bytes) && (kind_a & 3) != 0 && (kind_b & 3) != 0) ||
           block_bytes(kind_a, int(a), kind_b, int(b), bytes) <= limit;
}

// The launch that transforms one or two axes of x into out. Sizes that do not fit are the caller's mistake.
inline Dct dct_plan(const TensorView& x, const TensorView& out, const std::vector<AxisRequest>& axes) {
    const int dims = int(out.sizes.size());
    if (dims < 1 || dims > kMaxDims) throw std::invalid_argument("out must have 1 to 16 dimensions, got " + std::to_string(dims));
    if (int(x.sizes.size()) != dims || int(x.strides.size()) != dims || int(out.strides.size()) != dims)
        throw std::invalid_argument("x and out must have as many sizes and strides");
    if (axes.empty() || axes.size() > 2) throw std::invalid_argument("one or two axes, got " + std::to_string(axes.size()));
    if (x.dtype < 0 || x.dtype > 3 || out.dtype < 0 || out.dtype > 3 || (x.dtype == 0) != (out.dtype == 0))
        throw std::invalid_argument("x and out must be float64, or both one of float32, float16, bfloat16");
    Dct d;
    d.x = x.data;
    d.out = out.data;
    d.x_dtype = x.dtype;
    d.out_dtype = out.dtype;

    std::vector<DctAxis> taken;
    std::vector<bool> in_batch(dims, true);
    for (const auto& [dim, kind, scale, ends_in, ends_out] : axes) {
        if (dim < 0 || dim >= dims || !in_batch[dim]) throw std::invalid_argument("axes must be different dimensions of out");
        if (kind < 0 || kind >= kNone) throw std::invalid_argument("kind must be 0 to 7, got " + std::to_string(kind));
        in_batch[dim] = false;
        const int64_t n = out.sizes[dim], in = x.sizes[dim] < n ? x.sizes[dim] : n;
        taken.push_back({kind, in, n, x.strides[dim], out.strides[dim], scale, ends_in, ends_out});
    }

    // The other dimensions, large strides first; neighbours that both tensors run through in one step become one.
    std::vector<DctAxis> batch;
    for (int i = 0; i < dims; ++i) {
        if (!in_batch[i]) continue;
        if (x.sizes[i] != out.sizes[i]) throw std::invalid_argument("x and out must have the same size in dimension " + std::to_string(i));
        if (out.sizes[i] != 1) batch.push_back({kNone, out.sizes[i], out.sizes[i], x.strides[i], out.strides[i]});
    }
    for (size_t i = 1; i < batch.size(); ++i)
        for (size_t j = i; j > 0 && batch[j - 1].out_stride < batch[j].out_stride; --j) std::swap(batch[j - 1], batch[j]);
    for (size_t i = 1; i < batch.size();) {
        DctAxis &outer = batch[i - 1], &inner = batch[i];
        if (outer.x_stride == inner.out * inner.x_stride && outer.out_stride == inner.out * inner.out_stride) {
            inner.in = inner.out = inner.out * outer.out;
            batch.erase(batch.begin() + int64_t(i) - 1);
        } else {
            ++i;
        }
    }

    // One axis takes a batch dimension along: across it where lines are dense, else the dense one.
    if (taken.size() == 1) {
        DctAxis partner;
        if (!batch.empty()) {
            size_t chosen = batch.size() - 1;
            if (taken[0].out_stride < batch[chosen].out_stride)
                for (size_t i = 0; i < batch.size(); ++i) chosen = batch[i].out > batch[chosen].out ? i : chosen;
            partner = batch[chosen];
            batch.erase(batch.begin() + int64_t(chosen));
        }
        taken.push_back(partner);
        if (partner.out == 1) taken[1].out_stride = INT64_MAX;
    }
    const bool swapped = taken[0].out_stride < taken[1].out_stride;
    for (DctAxis& axis : taken)
        if (axis.out_stride == INT64_MAX) axis.out_stride = 0;
    d.a = taken[swapped ? 1 : 0];
    d.b = taken[swapped ? 0 : 1];
    d.dims = int(batch.size());
    for (int i = 0; i < d.dims; ++i) {
        d.sizes[i] = batch[i].out;
        d.x_strides[i] = batch[i].x_stride;
        d.out_strides[i] = batch[i].out_stride;
    }
    return d;
}

}  // namespace cuda
}  // namespace warmops
