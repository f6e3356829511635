// The kernel of dct_tile.h and its launch.
#pragma once
#include "dct_launch.h"
#include "dct_tile.h"

namespace warmops {
namespace cuda {
namespace {

template <class T, int N>
__global__ void __launch_bounds__(TileLayout<T, N>::kThreads, TileLayout<T, N>::kBlocks)
    tile_kernel(const __grid_constant__ Dct d, const __grid_constant__ Tiles tiles, const TileAccess access, const int64_t first) {
    extern __shared__ __align__(16) unsigned char memory[];
    T* shared = reinterpret_cast<T*>(memory);
    const int64_t block = first + blockIdx.x;
#pragma unroll 1
    for (int pass = 0; pass < 2; ++pass) {
        tile_pass<T, N>(d, tiles, access, pass, block, int(threadIdx.x), shared);
        __syncthreads();
    }
    tile_store<T, N>(d, tiles, access, block, int(threadIdx.x), shared);
}

template <class T, int N>
cudaError_t launch_tile(const Dct& d, cudaStream_t stream) {
    using Layout = TileLayout<T, N>;
    constexpr int64_t kShared = int64_t(Layout::kTiles) * Layout::kTile * sizeof(T);
    const cudaError_t allowed = allow_shared(tile_kernel<T, N>, kShared);
    if (allowed != cudaSuccess) return allowed;
    const Tiles tiles = tiles_of(d, N, N);
    const TileAccess access = tile_access<T, N>(d);
    const int64_t blocks = (tiles.total + Layout::kTiles - 1) / Layout::kTiles;
    for (int64_t first = 0; first < blocks; first += kMaxGrid) {
        const int64_t grid = blocks - first < kMaxGrid ? blocks - first : kMaxGrid;
        tile_kernel<T, N><<<unsigned(grid), Layout::kThreads, kShared, stream>>>(d, tiles, access, first);
    }
    return cudaGetLastError();
}

}  // namespace
}  // namespace cuda
}  // namespace warmops
