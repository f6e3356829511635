// Strips: kLanes sequences side by side, element j of all of them in vector j; to and from tensors of any stride.
#pragma once
#include "pixels.h"
#include "transpose.h"

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
        for (int64_t j = 0; j < points; j += L) {
            V<T> block[L];
            const int64_t left = points - j;
            if (left >= L && s.count == L) {
#pragma GCC unroll 16
                for (int l = 0; l < L; ++l) block[l] = Pixel<P, T>::read(s.begin[l] + j);
            } else {
                for (int l = 0; l < L; ++l) block[l] = l < s.count ? First<P, T>::read(s.begin[l] + j, left < L ? left : L) : V<T>{};
            }
            transpose(block);
            if (left >= L) {
#pragma GCC unroll 16
                for (int l = 0; l < L; ++l) store(strip + (j + l) * step, f * block[l]);
            } else {
                for (int l = 0; l < left; ++l) store(strip + (j + l) * step, f * block[l]);
            }
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
        for (int64_t j = 0; j < points; j += L) {
            V<T> block[L];
            const int64_t left = points - j;
            for (int l = 0; l < L; ++l) block[l] = l < left ? load(strip + (j + l) * step) : V<T>{};
            transpose(block);
            if (left >= L && s.count == L) {
#pragma GCC unroll 16
                for (int l = 0; l < L; ++l) Pixel<P, T>::write(s.begin[l] + j, block[l]);
            } else {
                for (int l = 0; l < s.count; ++l) First<P, T>::write(s.begin[l] + j, left < L ? left : L, block[l]);
            }
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
