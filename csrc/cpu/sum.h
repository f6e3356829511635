// Sums of images with factors, rows at a time.
#pragma once
#include "simd.h"

namespace {

// Neighbouring rows of an image, in a tensor or copied from one.
template <class T>
struct Rows {
    T* data = nullptr;
    int64_t ld = 0;
};

// Sums of rows with factors: one sum, or two of the same rows.
template <class T>
class Sum {
    static constexpr int64_t L = kLanes<T>;
    Rows<const T> of[5];
    T factor[5], other[5];
    int terms = 0;

  public:
    void add(Rows<const T> rows, double f, double g = 0.0) {
        of[terms] = rows;
        factor[terms] = T(f);
        other[terms++] = T(g);
    }
    void write(Rows<T> to, Rows<T> second, int64_t count, int64_t width) const {
        switch (terms) {
            case 1: return second.data ? write<1, true>(to, second, count, width) : write<1, false>(to, second, count, width);
            case 2: return second.data ? write<2, true>(to, second, count, width) : write<2, false>(to, second, count, width);
            case 3: return second.data ? write<3, true>(to, second, count, width) : write<3, false>(to, second, count, width);
            case 4: return second.data ? write<4, true>(to, second, count, width) : write<4, false>(to, second, count, width);
            default: return second.data ? write<5, true>(to, second, count, width) : write<5, false>(to, second, count, width);
        }
    }

  private:
    template <int N, bool TWO>
    void write(Rows<T> to, Rows<T> second, int64_t count, int64_t width) const {
        V<T> f[N], g[N];
        const T* p[N];
#pragma GCC unroll 5
        for (int i = 0; i < N; ++i) {
            f[i] = set1(factor[i]);
            g[i] = set1(other[i]);
            p[i] = of[i].data;
        }
        bool dense = to.ld == width && (!TWO || second.ld == width);
        for (int i = 0; i < N; ++i) dense = dense && of[i].ld == width;
        if (dense) {  // one long row
            width *= count;
            count = 1;
        }
        for (; count > 0; --count) {
            int64_t j = 0;
            for (; j + L <= width; j += L) {
                V<T> v{}, w{};
                sum<N, TWO>(v, w, f, g, [&](int i) WARMOPS_INLINE_LAMBDA { return load(p[i] + j); });
                store(to.data + j, v);
                if (TWO) store(second.data + j, w);
            }
            if (j < width) {
                V<T> v{}, w{};
                sum<N, TWO>(v, w, f, g, [&](int i) WARMOPS_INLINE_LAMBDA { return load_first(p[i] + j, width - j); });
                store_first(to.data + j, width - j, v);
                if (TWO) store_first(second.data + j, width - j, w);
            }
#pragma GCC unroll 5
            for (int i = 0; i < N; ++i) p[i] += of[i].ld;
            to.data += to.ld;
            if (TWO) second.data += second.ld;
        }
    }
    template <int N, bool TWO, class Load>
    static WARMOPS_INLINE void sum(V<T>& v, V<T>& w, const V<T> (&f)[N], const V<T> (&g)[N], const Load& at) {
#pragma GCC unroll 5
        for (int i = 0; i < N; ++i) {
            const V<T> x = at(i);
            v = i == 0 ? f[0] * x : fma(f[i], x, v);
            if (TWO) w = i == 0 ? g[0] * x : fma(g[i], x, w);
        }
    }
};

}  // namespace
