// Cosine and sine transforms on a CUDA device, along one axis or along two in one launch.
#pragma once
#include <stdint.h>

#include "normal.h"  // kMaxDims

namespace warmops {
namespace cuda {

// kind: 0..3 cosine I..IV, 4..7 sine I..IV, or nothing at all; y = scale D(ends_out) K D(ends_in) x, K without a factor,
// D times the special elements: cosine I the first and the last, II and III element 0 (sine: n-1) of their output, input.
constexpr int kNone = 8;

struct DctAxis {
    int kind = kNone;
    int64_t in = 1, out = 1;  // elements of x that are used (zeros follow), elements of the result
    int64_t x_stride = 0, out_stride = 0;  // in elements
    double scale = 1.0, ends_in = 1.0, ends_out = 1.0;
};

// Axis b is the one that memory likes to run along. dtypes: 0 float64, 1 float32, 2 float16, 3 bfloat16; with float64 both are.
struct Dct {
    const void* x = nullptr;
    void* out = nullptr;
    int x_dtype = 1, out_dtype = 1;
    DctAxis a, b;
    int dims = 0;  // of the batch
    int64_t sizes[kMaxDims] = {};
    int64_t x_strides[kMaxDims] = {};
    int64_t out_strides[kMaxDims] = {};
};

// Shared memory in bytes that a block may have on the current device; 0 where there is none.
int64_t dct_shared_limit();

// One launch on a stream (a cudaStream_t); out may be x. Returns null, or what went wrong.
const char* dct(const Dct& d, void* stream);

}  // namespace cuda
}  // namespace warmops
