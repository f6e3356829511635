// The kernel of dct_block.h: any length that fits in shared memory.
#include "dct_block.h"
#include "dct_launch.h"

namespace warmops {
namespace cuda {
namespace {

template <class T>
constexpr int kMaxThreads = sizeof(T) == 4 ? 512 : 256;  // registers limit them
constexpr int kTilesPerBlock = 4;  // a block that takes several tiles computes its tables once

// Items over the block's threads, inner ones side by side, then a barrier.
struct ThreadBlock {
    template <class F>
    WARMOPS_METHOD void each(int outer, int inner, const F& f) const {
#if defined(__CUDA_ARCH__)
        int shift = 0;
        while ((1 << shift) < inner && shift < 5) ++shift;
        for (int q = int(threadIdx.x) >> shift; q < outer; q += int(blockDim.x) >> shift)
            for (int l = int(threadIdx.x) & ((1 << shift) - 1); l < inner; l += 1 << shift) f(q, l);
        __syncthreads();
#endif
    }
};

template <class T>
__global__ void __launch_bounds__(kMaxThreads<T>) block_kernel(const __grid_constant__ Dct d, const __grid_constant__ Tiles tiles) {
    extern __shared__ __align__(16) unsigned char memory[];
    for (int64_t tile = blockIdx.x; tile < tiles.total; tile += gridDim.x)
        block_tile(d, tiles, tile, tile == blockIdx.x, reinterpret_cast<T*>(memory), ThreadBlock());
}

template <class T>
cudaError_t launch(const Dct& d, const Tiles& tiles, cudaStream_t stream) {
    const int64_t shared = block_bytes(d.a.kind, tiles.a, d.b.kind, tiles.b, sizeof(T));
    const cudaError_t allowed = allow_shared(block_kernel<T>, shared);
    if (allowed != cudaSuccess) return allowed;
    const int threads = tiles.a * tiles.b >= 8192 ? kMaxThreads<T> : tiles.a * tiles.b > 1024 ? 256 : 128;
    const int64_t blocks = tiles.total < 1024 ? tiles.total : (tiles.total + kTilesPerBlock - 1) / kTilesPerBlock;
    block_kernel<T><<<unsigned(blocks < kMaxGrid ? blocks : kMaxGrid), threads, shared, stream>>>(d, tiles);
    return cudaGetLastError();
}

}  // namespace

cudaError_t launch_block(const Dct& d, const Tiles& tiles, cudaStream_t stream) {
    return d.x_dtype == 0 ? launch<double>(d, tiles, stream) : launch<float>(d, tiles, stream);
}

}  // namespace cuda
}  // namespace warmops
