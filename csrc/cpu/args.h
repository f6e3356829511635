// What the kernels are called with: plain data, shared by every instruction set.
#pragma once
#include <cstdint>

// These files are compiled once per instruction set: a function that is not always inlined would leave several copies
// under one name, and the linker might keep the one that this CPU cannot run.
#define WARMOPS_INLINE inline __attribute__((always_inline))
#define WARMOPS_INLINE_LAMBDA __attribute__((always_inline))

namespace warmops {

constexpr int kMaxDims = 16;

enum DType : int { kFloat64 = 0, kFloat32 = 1, kFloat16 = 2, kBFloat16 = 3, kUInt8 = 4 };

// A tensor's address, dtype and strides (in elements); data == nullptr: not given.
struct View {
    void* data = nullptr;
    int dtype = kFloat32;
    int64_t stride[kMaxDims] = {};
};

// One value for all samples (data == nullptr) or one per sample.
struct Level {
    double value = 0.0;
    const void* data = nullptr;
    int dtype = kFloat64;
    int64_t stride = 0;

    WARMOPS_INLINE double at(int64_t i) const {
        if (!data) return value;
        if (dtype == kFloat64) return static_cast<const double*>(data)[i * stride];
        return static_cast<const float*>(data)[i * stride];
    }
};

struct Seed {
    int64_t base = 0;
    const int64_t* data = nullptr;
    int64_t stride = 0;

    WARMOPS_INLINE uint64_t at(int64_t i) const {
        return data ? uint64_t(data[i * stride]) : uint64_t(base) + uint64_t(i);
    }
};

// x_t = scale * (A x + noise_sigma * eps) and A x, for x of sizes[0..dims) = [N, ..., H, W].
struct BlurNoiseArgs {
    int dims = 0;
    int64_t sizes[kMaxDims] = {};
    View x, noise, out, blurred;
    Level blur_sigma, noise_sigma, scale;
    Seed seed;
    int threads = 1;
};

struct NormalArgs {
    int dims = 0;
    int64_t sizes[kMaxDims] = {};
    View out;
    Seed seed;
    int threads = 1;
};

// y = scale * D(ends_out) K D(ends_in) x along one dimension; kind: cosine I to IV, then sine I to IV, without factors.
struct DctAxis {
    int dim = 0, kind = 0;
    double scale = 1.0, ends_in = 1.0, ends_out = 1.0;
};

// x of sizes_in is cropped or padded with zeros to sizes along the axes, and equals it elsewhere.
struct DctArgs {
    int dims = 0, axes = 0;
    int64_t sizes_in[kMaxDims] = {}, sizes[kMaxDims] = {};
    View x, out;
    DctAxis axis[kMaxDims];
    int threads = 1;
};

// The linear form of warmops/sampler_step.py on x of sizes[0..dims) = [N, ..., H, W].
struct SamplerStepArgs {
    int dims = 0;
    int64_t sizes[kMaxDims] = {};
    View x, head_b, head_r, slope, out, slope_out;
    const double* coefficients = nullptr;  // 14 numbers per sample
    int64_t coefficient_stride = 0;        // 0: the same for all samples
    int threads = 1;
};

// The kernels of one instruction set.
struct Kernels {
    const char* name;
    bool (*supported)();
    void (*blur_noise)(const BlurNoiseArgs&);
    void (*normal)(const NormalArgs&);
    void (*dct)(const DctArgs&);
    void (*sampler_step)(const SamplerStepArgs&);
};

extern const Kernels kBaselineKernels;
#ifdef __x86_64__
extern const Kernels kAvx2Kernels;
extern const Kernels kAvx512Kernels;
#endif

// Offset in elements of the plane (or row) with this flat index over the dimensions [first, last).
WARMOPS_INLINE int64_t offset_of(int64_t index, const int64_t* sizes, const int64_t* strides, int first, int last) {
    int64_t offset = 0;
    for (int d = last - 1; d >= first; --d) {
        offset += (index % sizes[d]) * strides[d];
        index /= sizes[d];
    }
    return offset;
}

}  // namespace warmops
