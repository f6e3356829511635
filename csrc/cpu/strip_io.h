// Strips: kLanes sequences side by side, element j of all of them in vector j; to and from tensors of any stride.
#pragma once
#include "pixels.h"

namespace {

// Where the sequences of a strip begin in a tensor, and the distance of their elements.
template <class P>
struct Sequences {
    P* begin[kBytes / 4];
    int count;      // at most kLanes
    int64_t along;  // stride within a sequence
    bool adjacent;  // the sequences are neighbours in memory

    void find_adjacent() {
        adjacent = true;
        for (int l = 1; l < count; ++l) adjacent = adjacent && begin[l] == begin[0] + l;
    }
};

// The rows of a block, for transpose.
template <class T>
WARMOPS_INLINE auto rows_of(const T* block, int64_t step) {
    return [=](int l, int h) WARMOPS_INLINE_LAMBDA {
        const T* half = block + l * step + h * (kLanes<T> / 2);
        return join<V<T>>(half, half + kLanes<T> / 2 * step);
    };
}

// Elements [0, points) of each sequence, times factor, to strip[j * step]; lanes beyond the last sequence hold
// finite numbers.
template <class P, class T>
void load_strip(const Sequences<const P>& s, int64_t points, T* strip, int64_t step, T factor = T(1)) {
    constexpr int L = kLanes<T>;
    const V<T> f = set1(factor);
    if (s.adjacent && (s.count > 1 || s.along != 1)) {
        if (s.count == L) {
            for (int64_t j = 0; j < points; ++j) store(strip + j * step, f * Pixel<P, T>::read(s.begin[0] + j * s.along));
        } else {
            for (int64_t j = 0; j < points; ++j) store(strip + j * step, f * First<P, T>::read(s.begin[0] + j * s.along, s.count));
        }
        return;
    }
    if (s.along == 1) {
        int64_t j = 0;
        if (s.count == L)
            for (; j + L <= points; j += L)
                transpose<T>([&](int l, int h) WARMOPS_INLINE_LAMBDA { return Pixel<P, T>::read_halves(s.begin[l] + j + h * (L / 2), s.begin[l + L / 2] + j + h * (L / 2)); },
                             [&](int c, V<T> v) WARMOPS_INLINE_LAMBDA { store(strip + (j + c) * step, f * v); });
        for (; j < points; j += L) {
            alignas(kBytes) T rows[L * L];
            const int64_t left = points - j < L ? points - j : L;
            for (int l = 0; l < L; ++l) store(rows + l * L, l < s.count ? First<P, T>::read(s.begin[l] + j, left) : V<T>{});
            transpose<T>(rows_of(rows, L), [&](int c, V<T> v) WARMOPS_INLINE_LAMBDA { if (c < left) store(strip + (j + c) * step, f * v); });
        }
        return;
    }
    for (int64_t j = 0; j < points; ++j) {
        P some[L];
        memset(some, 0, sizeof some);
        for (int l = 0; l < s.count; ++l) some[l] = s.begin[l][j * s.along];
        store(strip + j * step, f * Pixel<P, T>::read(some));
    }
}

// The inverse; writes nothing but the sequences' own elements.
template <class P, class T>
void store_strip(const T* strip, int64_t step, int64_t points, const Sequences<P>& s) {
    constexpr int L = kLanes<T>;
    if (s.adjacent && (s.count > 1 || s.along != 1)) {
        if (s.count == L) {
            for (int64_t j = 0; j < points; ++j) Pixel<P, T>::write(s.begin[0] + j * s.along, load(strip + j * step));
        } else {
            for (int64_t j = 0; j < points; ++j) First<P, T>::write(s.begin[0] + j * s.along, s.count, load(strip + j * step));
        }
        return;
    }
    if (s.along == 1) {
        int64_t j = 0;
        if (s.count == L)
            for (; j + L <= points; j += L)
                transpose<T>(rows_of(strip + j * step, step), [&](int c, V<T> v) WARMOPS_INLINE_LAMBDA { Pixel<P, T>::write(s.begin[c] + j, v); });
        for (; j < points; j += L) {
            alignas(kBytes) T rows[L * L];
            const int64_t left = points - j < L ? points - j : L;
            for (int l = 0; l < L; ++l) store(rows + l * L, l < left ? load(strip + (j + l) * step) : V<T>{});
            transpose<T>(rows_of(rows, L), [&](int c, V<T> v) WARMOPS_INLINE_LAMBDA { if (c < s.count) First<P, T>::write(s.begin[c] + j, left, v); });
        }
        return;
    }
    for (int64_t j = 0; j < points; ++j) {
        P some[L];
        Pixel<P, T>::write(some, load(strip + j * step));
        for (int l = 0; l < s.count; ++l) s.begin[l][j * s.along] = some[l];
    }
}

}  // namespace
