// Tiles of 8 to 64 points, fp32 arithmetic.
#include "dct_tile_kernel.h"

cudaError_t warmops::cuda::launch_tile_f32(const Dct& d, int points, cudaStream_t stream) {
    switch (points) {
        case 8: return launch_tile<float, 8>(d, stream);
        case 16: return launch_tile<float, 16>(d, stream);
        case 32: return launch_tile<float, 32>(d, stream);
        case 48: return launch_tile<float, 48>(d, stream);
        case 64: return launch_tile<float, 64>(d, stream);
        default: return cudaErrorInvalidValue;
    }
}
