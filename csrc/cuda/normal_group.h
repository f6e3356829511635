// What one thread of the kernel in normal.cu does. Plain C++ that runs on the host too, where the tests check it.
#pragma once
#include <stdint.h>

#include "../philox.h"
#include "normal.h"

namespace warmops {
namespace cuda {

// Elements of one sample.
WARMOPS_HD int64_t sample_size(const Target& t) {
    int64_t size = 1;
    for (int d = 1; d < t.dims; ++d) size *= t.sizes[d];
    return size;
}

// a / b and a % b for a, b >= 0, in 32 bits where they fit (several times faster on a GPU).
WARMOPS_HD void divide(int64_t a, int64_t b, int64_t& quotient, int64_t& remainder) {
    if (((a | b) >> 32) == 0) {
        quotient = uint32_t(a) / uint32_t(b);
        remainder = uint32_t(a) % uint32_t(b);
    } else {
        quotient = a / b;
        remainder = a % b;
    }
}

// Where element e of a sample lies, counted from the sample's beginning.
WARMOPS_HD int64_t offset_in_sample(const Target& t, int64_t e) {
    int64_t offset = 0;
    for (int d = t.dims - 1; d >= 1; --d) {
        int64_t index;
        divide(e, t.sizes[d], e, index);
        offset += index * t.strides[d];
    }
    return offset;
}

// The same elements in the same order with as few dimensions as possible; the first one stays the sample.
WARMOPS_HD Target merged(const Target& t) {
    Target m = t;
    m.dims = 1;
    for (int d = 1; d < t.dims; ++d) {
        if (t.sizes[d] == 1) continue;
        const int last = m.dims - 1;
        if (last > 0 && m.strides[last] == t.sizes[d] * t.strides[d]) {
            m.sizes[last] *= t.sizes[d];
            m.strides[last] = t.strides[d];
        } else {
            m.sizes[m.dims] = t.sizes[d];
            m.strides[m.dims++] = t.strides[d];
        }
    }
    return m;
}

// Whether a merged target's samples are dense and each begins at a multiple of 16 bytes.
WARMOPS_HD bool vectorisable(const Target& m, int64_t bytes) {
    const bool dense = m.dims == 1 || (m.dims == 2 && m.strides[1] == 1);
    const bool aligned = uintptr_t(m.data) % 16 == 0 && (m.sizes[0] == 1 || m.strides[0] * bytes % 16 == 0);
    return dense && aligned;
}

struct alignas(16) Bytes16 {
    uint32_t w[4];
};

template <class T>
struct Arithmetic {
    using type = float;
};
template <>
struct Arithmetic<double> {
    using type = double;
};

// One or two counters of four elements each: at least 16 bytes.
template <class T>
constexpr int kCounters = sizeof(T) == 2 ? 2 : 1;

template <class T>
WARMOPS_HD int64_t groups_per_sample(int64_t per_sample) {
    return (per_sample + 4 * kCounters<T> - 1) / (4 * kCounters<T>);
}

// Generates and writes group i of all (sample after sample) of a merged target; rounded(x) makes a T of a normal.
template <class T, bool kVectorised, class Rounded>
WARMOPS_HD void write_group(const Target& out, const Seeds& seeds, int64_t per_sample, int64_t i, Rounded rounded) {
    constexpr int kElements = 4 * kCounters<T>;
    int64_t sample, group;
    divide(i, groups_per_sample<T>(per_sample), sample, group);
    const uint64_t seed = seeds.data ? uint64_t(seeds.data[sample * seeds.stride]) : uint64_t(seeds.base) + uint64_t(sample);
    alignas(16) T values[kElements];
#pragma unroll
    for (int c = 0; c < kCounters<T>; ++c) {
        typename Arithmetic<T>::type normals[4];
        box_muller(sample_words(seed, uint64_t(group) * kCounters<T> + c), normals);
#pragma unroll
        for (int j = 0; j < 4; ++j) values[4 * c + j] = rounded(normals[j]);
    }
    T* data = static_cast<T*>(out.data) + sample * out.strides[0];
    const int64_t first = group * kElements;
    if (kVectorised && first + kElements <= per_sample) {
#pragma unroll
        for (int b = 0; b < int(sizeof(values) / 16); ++b)
            reinterpret_cast<Bytes16*>(data + first)[b] = reinterpret_cast<const Bytes16*>(values)[b];
        return;
    }
#pragma unroll
    for (int j = 0; j < kElements; ++j)
        if (first + j < per_sample) data[kVectorised ? first + j : offset_in_sample(out, first + j)] = values[j];
}

}  // namespace cuda
}  // namespace warmops
