// Launches of one kind of kernel each, in files of their own so that they compile side by side.
#pragma once
#include <cuda_runtime.h>

#include "dct_spot.h"

namespace warmops {
namespace cuda {

constexpr int64_t kMaxGrid = INT32_MAX;

cudaError_t launch_tile_f32(const Dct& d, int points, cudaStream_t stream);
cudaError_t launch_tile_f32_128(const Dct& d, cudaStream_t stream);
cudaError_t launch_tile_f64(const Dct& d, int points, cudaStream_t stream);
cudaError_t launch_block(const Dct& d, const Tiles& tiles, cudaStream_t stream);

// Lets a kernel have so much shared memory; as much as there is for its blocks, for they hardly use the cache it is cut from.
template <class Kernel>
cudaError_t allow_shared(Kernel* kernel, int64_t bytes) {
    const cudaError_t error = cudaFuncSetAttribute(kernel, cudaFuncAttributePreferredSharedMemoryCarveout, cudaSharedmemCarveoutMaxShared);
    if (error != cudaSuccess || bytes <= 48 * 1024) return error;
    return cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, int(bytes));
}

}  // namespace cuda
}  // namespace warmops
