// Standard normals: a grid-stride loop over groups of four or eight elements.
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <type_traits>

#include "normal_group.h"

namespace warmops {
namespace cuda {
namespace {

constexpr int kThreads = 256;
constexpr int64_t kMaxBlocks = 1 << 16;

template <class T>
struct Rounded {
    __device__ T operator()(typename Arithmetic<T>::type x) const {
        if constexpr (sizeof(T) >= 4) return x;
        else if constexpr (std::is_same<T, __half>::value) return __float2half_rn(x);
        else return __float2bfloat16_rn(x);
    }
};

template <class T, bool kVectorised>
__global__ void __launch_bounds__(kThreads) normal_kernel(const Target out, const Seeds seeds, const int64_t per_sample) {
    const int64_t groups = out.sizes[0] * groups_per_sample<T>(per_sample);
    for (int64_t i = int64_t(blockIdx.x) * kThreads + threadIdx.x; i < groups; i += int64_t(gridDim.x) * kThreads)
        write_group<T, kVectorised>(out, seeds, per_sample, i, Rounded<T>());
}

template <class T>
cudaError_t launch(const Target& target, const Seeds& seeds, cudaStream_t stream) {
    const int64_t per_sample = sample_size(target);
    if (target.sizes[0] * per_sample == 0) return cudaSuccess;
    const Target out = merged(target);
    const int64_t blocks = (out.sizes[0] * groups_per_sample<T>(per_sample) + kThreads - 1) / kThreads;
    const unsigned grid = unsigned(blocks < kMaxBlocks ? blocks : kMaxBlocks);
    if (vectorisable(out, sizeof(T)))
        normal_kernel<T, true><<<grid, kThreads, 0, stream>>>(out, seeds, per_sample);
    else
        normal_kernel<T, false><<<grid, kThreads, 0, stream>>>(out, seeds, per_sample);
    return cudaGetLastError();
}

}  // namespace

const char* normal(const Target& target, const Seeds& seeds, void* stream) {
    const cudaStream_t s = static_cast<cudaStream_t>(stream);
    cudaError_t error;
    switch (target.dtype) {
        case 0: error = launch<double>(target, seeds, s); break;
        case 1: error = launch<float>(target, seeds, s); break;
        case 2: error = launch<__half>(target, seeds, s); break;
        case 3: error = launch<__nv_bfloat16>(target, seeds, s); break;
        default: return "out must be float64, float32, float16 or bfloat16";
    }
    return error == cudaSuccess ? nullptr : cudaGetErrorString(error);
}

}  // namespace cuda
}  // namespace warmops
