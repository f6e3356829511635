// Tiles of 128 points, fp32 arithmetic.
#include "dct_tile_kernel.h"

cudaError_t warmops::cuda::launch_tile_f32_128(const Dct& d, cudaStream_t stream) { return launch_tile<float, 128>(d, stream); }
