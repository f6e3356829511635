// Rows of a tensor of any dtype and stride, to and from the dtype that the kernels compute in.
#pragma once
#include "args.h"
#include "transpose.h"

namespace {

struct Half {
    uint16_t bits;
};
struct BFloat {
    uint16_t bits;
};

// Vectors of pixels in the compute dtype T. P is how they are stored, Raw a vector of them, Loose one of any address.
template <class P, class T>
struct Format;
template <>
struct Format<float, float> {
    using Raw = VF;
    using Loose = VFu;
    static WARMOPS_INLINE VF decode(VF v) { return v; }
    static WARMOPS_INLINE VF encode(VF v) { return v; }
};
template <>
struct Format<double, double> {
    using Raw = VD;
    using Loose = VDu;
    static WARMOPS_INLINE VD decode(VD v) { return v; }
    static WARMOPS_INLINE VD encode(VD v) { return v; }
};
template <>
struct Format<Half, float> {
    using Raw = VH;
    using Loose = VHu;
    static WARMOPS_INLINE VF decode(VH v) { return from_half(v); }
    static WARMOPS_INLINE VH encode(VF v) { return to_half(v); }
};
template <>
struct Format<BFloat, float> {
    using Raw = VH;
    using Loose = VHu;
    static WARMOPS_INLINE VF decode(VH v) { return from_bfloat(v); }
    static WARMOPS_INLINE VH encode(VF v) { return to_bfloat(v); }
};
template <>
struct Format<uint8_t, float> {
    using Raw = VB;
    using Loose = VBu;
    static WARMOPS_INLINE VF decode(VB v) { return from_byte(v); }
};

template <class P, class T>
struct Pixel : Format<P, T> {
    using typename Format<P, T>::Raw;
    using typename Format<P, T>::Loose;
    static WARMOPS_INLINE V<T> read(const P* p) { return Pixel::decode(*reinterpret_cast<const Loose*>(p)); }
    static WARMOPS_INLINE V<T> read_halves(const P* low, const P* high) { return Pixel::decode(join<Raw>(low, high)); }
    static WARMOPS_INLINE void write(P* p, V<T> v) { *reinterpret_cast<Loose*>(p) = Pixel::encode(v); }
    static WARMOPS_INLINE void write_halves(P* low, P* high, V<T> v) { part<Raw>(Pixel::encode(v), low, high); }
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

// Rows of width pixels, strides [rows, columns], one after the other.
template <class P, class T>
inline void read_rows(const P* p, const int64_t* stride, int64_t count, int64_t width, T* rows) {
    if (stride[1] == 1 && stride[0] == width) return read_row<P, T>(p, 1, count * width, rows);
    for (int64_t r = 0; r < count; ++r) read_row<P, T>(p + r * stride[0], stride[1], width, rows + r * width);
}

}  // namespace
