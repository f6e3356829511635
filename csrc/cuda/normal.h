// Standard normals on a CUDA device.
#pragma once
#include <stdint.h>

namespace warmops {
namespace cuda {

constexpr int kMaxDims = 16;

// A floating tensor [N, ...] on the device; strides in elements. dtype: 0 float64, 1 float32, 2 float16, 3 bfloat16.
struct Target {
    void* data = nullptr;
    int dtype = 1;
    int dims = 0;
    int64_t sizes[kMaxDims] = {};
    int64_t strides[kMaxDims] = {};
};

// Sample i has seed data[i * stride] (data on the device), or base + i where data is null.
struct Seeds {
    int64_t base = 0;
    const int64_t* data = nullptr;
    int64_t stride = 0;
};

// Fills target on a stream (a cudaStream_t). Returns null, or CUDA's message of what went wrong.
const char* normal(const Target& target, const Seeds& seeds, void* stream);

}  // namespace cuda
}  // namespace warmops
