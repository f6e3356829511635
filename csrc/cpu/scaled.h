// The arithmetic of ../dct_codelets.h on vectors.
#pragma once
#include "simd.h"

namespace {

WARMOPS_INLINE VF scaled(VF x, double c) { return x * set1(float(c)); }
WARMOPS_INLINE VD scaled(VD x, double c) { return x * set1(c); }
WARMOPS_INLINE VF scaled_add(VF x, double c, VF y) { return fma(x, set1(float(c)), y); }
WARMOPS_INLINE VD scaled_add(VD x, double c, VD y) { return fma(x, set1(c), y); }

}  // namespace
