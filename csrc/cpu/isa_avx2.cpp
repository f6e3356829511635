// The kernels for avx2: the same source as the other instruction sets, compiled with its flags.
#include "blur_noise.h"
#include "dct.h"
#include "normal.h"
#include "sampler_step.h"

namespace {
bool supported() { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }
}  // namespace

namespace warmops {
extern const Kernels kAvx2Kernels = {"avx2", supported, blur_noise, normal, dct, sampler_step};
}  // namespace warmops
