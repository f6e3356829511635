// The loop of csrc/cuda/normal.cu on the host, thread after thread, and Box-Muller on given words.
#include "cuda/normal_group.h"

using namespace warmops;
using namespace warmops::cuda;

template <class T>
struct Same {
    T operator()(T x) const { return x; }
};

template <class T>
static int fill(const Target& target, const Seeds& seeds) {
    const int64_t per_sample = sample_size(target);
    const Target out = merged(target);
    const bool vectorised = vectorisable(out, sizeof(T));
    for (int64_t i = 0; i < out.sizes[0] * groups_per_sample<T>(per_sample); ++i) {
        if (vectorised)
            write_group<T, true>(out, seeds, per_sample, i, Same<T>());
        else
            write_group<T, false>(out, seeds, per_sample, i, Same<T>());
    }
    return vectorised;
}

extern "C" int fill_normal(void* data, int dtype, int dims, const int64_t* sizes, const int64_t* strides, int64_t base, const int64_t* seeds,
                           int64_t seed_stride) {
    Target target;
    target.data = data;
    target.dims = dims;
    for (int d = 0; d < dims; ++d) {
        target.sizes[d] = sizes[d];
        target.strides[d] = strides[d];
    }
    const Seeds from = {base, seeds, seed_stride};
    return dtype == 0 ? fill<double>(target, from) : fill<float>(target, from);
}

extern "C" void box_muller_pairs(const uint32_t* words, int64_t n, float* single, double* twice) {
    for (int64_t i = 0; i < n; ++i) {
        const Words w = {{words[4 * i], words[4 * i + 1], words[4 * i + 2], words[4 * i + 3]}};
        box_muller(w, single + 4 * i);
        box_muller(w, twice + 4 * i);
    }
}

extern "C" int64_t offset(int dims, const int64_t* sizes, const int64_t* strides, int64_t element) {
    Target target;
    target.dims = dims;
    for (int d = 0; d < dims; ++d) {
        target.sizes[d] = sizes[d];
        target.strides[d] = strides[d];
    }
    return offset_in_sample(merged(target), element);
}
