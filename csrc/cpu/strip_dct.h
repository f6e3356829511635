// Cosine transforms II, III and IV of a strip of any length, in O(n log n) but for the odd factor of n.
//
// The plain kernels of ../dct_codelets.h, and their recursion in memory: II(n) is II(n/2), and two II(n/4) after rotations.
#pragma once
#include <math.h>

#include "ahead.h"
#include "buffer.h"
#include "codelets.h"
#include "direct.h"

namespace {

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
        if (has_tables()) fill_tables(four);
    }

    // Elements that the tables take, or somewhat more.
    static int64_t table_size(int64_t points, bool four) {
        int64_t base = points;
        while (base % 2 == 0) base /= 2;
        const int64_t row = round_up(base / 2 + 1, L);
        return 4 * points + (base <= 7 ? 0 : 3 * row * row + (four || base < points ? base * round_up(base, L) : 0));
    }

    // Transforms from in to out, rows of vectors ldi and ldo apart (negative: backwards). in is kept; it may be out, but not of
    // dct4. scratch has kScratch * n rows. ahead, if there is one, is fetched meanwhile.
    static constexpr int64_t kScratch = 2;
    void dct2(const T* in, int64_t ldi, T* out, int64_t ldo, T* scratch, Ahead* ahead = nullptr) const {
        two(0, in, ldi, out, ldo, scratch, ahead);
    }
    void dct3(const T* in, int64_t ldi, T* out, int64_t ldo, T* scratch, Ahead* ahead = nullptr) const {
        three(0, in, ldi, out, ldo, scratch, ahead);
    }
    void dct4(const T* in, int64_t ldi, T* out, int64_t ldo, T* scratch) const { four(0, in, ldi, out, ldo, scratch, nullptr); }

    // III of n / 2^l points.
    void dct3_part(int l, const T* in, int64_t ldi, T* out, int64_t ldo, T* scratch) const { three(l, in, ldi, out, ldo, scratch, nullptr); }

    // out = III(d * II(in)), plus in when identity: a number or a vector for each frequency. in may be out; scratch has
    // kFilterScratch * n rows.
    static constexpr int64_t kFilterScratch = 3;
    void filter(const T* in, int64_t ldi, T* out, int64_t ldo, const T* d, bool identity, T* scratch, Ahead* ahead = nullptr) const {
        filtered(0, in, ldi, out, ldo, Numbers<T>{d, 1}, identity, scratch, ahead);
    }
    void filter_each(const T* in, int64_t ldi, T* out, int64_t ldo, const T* d, int64_t ldd, T* scratch, Ahead* ahead = nullptr) const {
        filtered(0, in, ldi, out, ldo, Vectors<T>{d, ldd}, false, scratch, ahead);
    }

    // x = III(d * II(x)), plus x in the lanes whose bits of identity are ones; d: [n, L]. scratch has kLanesScratch * n rows.
    static constexpr int64_t kLanesScratch = 1 + kFilterScratch;
    void filter_lanes(T* x, int64_t ld, const T* d, const T* identity, T* scratch) const {
        T* const y = scratch;
        filter_each(x, ld, y, L, d, L, scratch + n * L);
        const VI added = (VI)load(identity);
        for (int64_t j = 0; j < n; ++j) store(x + j * ld, select(added, load(x + j * ld) + load(y + j * L), load(y + j * L)));
    }

  private:
    bool has_tables() const { return !level[0].codelets.dct2; }

    int64_t layout(int64_t points, bool four) {
        int64_t size = 0;
        for (bool last = false; !last; points /= 2) {
            Level& at = level[levels++];
            at.n = points;
            at.codelets = Codelets<T>::of(points);
            at.rotations = size;
            last = points % 2;
            if (points % 2 == 0 && has_tables()) size += 2 * points;
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

    // size = 4 M: the sums x_j + x_{size-1-j} to e, [2 M, L]; their differences rotated to a and b, [M, L], whose two II make up
    // the odd frequencies. FOUR: of these sums, sums and differences in turn, whose II and IV make up the even ones.
    template <bool FOUR>
    void fold(int l, const T* in, int64_t ldi, T* e, T* a, T* b) const {
        const int64_t M = level[l].n / 4, across = 2 * M * ldi;
        const T *r = table.data + level[l + 1].rotations, *x0 = in, *x3 = in + (4 * M - 1) * ldi;
        T* f = FOUR ? e + M * L : e + (2 * M - 1) * L;
        for (int64_t i = 0; i < M * L; i += L) {
            const V<T> s0 = load(x0), s1 = load(x3 - across), s2 = load(x0 + across), s3 = load(x3);
            const V<T> o0 = s0 - s3, o1 = s1 - s2, e0 = s0 + s3, e1 = s1 + s2;
            store(e + i, FOUR ? e0 + e1 : e0);
            store(FOUR ? f + i : f - i, FOUR ? e0 - e1 : e1);
            store(a + i, fma(o1, set1(r[1]), o0 * set1(r[0])));
            store(b + i, fma(o1, set1(r[3]), o0 * set1(r[2])));
            x0 += ldi, x3 -= ldi, r += 4;
        }
    }
    // The transpose, plus in when ADDED.
    template <bool FOUR, bool ADDED>
    void unfold(int l, const T* e, const T* a, const T* b, const T* in, int64_t ldi, T* out, int64_t ldo) const {
        const int64_t M = level[l].n / 4, across_in = 2 * M * ldi, across_out = 2 * M * ldo;
        const T *r = table.data + level[l + 1].rotations, *f = FOUR ? e + M * L : e + (2 * M - 1) * L;
        const T *x0 = in, *x3 = in + (4 * M - 1) * ldi;
        T *y0 = out, *y3 = out + (4 * M - 1) * ldo;
        for (int64_t i = 0; i < M * L; i += L) {
            const V<T> p = load(e + i), q = load(FOUR ? f + i : f - i), u = load(a + i), v = load(b + i);
            const V<T> e0 = FOUR ? p + q : p, e1 = FOUR ? p - q : q;
            const V<T> o0 = fma(v, set1(r[2]), u * set1(r[0])), o1 = fma(v, set1(r[3]), u * set1(r[1]));
            V<T> s0 = e0 + o0, s1 = e1 + o1, s2 = e1 - o1, s3 = e0 - o0;
            if (ADDED) {
                s0 = s0 + load(x0), s1 = s1 + load(x3 - across_in), s2 = s2 + load(x0 + across_in), s3 = s3 + load(x3);
                x0 += ldi, x3 -= ldi;
            }
            store(y0, s0);
            store(y3 - across_out, s1);
            store(y0 + across_out, s2);
            store(y3, s3);
            y0 += ldo, y3 -= ldo, r += 4;
        }
    }

    // Whether the even half is taken in two parts as well: where those are codelets, its own step would be one more pass of memory.
    bool in_four(int l) const { return level[l].n % 4 == 0 && level[l + 2].codelets.dct2; }

    WARMOPS_INLINE void two(int l, const T* in, int64_t ldi, T* out, int64_t ldo, T* scratch, Ahead* ahead) const {
        fetch_some(ahead);
        if (const auto codelet = level[l].codelets.dct2) return codelet(in, ldi, out, ldo);
        two_by_parts(l, in, ldi, out, ldo, scratch, ahead);
    }
    void two_by_parts(int l, const T* in, int64_t ldi, T* out, int64_t ldo, T* scratch, Ahead* ahead) const {
        const Level& at = level[l];
        const int64_t size = at.n, N = size / 2, M = size / 4;
        T *e = scratch, *o = e + (size - N) * L, *rest = scratch + size * L;
        if (size % 4 == 0) {
            if (in_four(l)) {
                fold<true>(l, in, ldi, e, o, o + M * L);
                two(l + 2, e, L, out, 4 * ldo, rest, ahead);
                four(l + 2, e + M * L, L, out + 2 * ldo, 4 * ldo, rest, ahead);
            } else {
                fold<false>(l, in, ldi, e, o, o + M * L);
                two(l + 1, e, L, out, 2 * ldo, rest, ahead);
            }
            two(l + 2, o, L, o, L, rest, ahead);
            two(l + 2, o + M * L, L, o + M * L, L, rest, ahead);
            return join(o, o + M * L, M, out + ldo, 2 * ldo);
        }
        for (int64_t j = 0; j < N; ++j) {
            const V<T> x = load(in + j * ldi), y = load(in + (size - 1 - j) * ldi);
            store(e + j * L, x + y);
            store(o + j * L, x - y);
        }
        if (size % 2 == 0) {
            two(l + 1, e, L, out, 2 * ldo, rest, ahead);
            four(l + 1, o, L, out + ldo, 2 * ldo, rest, ahead);
        } else {
            store(e + N * L, load(in + N * ldi));
            direct_and_sum(e, L, half + 1, table.data + even2, ld_even, half + 1, out, 2 * ldo);
            direct(o, L, half, table.data + odd, ld_odd, half, out + ldo, 2 * ldo);
        }
    }

    WARMOPS_INLINE void three(int l, const T* in, int64_t ldi, T* out, int64_t ldo, T* scratch, Ahead* ahead) const {
        fetch_some(ahead);
        if (const auto codelet = level[l].codelets.dct3) return codelet(in, ldi, out, ldo);
        three_by_parts(l, in, ldi, out, ldo, scratch, ahead);
    }
    void three_by_parts(int l, const T* in, int64_t ldi, T* out, int64_t ldo, T* scratch, Ahead* ahead) const {
        const Level& at = level[l];
        const int64_t size = at.n, N = size / 2, M = size / 4;
        T *e = scratch, *o = e + (size - N) * L, *rest = scratch + size * L;
        if (size % 4 == 0) {
            const bool parts = in_four(l);
            split(in + ldi, 2 * ldi, M, o, o + M * L);
            if (parts) {
                three(l + 2, in, 4 * ldi, e, L, rest, ahead);
                four(l + 2, in + 2 * ldi, 4 * ldi, e + M * L, L, rest, ahead);
            } else {
                three(l + 1, in, 2 * ldi, e, L, rest, ahead);
            }
            three(l + 2, o, L, o, L, rest, ahead);
            three(l + 2, o + M * L, L, o + M * L, L, rest, ahead);
            if (parts) return unfold<true, false>(l, e, o, o + M * L, in, ldi, out, ldo);
            return unfold<false, false>(l, e, o, o + M * L, in, ldi, out, ldo);
        }
        if (size % 2 == 0) {
            three(l + 1, in, 2 * ldi, e, L, rest, ahead);
            four(l + 1, in + ldi, 2 * ldi, o, L, rest, ahead);
        } else {
            direct(in, 2 * ldi, half + 1, table.data + even3, ld_even, half + 1, e, L);
            direct(in + ldi, 2 * ldi, half, table.data + odd, ld_odd, half, o, L);
            store(out + N * ldo, load(e + N * L));
        }
        for (int64_t j = 0; j < N; ++j) {
            const V<T> u = load(e + j * L), v = load(o + j * L);
            store(out + j * ldo, u + v);
            store(out + (size - 1 - j) * ldo, u - v);
        }
    }

    WARMOPS_INLINE void four(int l, const T* in, int64_t ldi, T* out, int64_t ldo, T* scratch, Ahead* ahead) const {
        fetch_some(ahead);
        if (const auto codelet = level[l].codelets.dct4) return codelet(in, ldi, out, ldo);
        four_by_parts(l, in, ldi, out, ldo, scratch, ahead);
    }
    void four_by_parts(int l, const T* in, int64_t ldi, T* out, int64_t ldo, T* scratch, Ahead* ahead) const {
        const Level& at = level[l];
        const int64_t size = at.n, M = size / 2;
        if (size % 2) return direct(in, ldi, size, table.data + matrix4, ld_four, size, out, ldo);
        const T* r = table.data + at.rotations;
        T *a = scratch, *b = a + M * L, *rest = b + M * L;
        for (int64_t j = 0; j < M; ++j, r += 4) {
            const V<T> x = load(in + j * ldi), y = load(in + (size - 1 - j) * ldi);
            store(a + j * L, fma(y, set1(r[1]), x * set1(r[0])));
            store(b + j * L, fma(y, set1(r[3]), x * set1(r[2])));
        }
        two(l + 1, a, L, a, L, rest, ahead);
        two(l + 1, b, L, b, L, rest, ahead);
        join(a, b, M, out, ldo);
    }

    static Filter<T, Numbers<T>> codelet_of(const Level& at, const Numbers<T>&, bool identity) {
        return identity ? at.codelets.filter_and_add : at.codelets.filter;
    }
    static Filter<T, Vectors<T>> codelet_of(const Level& at, const Vectors<T>&, bool) { return at.codelets.filter_each; }
    static Filter<T, Numbers<T>> codelet4_of(const Level& at, const Numbers<T>&) { return at.codelets.filter4; }
    static Filter<T, Vectors<T>> codelet4_of(const Level& at, const Vectors<T>&) { return at.codelets.filter4_each; }

    template <class D>
    WARMOPS_INLINE void filtered(int l, const T* in, int64_t ldi, T* out, int64_t ldo, D d, bool identity, T* scratch, Ahead* ahead) const {
        fetch_some(ahead);
        if (const auto codelet = codelet_of(level[l], d, identity)) return codelet(in, ldi, out, ldo, d);
        filtered_by_parts(l, in, ldi, out, ldo, d, identity, scratch, ahead);
    }
    template <class D>
    void filtered_by_parts(int l, const T* in, int64_t ldi, T* out, int64_t ldo, D d, bool identity, T* scratch, Ahead* ahead) const {
        const int64_t size = level[l].n, M = size / 4;
        T *e = scratch, *rest = e + size * L;
        if (size % 4 != 0) {
            two(l, in, ldi, e, L, rest, ahead);
            for (int64_t k = 0; k < size; ++k) store(e + k * L, load(e + k * L) * d(k));
            if (!identity) return three(l, e, L, out, ldo, rest, ahead);
            three(l, e, L, e, L, rest, ahead);
            for (int64_t j = 0; j < size; ++j) store(out + j * ldo, load(in + j * ldi) + load(e + j * L));
            return;
        }
        T *a = e + 2 * M * L, *b = a + M * L;
        const bool parts = in_four(l);
        if (parts) {
            fold<true>(l, in, ldi, e, a, b);
            filtered(l + 2, e, L, e, L, d.even().even(), false, rest, ahead);
            fetch_some(ahead);
            codelet4_of(level[l + 2], d)(e + M * L, L, e + M * L, L, d.even().odd());
        } else {
            fold<false>(l, in, ldi, e, a, b);
            filtered(l + 1, e, L, e, L, d.even(), false, rest, ahead);
        }
        two(l + 2, a, L, a, L, rest, ahead);
        two(l + 2, b, L, b, L, rest, ahead);
        join_and_split(a, b, M, d.odd());
        three(l + 2, a, L, a, L, rest, ahead);
        three(l + 2, b, L, b, L, rest, ahead);
        if (parts) return identity ? unfold<true, true>(l, e, a, b, in, ldi, out, ldo) : unfold<true, false>(l, e, a, b, in, ldi, out, ldo);
        identity ? unfold<false, true>(l, e, a, b, in, ldi, out, ldo) : unfold<false, false>(l, e, a, b, in, ldi, out, ldo);
    }

    // The last step of IV(2M) from its two II(M), its transpose, and d between the two.
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
    template <class D>
    static void join_and_split(T* a, T* b, int64_t M, D d) {
        store(a, load(a) * d(0));
        for (int64_t k = 1; k < M; ++k) {
            const V<T> x = load(a + k * L), y = load(b + (M - k) * L);
            const V<T> u = (x + y) * d(2 * k - 1), v = (x - y) * d(2 * k);
            store(a + k * L, u + v);
            store(b + (M - k) * L, u - v);
        }
        store(b, load(b) * d(2 * M - 1));
    }
};

}  // namespace
