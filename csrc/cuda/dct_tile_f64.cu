// Tiles of 8 to 64 points, float64.
#include "dct_tile_kernel.h"

cudaError_t warmops::cuda::launch_tile_f64(const Dct& d, int points, cudaStream_t stream) {
    switch (points) {
        case 8: return launch_tile<double, 8>(d, stream);
        case 16: return launch_tile<double, 16>(d, stream);
        case 32: return launch_tile<double, 32>(d, stream);
        case 64: return launch_tile<double, 64>(d, stream);
        default: return cudaErrorInvalidValue;
    }
}
