// Cosine transforms II, III and IV of a strip of any length, in O(n log n) but for the odd factor of n.
//
// The plain kernels of ../dct_codelets.h, and their recursion in memory: II(n) is II(n/2), and two II(n/4) after rotations.
#pragma once
#include <math.h>

#include "buffer.h"
#include "direct.h"
#include "scaled.h"

#include "../dct_codelets.h"  // after scaled.h

namespace {

template <class T>
using Transform = void (*)(const T* in, int64_t ldi, T* out, int64_t ldo);

template <class T, int N, int TYPE>
void codelet(const T* in, int64_t ldi, T* out, int64_t ldo) {
    V<T> x[N];
#pragma GCC unroll 64
    for (int j = 0; j < N; ++j) x[j] = load(in + j * ldi);
    if constexpr (TYPE == 2) Codelet<N>::dct2(x);
    if constexpr (TYPE == 3) Codelet<N>::dct3(x);
    if constexpr (TYPE == 4) Codelet<N>::dct4(x);
#pragma GCC unroll 64
    for (int j = 0; j < N; ++j) store(out + j * ldo, x[j]);
}

// out = III(d(j) * II(in)), plus in when identity.
template <class T, int N, class D>
WARMOPS_INLINE void filter_codelet(const T* in, int64_t ldi, T* out, int64_t ldo, const D& d, bool identity) {
    V<T> x[N];
#pragma GCC unroll 64
    for (int j = 0; j < N; ++j) x[j] = load(in + j * ldi);
    Codelet<N>::dct2(x);
#pragma GCC unroll 64
    for (int j = 0; j < N; ++j) x[j] = x[j] * d(j);
    Codelet<N>::dct3(x);
    if (identity) {
#pragma GCC unroll 64
        for (int j = 0; j < N; ++j) store(out + j * ldo, x[j] + load(in + j * ldi));
    } else {
#pragma GCC unroll 64
        for (int j = 0; j < N; ++j) store(out + j * ldo, x[j]);
    }
}

// One factor for each frequency of all sequences, and one for each frequency of each sequence.
template <class T, int N>
void filter_by_number(const T* in, int64_t ldi, T* out, int64_t ldo, const T* d, bool identity) {
    filter_codelet<T, N>(in, ldi, out, ldo, [=](int j) WARMOPS_INLINE_LAMBDA { return set1(d[j]); }, identity);
}
template <class T, int N>
void filter_by_vector(const T* in, int64_t ldi, T* out, int64_t ldo, const T* d, int64_t ldd) {
    filter_codelet<T, N>(in, ldi, out, ldo, [=](int j) WARMOPS_INLINE_LAMBDA { return load(d + j * ldd); }, false);
}

template <class T>
struct Codelets {
    Transform<T> dct2 = nullptr, dct3 = nullptr, dct4 = nullptr;
    void (*filter)(const T*, int64_t, T*, int64_t, const T*, bool) = nullptr;
    void (*filter_each)(const T*, int64_t, T*, int64_t, const T*, int64_t) = nullptr;

    // Those that pay for the time they take to compile.
    static Codelets of(int64_t n) {
        switch (n) {
            case 1: return sized<1>();
            case 2: return sized<2>();
            case 3: return sized<3>();
            case 4: return sized<4>();
            case 5: return sized<5>();
            case 6: return sized<6>();
            case 7: return sized<7>();
            case 8: return sized<8>();
            case 12: return sized<12>();
            case 14: return sized<14>();
            case 16: return sized<16>();
            case 24: return sized<24>();
            case 28: return sized<28>();
            case 32: return sized<32>();
        }
        if constexpr (kLanes<T> >= 8 && sizeof(T) == 4) {
            if (n == 48) return sized<48>();
            if (n == 64) return sized<64>();
        }
        return {};
    }

    template <int N>
    static Codelets sized() {
        if constexpr (N <= 32) {
            return {codelet<T, N, 2>, codelet<T, N, 3>, codelet<T, N, 4>, filter_by_number<T, N>, filter_by_vector<T, N>};
        } else {
            return {codelet<T, N, 2>, codelet<T, N, 3>, nullptr, filter_by_number<T, N>, filter_by_vector<T, N>};
        }
    }
};

// cos(pi i / (4 n)), i in [0, 8 n): every constant of a transform of n points.
struct Cosines {
    int64_t n;
    Buffer<double> quarter;  // the first quarter turn

    explicit Cosines(int64_t n_) : n(n_), quarter(2 * n_ + 1) {
        for (int64_t i = 0; i <= n; ++i) {
            quarter.data[i] = cos(M_PI * double(i) / double(4 * n));
            quarter.data[2 * n - i] = sin(M_PI * double(i) / double(4 * n));
        }
        quarter.data[n] = M_SQRT1_2;
    }
    double operator()(int64_t i) const {
        i %= 8 * n;
        if (i > 4 * n) i = 8 * n - i;
        return i > 2 * n ? -quarter.data[4 * n - i] : quarter.data[i];
    }
};

// What transforms of n points need beside the data. The sizes met are n / 2^level; the last is odd.
template <class T>
class StripDct {
    static constexpr int64_t L = kLanes<T>;

    struct Level {
        int64_t n = 0;
        Codelets<T> codelets;
        int64_t rotations = 0;  // offset of [n/2, 4]: cos, sin of t = pi (2j+1) / (4n), (-1)^j sin t, -(-1)^j cos t
    };
    static constexpr int kMaxLevels = 48;
    Level level[kMaxLevels];
    int levels = 0;
    int64_t half = 0;                              // of the odd length that is multiplied out, 0: there is none
    int64_t even2 = 0, even3 = 0, odd = 0, matrix4 = 0;  // offsets of its matrices
    int64_t ld_even = 0, ld_odd = 0, ld_four = 0;
    Buffer<T> table;

  public:
    const int64_t n;

    // four: whether dct4 will be called.
    explicit StripDct(int64_t points, bool four = false) : table(layout(points, four)), n(points) {
        if (has_tables(four)) fill_tables(four);
    }

    // Elements that the tables take, or somewhat more.
    static int64_t table_size(int64_t points, bool four) {
        int64_t base = points;
        while (base % 2 == 0) base /= 2;
        const int64_t row = round_up(base / 2 + 1, L);
        return 4 * points + (base <= 7 ? 0 : 3 * row * row + (four || base < points ? base * round_up(base, L) : 0));
    }

    // Transforms from in to out, rows of vectors ldi and ldo apart (negative: backwards). dct2 keeps in, which may be out;
    // the others lose it. scratch has kScratch * n rows; the three are apart otherwise.
    static constexpr int64_t kScratch = 3;
    void dct2(const T* in, int64_t ldi, T* out, int64_t ldo, T* scratch) const { two(0, in, ldi, scratch, L, out, ldo, scratch + n * L); }
    void dct3(T* in, int64_t ldi, T* out, int64_t ldo, T* scratch) const { three(0, in, ldi, out, ldo, scratch); }
    void dct4(T* in, int64_t ldi, T* out, int64_t ldo, T* scratch) const { four(0, in, ldi, out, ldo, scratch); }

    // result has n rows.
    void dct3_in_place(T* x, int64_t ld, T* result, T* scratch) const {
        if (level[0].codelets.dct3) return level[0].codelets.dct3(x, ld, x, ld);
        three(0, x, ld, result, L, scratch);
        for (int64_t j = 0; j < n; ++j) store(x + j * ld, load(result + j * L));
    }

    // III of n / 2^l points. It takes fewer rows of scratch.
    void dct3_part(int l, T* in, int64_t ldi, T* out, int64_t ldo, T* scratch) const { three(l, in, ldi, out, ldo, scratch); }

    // out = III(d * II(in)), plus in when identity. in is kept, and may be out. scratch has kFilterScratch * n rows.
    static constexpr int64_t kFilterScratch = 2 + kScratch;
    void filter(const T* in, int64_t ldi, T* out, int64_t ldo, const T* d, bool identity, T* scratch) const {
        if (level[0].codelets.filter) return level[0].codelets.filter(in, ldi, out, ldo, d, identity);
        T *x = scratch, *y = x + n * L, *rest = y + n * L;
        two(0, in, ldi, x, L, y, L, rest);
        for (int64_t j = 0; j < n; ++j) store(y + j * L, load(y + j * L) * set1(d[j]));
        if (!identity) return three(0, y, L, out, ldo, rest);
        three(0, y, L, x, L, rest);
        for (int64_t j = 0; j < n; ++j) store(out + j * ldo, load(in + j * ldi) + load(x + j * L));
    }

    // out = III(d * II(in)), d: [n, ldd], a vector for each frequency. Loses in. scratch has kScratch * n rows; the three are apart.
    void filter_each(T* in, int64_t ldi, T* out, int64_t ldo, const T* d, int64_t ldd, T* scratch) const {
        if (level[0].codelets.filter_each) return level[0].codelets.filter_each(in, ldi, out, ldo, d, ldd);
        dct2(in, ldi, out, ldo, scratch);
        for (int64_t j = 0; j < n; ++j) store(in + j * ldi, load(out + j * ldo) * load(d + j * ldd));
        dct3(in, ldi, out, ldo, scratch);
    }

    // x = III(d * II(x)), plus x in the lanes whose bits of identity are ones; d: [n, L], a vector for each frequency. scratch as for filter.
    void filter_lanes(T* x, int64_t ld, const T* d, const T* identity, T* scratch) const {
        T *y = scratch, *z = y + n * L, *rest = z + n * L;
        if (level[0].codelets.filter_each) {
            level[0].codelets.filter_each(x, ld, y, L, d, L);
        } else {
            two(0, x, ld, y, L, z, L, rest);
            for (int64_t j = 0; j < n; ++j) store(z + j * L, load(z + j * L) * load(d + j * L));
            three(0, z, L, y, L, rest);
        }
        const VI added = (VI)load(identity);
        for (int64_t j = 0; j < n; ++j) store(x + j * ld, select(added, load(x + j * ld) + load(y + j * L), load(y + j * L)));
    }

  private:
    bool has_tables(bool four) const { return !level[0].codelets.dct2 || (four && !level[0].codelets.dct4); }

    int64_t layout(int64_t points, bool four) {
        int64_t size = 0;
        for (bool last = false; !last; points /= 2) {
            Level& at = level[levels++];
            at.n = points;
            at.codelets = Codelets<T>::of(points);
            at.rotations = size;
            last = points % 2;
            if (points % 2 == 0 && has_tables(four)) size += 2 * points;
        }
        const Level& base = level[levels - 1];
        if (base.codelets.dct2) return size;
        half = base.n / 2;
        ld_even = round_up(half + 1, L);
        ld_odd = round_up(half, L);
        ld_four = round_up(base.n, L);
        even2 = size;
        even3 = even2 + (half + 1) * ld_even;
        odd = even3 + (half + 1) * ld_even;
        matrix4 = odd + half * ld_odd;
        return matrix4 + (four || levels > 1 ? base.n * ld_four : 0);
    }

    void fill_tables(bool four) {
        const Cosines cosine(n);  // cosine(i) = cos(pi i / (4n))
        for (int l = 0; l < levels && level[l].n % 2 == 0; ++l) {
            const int64_t step = int64_t(1) << l;
            T* r = table.data + level[l].rotations;
            for (int64_t j = 0; j < level[l].n / 2; ++j, r += 4) {
                const double c = cosine((2 * j + 1) * step), s = cosine(2 * n - (2 * j + 1) * step), sign = j % 2 ? -1.0 : 1.0;
                r[0] = T(c);
                r[1] = T(s);
                r[2] = T(sign * s);
                r[3] = T(-sign * c);
            }
        }
        if (half == 0) return;
        const int64_t m = level[levels - 1].n, step = int64_t(1) << (levels - 1);
        for (int64_t p = 0; p <= half; ++p)
            for (int64_t i = 0; i <= half; ++i) {
                const T c = T(cosine(2 * i * (2 * p + 1) % (4 * m) * 2 * step));
                table.data[even2 + p * ld_even + i] = c;
                table.data[even3 + i * ld_even + p] = c;
                if (p < half && i < half) table.data[odd + p * ld_odd + i] = T(cosine((2 * i + 1) * (2 * p + 1) % (4 * m) * 2 * step));
            }
        if (!four && levels == 1) return;
        for (int64_t k = 0; k < m; ++k)
            for (int64_t j = 0; j < m; ++j) table.data[matrix4 + j * ld_four + k] = T(cosine((2 * k + 1) * (2 * j + 1) % (8 * m) * step));
    }

    // From in, by way of work (which may be in, rows ldw apart then as well), to out.
    void two(int l, const T* in, int64_t ldi, T* work, int64_t ldw, T* out, int64_t ldo, T* scratch) const {
        const Level& at = level[l];
        const int64_t size = at.n, N = size / 2, M = size / 4;
        if (at.codelets.dct2) return at.codelets.dct2(in, ldi, out, ldo);
        const T* const last_in = in + (size - 1) * ldi;
        T* const last = work + (size - 1) * ldw;
        if (size % 4 != 0) {
            for (int64_t j = 0; j < N; ++j) {
                const V<T> x = load(in + j * ldi), y = load(last_in - j * ldi);
                store(work + j * ldw, x + y);
                store(last - j * ldw, x - y);
            }
            if (size % 2 == 0) {
                two(l + 1, work, ldw, work, ldw, out, 2 * ldo, scratch);
                four(l + 1, last, -ldw, out + ldo, 2 * ldo, scratch);
            } else {
                store(work + N * ldw, load(in + N * ldi));
                direct_and_sum(work, ldw, half + 1, table.data + even2, ld_even, half + 1, out, 2 * ldo);
                direct(last, -ldw, half, table.data + odd, ld_odd, half, out + ldo, 2 * ldo);
            }
            return;
        }
        const T *r = table.data + level[l + 1].rotations, *const middle_in = in + N * ldi;
        T* const middle = work + N * ldw;
        for (int64_t j = 0; j < M; ++j, r += 4) {
            const V<T> x0 = load(in + j * ldi), x1 = load(middle_in - (j + 1) * ldi);
            const V<T> x2 = load(middle_in + j * ldi), x3 = load(last_in - j * ldi);
            const V<T> o0 = x0 - x3, o1 = x1 - x2;
            store(work + j * ldw, x0 + x3);
            store(middle - (j + 1) * ldw, x1 + x2);
            store(middle + j * ldw, fma(o1, set1(r[1]), o0 * set1(r[0])));
            store(last - j * ldw, fma(o1, set1(r[3]), o0 * set1(r[2])));
        }
        T *a = scratch, *b = a + M * L, *rest = b + M * L;
        two(l + 1, work, ldw, work, ldw, out, 2 * ldo, rest);
        two(l + 2, middle, ldw, middle, ldw, a, L, rest);
        two(l + 2, last, -ldw, last, -ldw, b, L, rest);
        join(a, b, M, out + ldo, 2 * ldo);
    }

    void three(int l, T* in, int64_t ldi, T* out, int64_t ldo, T* scratch) const {
        const Level& at = level[l];
        const int64_t size = at.n, N = size / 2, M = size / 4;
        if (at.codelets.dct3) return at.codelets.dct3(in, ldi, out, ldo);
        T* const last = out + (size - 1) * ldo;
        if (size % 4 != 0) {
            if (size % 2 == 0) {
                four(l + 1, in + ldi, 2 * ldi, last, -ldo, scratch);
                three(l + 1, in, 2 * ldi, out, ldo, scratch);
            } else {
                direct(in, 2 * ldi, half + 1, table.data + even3, ld_even, half + 1, out, ldo);
                direct(in + ldi, 2 * ldi, half, table.data + odd, ld_odd, half, last, -ldo);
            }
            for (int64_t j = 0; j < N; ++j) {
                const V<T> u = load(out + j * ldo), v = load(last - j * ldo);
                store(out + j * ldo, u + v);
                store(last - j * ldo, u - v);
            }
            return;
        }
        T *a = scratch, *b = a + M * L, *rest = b + M * L;
        split(in + ldi, 2 * ldi, M, a, b);
        T* const middle = out + N * ldo;
        three(l + 1, in, 2 * ldi, out, ldo, rest);
        three(l + 2, a, L, middle, ldo, rest);
        three(l + 2, b, L, last, -ldo, rest);
        const T* r = table.data + level[l + 1].rotations;
        for (int64_t j = 0; j < M; ++j, r += 4) {
            T *p0 = out + j * ldo, *p1 = middle - (j + 1) * ldo, *p2 = middle + j * ldo, *p3 = last - j * ldo;
            const V<T> u0 = load(p0), u1 = load(p1), x = load(p2), y = load(p3);
            const V<T> o0 = fma(y, set1(r[2]), x * set1(r[0])), o1 = fma(y, set1(r[3]), x * set1(r[1]));
            store(p0, u0 + o0);
            store(p1, u1 + o1);
            store(p2, u1 - o1);
            store(p3, u0 - o0);
        }
    }

    void four(int l, T* in, int64_t ldi, T* out, int64_t ldo, T* scratch) const {
        const Level& at = level[l];
        const int64_t size = at.n, M = size / 2;
        if (at.codelets.dct4) return at.codelets.dct4(in, ldi, out, ldo);
        if (size % 2) return direct(in, ldi, size, table.data + matrix4, ld_four, size, out, ldo);
        const T* r = table.data + at.rotations;
        T* const last = in + (size - 1) * ldi;
        for (int64_t j = 0; j < M; ++j, r += 4) {
            const V<T> x = load(in + j * ldi), y = load(last - j * ldi);
            store(in + j * ldi, fma(y, set1(r[1]), x * set1(r[0])));
            store(last - j * ldi, fma(y, set1(r[3]), x * set1(r[2])));
        }
        T *a = scratch, *b = a + M * L, *rest = b + M * L;
        two(l + 1, in, ldi, in, ldi, a, L, rest);
        two(l + 1, last, -ldi, last, -ldi, b, L, rest);
        join(a, b, M, out, ldo);
    }

    // The last step of IV(2M) from its two II(M), and its transpose.
    static void join(const T* a, const T* b, int64_t M, T* out, int64_t ldo) {
        store(out, load(a));
        for (int64_t k = 1; k < M; ++k) {
            const V<T> x = load(a + k * L), y = load(b + (M - k) * L);
            store(out + (2 * k - 1) * ldo, x + y);
            store(out + 2 * k * ldo, x - y);
        }
        store(out + (2 * M - 1) * ldo, load(b));
    }
    static void split(const T* in, int64_t ldi, int64_t M, T* a, T* b) {
        store(a, load(in));
        for (int64_t k = 1; k < M; ++k) {
            const V<T> x = load(in + (2 * k - 1) * ldi), y = load(in + 2 * k * ldi);
            store(a + k * L, x + y);
            store(b + (M - k) * L, x - y);
        }
        store(b, load(in + (2 * M - 1) * ldi));
    }
};

}  // namespace
