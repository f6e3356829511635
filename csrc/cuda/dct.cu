// Which kernel a transform takes.
#include "dct_block.h"
#include "dct_launch.h"
#include "dct_tile.h"

namespace warmops {
namespace cuda {

int64_t dct_shared_limit() {
    int device = 0, bytes = 0;
    if (cudaGetDevice(&device) != cudaSuccess) return 0;
    return cudaDeviceGetAttribute(&bytes, cudaDevAttrMaxSharedMemoryPerBlockOptin, device) == cudaSuccess ? bytes : 0;
}

const char* dct(const Dct& d, void* stream) {
    const cudaStream_t s = static_cast<cudaStream_t>(stream);
    const bool twice = d.x_dtype == 0;
    const int points = tile_points(d);
    cudaError_t error;
    if (points == 0) {
        const Tiles tiles = block_tiles(d, twice ? 8 : 4, dct_shared_limit());
        if (tiles.a == 0) return "the transform does not fit in shared memory";
        error = launch_block(d, tiles, s);
    } else if (twice) {
        error = launch_tile_f64(d, points, s);
    } else {
        error = points == 128 ? launch_tile_f32_128(d, s) : launch_tile_f32(d, points, s);
    }
    return error == cudaSuccess ? nullptr : cudaGetErrorString(error);
}

}  // namespace cuda
}  // namespace warmops
