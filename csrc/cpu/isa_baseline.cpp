// The kernels for baseline: the same source as the other instruction sets, compiled with its flags.
#include "blur_noise.h"
#include "dct.h"
#include "normal.h"
#include "sampler_step.h"

namespace {
bool supported() { return true; }
}  // namespace

namespace warmops {
extern const Kernels kBaselineKernels = {"baseline", supported, blur_noise, normal, dct, sampler_step};
}  // namespace warmops
