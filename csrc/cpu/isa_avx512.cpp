// The kernels for avx512: the same source as the other instruction sets, compiled with its flags.
#include "blur_noise.h"
#include "dct.h"
#include "normal.h"
#include "sampler_step.h"

namespace {
bool supported() { return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("fma"); }
}  // namespace

namespace warmops {
extern const Kernels kAvx512Kernels = {"avx512", supported, blur_noise, normal, dct, sampler_step};
}  // namespace warmops
