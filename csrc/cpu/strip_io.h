// Strips: kLanes sequences side by side, element j of all of them in vector j; to and from tensors of any stride.
#pragma once
#include "pixels.h"

namespace {

// Where the sequences of a strip begin in a tensor, and the distance of their elements.
template <class P>
struct Sequences {
    P* begin[kBytes / 4];
    int count;               // at most kLanes
    int64_t along;           // stride within a sequence
    bool adjacent = false;   // the sequences are neighbours in memory
    bool by_halves = false;  // there are kLanes of them, and those of either half are neighbours

    // Sequences [first, first + n), each at the distance apart of the one before.
    void place(int first, int64_t n, P* at, int64_t apart) {
        for (int64_t l = 0; l < n; ++l) begin[first + l] = at + l * apart;
    }

    template <class T>
    void find_adjacent() {
        constexpr int H = kLanes<T> / 2;
        adjacent = neighbours(0, count);
        by_halves = !adjacent && count == 2 * H && neighbours(0, H) && neighbours(H, H);
    }

  private:
    bool neighbours(int first, int n) const {
        for (int l = 1; l < n; ++l)
            if (begin[first + l] != begin[first] + l) return false;
        return true;
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
    if (s.by_halves) {
        for (int64_t j = 0; j < points; ++j) store(strip + j * step, f * Pixel<P, T>::read_halves(s.begin[0] + j * s.along, s.begin[L / 2] + j * s.along));
        return;
    }
    if (s.along == 1) {
        int64_t j = 0;
        if (s.count == L)
            for (; j + L <= points; j += L)
                transpose<T>([&](int l, int h) WARMOPS_INLINE_LAMBDA { return Pixel<P, T>::read_halves(s.begin[l] + j + h * (L / 2), s.begin[l + L / 2] + j + h * (L / 2)); },
                             [&](int c, V<T> v) WARMOPS_INLINE_LAMBDA { store(strip + (j + c) * step, f * v); });
        if (s.count == L && j + L / 2 <= points) {
            V<T> v[L / 2];
#pragma GCC unroll 8
            for (int l = 0; l < L / 2; ++l) v[l] = Pixel<P, T>::read_halves(s.begin[l] + j, s.begin[l + L / 2] + j);
            transpose_half(v);
#pragma GCC unroll 8
            for (int c = 0; c < L / 2; ++c) store(strip + (j + c) * step, f * v[c]);
            j += L / 2;
        }
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
    if (s.by_halves) {
        for (int64_t j = 0; j < points; ++j) Pixel<P, T>::write_halves(s.begin[0] + j * s.along, s.begin[L / 2] + j * s.along, load(strip + j * step));
        return;
    }
    if (s.along == 1) {
        int64_t j = 0;
        if (s.count == L)
            for (; j + L <= points; j += L)
                transpose<T>(rows_of(strip + j * step, step), [&](int c, V<T> v) WARMOPS_INLINE_LAMBDA { Pixel<P, T>::write(s.begin[c] + j, v); });
        if (s.count == L && j + L / 2 <= points) {
            V<T> v[L / 2];
#pragma GCC unroll 8
            for (int c = 0; c < L / 2; ++c) v[c] = load(strip + (j + c) * step);
            transpose_half(v);
#pragma GCC unroll 8
            for (int l = 0; l < L / 2; ++l) Pixel<P, T>::write_halves(s.begin[l] + j, s.begin[l + L / 2] + j, v[l]);
            j += L / 2;
        }
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
