// The kernel of dct_block.h: any length that fits in shared memory.
#include "dct_block.h"
#include "dct_launch.h"

namespace warmops {
namespace cuda {
namespace {

template <class T>
constexpr int kMaxThreads = sizeof(T) == 4 ? 512 : 256;  // registers limit them
constexpr int kTilesPerBlock = 4;  // a block that takes several tiles computes its tables once

// Items over the block's threads, inner ones side by side in as many chunks as they need.
struct ThreadBlock {
    WARMOPS_METHOD void barrier() const {
#if defined(__CUDA_ARCH__)
        __syncthreads();
#endif
    }
    template <class F>
    WARMOPS_METHOD void loop(int outer, int inner, const F& f) const {
#if defined(__CUDA_ARCH__)
        int shift = 0;
        while ((1 << shift) < inner && shift < 5) ++shift;
        const int chunks = (inner + (1 << shift) - 1) >> shift, groups = int(blockDim.x) >> shift, group = int(threadIdx.x) >> shift;
        int q = group / chunks, chunk = group % chunks;
        while (q < outer) {
            const int l = (chunk << shift) + (int(threadIdx.x) & ((1 << shift) - 1));
            if (l < inner) f(q, l);
            q += groups / chunks;
            chunk += groups % chunks;
            if (chunk >= chunks) {
                chunk -= chunks;
                ++q;
            }
        }
#endif
    }
};

template <class T>
__global__ void __launch_bounds__(kMaxThreads<T>)
    block_kernel(const __grid_constant__ Dct d, const __grid_constant__ Tiles tiles, const int images) {
    extern __shared__ __align__(16) unsigned char memory[];
    for (int64_t index = blockIdx.x; index * images < tiles.total; index += gridDim.x)
        block_tile(d, tiles, images, index, index == blockIdx.x, reinterpret_cast<T*>(memory), ThreadBlock());
}

template <class T>
cudaError_t launch(const Dct& d, const Tiles& tiles, cudaStream_t stream) {
    const int images = block_images(d, tiles, sizeof(T));
    const int64_t shared = block_bytes(d.a.kind, tiles.a, d.b.kind, tiles.b, sizeof(T), images);
    const cudaError_t allowed = allow_shared(block_kernel<T>, shared);
    if (allowed != cudaSuccess) return allowed;
    const int elements = images * tiles.a * tiles.b, threads = elements > 8192 ? kMaxThreads<T> : elements > 1024 ? 256 : 128;
    const int64_t loads = (tiles.total + images - 1) / images;
    const int64_t blocks = loads < 1024 ? loads : (loads + kTilesPerBlock - 1) / kTilesPerBlock;
    block_kernel<T><<<unsigned(blocks < kMaxGrid ? blocks : kMaxGrid), threads, shared, stream>>>(d, tiles, images);
    return cudaGetLastError();
}

}  // namespace

cudaError_t launch_block(const Dct& d, const Tiles& tiles, cudaStream_t stream) {
    return d.x_dtype == 0 ? launch<double>(d, tiles, stream) : launch<float>(d, tiles, stream);
}

}  // namespace cuda
}  // namespace warmops
