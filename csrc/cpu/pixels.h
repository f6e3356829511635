// Rows of a tensor of any dtype and stride, to and from the dtype that the kernels compute in.
#pragma once
#include "args.h"
#include "simd.h"

namespace {

struct Half {
    uint16_t bits;
};
struct BFloat {
    uint16_t bits;
};

// Vectors of pixels in the compute dtype T. P is how they are stored.
template <class P, class T>
struct Pixel;

template <>
struct Pixel<float, float> {
    static WARMOPS_INLINE VF read(const float* p) { return load(p); }
    static WARMOPS_INLINE void write(float* p, VF v) { store(p, v); }
};
template <>
struct Pixel<double, double> {
    static WARMOPS_INLINE VD read(const double* p) { return load(p); }
    static WARMOPS_INLINE void write(double* p, VD v) { store(p, v); }
};
template <>
struct Pixel<Half, float> {
    static WARMOPS_INLINE VF read(const Half* p) { return from_half(*reinterpret_cast<const VHu*>(p)); }
    static WARMOPS_INLINE void write(Half* p, VF v) { *reinterpret_cast<VHu*>(p) = to_half(v); }
};
template <>
struct Pixel<BFloat, float> {
    static WARMOPS_INLINE VF read(const BFloat* p) { return from_bfloat(*reinterpret_cast<const VHu*>(p)); }
    static WARMOPS_INLINE void write(BFloat* p, VF v) { *reinterpret_cast<VHu*>(p) = to_bfloat(v); }
};
template <>
struct Pixel<uint8_t, float> {
    static WARMOPS_INLINE VF read(const uint8_t* p) { return from_byte(*reinterpret_cast<const VBu*>(p)); }
};

// Up to one vector of pixels, gathered when they are not neighbours; lanes beyond count hold what a zero stands for.
template <class P, class T>
inline V<T> read_some(const P* p, int64_t stride, int64_t count) {
    P some[kLanes<T>];
    memset(some, 0, sizeof some);
    for (int64_t i = 0; i < count; ++i) some[i] = p[i * stride];
    return Pixel<P, T>::read(some);
}
template <class P, class T>
inline void write_some(P* p, int64_t stride, int64_t count, V<T> v) {
    P some[kLanes<T>];
    Pixel<P, T>::write(some, v);
    for (int64_t i = 0; i < count; ++i) p[i * stride] = some[i];
}

// The same for neighbours.
template <class P, class T>
struct First {
    static WARMOPS_INLINE V<T> read(const P* p, int64_t count) { return read_some<P, T>(p, 1, count); }
    static WARMOPS_INLINE void write(P* p, int64_t count, V<T> v) { write_some<P, T>(p, 1, count, v); }
};
template <class T>
struct First<T, T> {
    static WARMOPS_INLINE V<T> read(const T* p, int64_t count) { return load_first(p, count); }
    static WARMOPS_INLINE void write(T* p, int64_t count, V<T> v) { store_first(p, count, v); }
};

// count pixels to a row of whole vectors.
template <class P, class T>
inline void read_row(const P* p, int64_t stride, int64_t count, T* row) {
    constexpr int64_t L = kLanes<T>;
    int64_t i = 0;
    if (stride == 1)
        for (; i + L <= count; i += L) store(row + i, Pixel<P, T>::read(p + i));
    for (; i < count; i += L) {
        const int64_t left = count - i < L ? count - i : L;
        store(row + i, stride == 1 ? First<P, T>::read(p + i, left) : read_some<P, T>(p + i * stride, stride, left));
    }
}

}  // namespace
