// The blur of one axis as small dense matrices, built per sample from its level (Toeplitz + Hankel, one table each).
//
// A blur B = V diag(m) V^T of n points is centrosymmetric: it acts on e_p = x_p + x_{n-1-p} and o_p = x_p - x_{n-1-p}
// separately. The part that acts on e is again a blur, of n/2 points with the even modes, so an even n folds again and
// again: the multiplications fall from n^2 to n^2/4 + n^2/16 + ...
#pragma once
#include <math.h>
#include <stdlib.h>

#include "simd.h"

namespace {

constexpr int kMaxParts = 32;
constexpr int64_t kLowRankFactor = 4;   // low rank pays when there are fewer than n / kLowRankFactor modes

inline int64_t round_up(int64_t n, int64_t multiple) { return (n + multiple - 1) / multiple * multiple; }

// Zeros at first: lanes beyond the data are multiplied by zeros, so they must hold numbers.
template <class T>
struct Buffer {
    T* data;
    explicit Buffer(int64_t count) {
        const size_t bytes = size_t(round_up(count * int64_t(sizeof(T)) + 2 * kBytes, 64));
        void* p = nullptr;
        if (posix_memalign(&p, 64, bytes) != 0) abort();
        memset(p, 0, bytes);
        data = static_cast<T*>(p);
    }
    ~Buffer() { free(data); }
    Buffer(const Buffer&) = delete;
    Buffer& operator=(const Buffer&) = delete;
};

enum class Part { odd, plain, even_of_odd };

// One matrix of the folded blur. Rows are inputs, columns outputs; the blur's parts are square.
struct PartShape {
    Part kind;
    int64_t points;   // of the axis that was folded (or, for plain, that is left)
    int64_t rows;     // size of the matrix
    int64_t ld;       // columns in memory, padded with zeros
    int64_t stride;   // the part's mode k is mode k * stride of the whole axis
    int64_t matrix;   // offset of the matrix in AxisBlur::matrices
    int64_t cosines;  // offset of cos(pi k r / points), [modes, table], r = 0 .. rows
    int64_t table;    // rows + 1, rounded up to whole vectors
    double factor;    // 2^-(number of folds)
};

// What depends on n alone: the parts and their cosines. One per call and axis length.
template <class T>
struct AxisPlan {
    int64_t n;
    int folds = 0;  // number of levels of folding
    int parts = 0;
    PartShape part[kMaxParts];
    int64_t matrix_size = 0, cosine_size = 0;
    Buffer<double> cosines;

    // Axes of up to fold_above points are not folded.
    AxisPlan(int64_t n_, int64_t fold_above) : n(n_), cosines((layout(fold_above), cosine_size)) {
        Buffer<double> turn(2 * n);
        for (int64_t j = 0; j < 2 * n; ++j) turn.data[j] = cosine(j);
        for (int i = 0; i < parts; ++i) fill_cosines(part[i], turn.data);
    }

    int64_t modes(const PartShape& p) const { return p.kind == Part::plain ? p.points : p.rows; }
    int64_t mode(const PartShape& p, int64_t i) const {
        return p.kind == Part::plain ? i : p.kind == Part::odd ? 2 * i + 1 : 2 * i;
    }

  private:
    void add(Part kind, int64_t points, int64_t rows, int64_t stride, int depth) {
        PartShape& p = part[parts++];
        p = {kind, points, rows, round_up(rows, kLanes<T>), stride, matrix_size, cosine_size, round_up(rows + 1, kLanes<double>), ldexp(1.0, -depth)};
        matrix_size += p.ld * rows;
        cosine_size += (kind == Part::plain ? points : rows) * p.table;
    }

    void layout(int64_t fold_above) {
        int64_t points = n, stride = 1;
        while (points > fold_above) {
            ++folds;
            add(Part::odd, points, points / 2, stride, folds);
            if (points % 2) {
                add(Part::even_of_odd, points, points / 2 + 1, stride, folds);
                return;
            }
            points /= 2;
            stride *= 2;
        }
        add(Part::plain, points, points, stride, folds);
    }

    double cosine(int64_t j) const {  // cos(pi j / n) with an argument of at most pi / 4
        j %= 2 * n;
        if (j > n) j = 2 * n - j;
        const double sign = 2 * j > n ? -1.0 : 1.0;
        if (2 * j > n) j = n - j;
        return sign * (4 * j > n ? sin(M_PI * double(n - 2 * j) / double(2 * n)) : cos(M_PI * double(j) / double(n)));
    }

    void fill_cosines(const PartShape& p, const double* turn) {
        double* c = cosines.data + p.cosines;
        for (int64_t i = 0; i < modes(p); ++i, c += p.table) {
            const int64_t step = mode(p, i) * p.stride % (2 * n);
            for (int64_t r = 0, j = 0; r <= p.rows; ++r, j = j + step < 2 * n ? j + step : j + step - 2 * n) c[r] = turn[j];
        }
    }
};

WARMOPS_INLINE void store_as(double* p, VD v) { store(p, v); }
WARMOPS_INLINE void store_as(float* p, VD v) {
    typedef float Narrow __attribute__((vector_size(kBytes / 2)));
    typedef float Unaligned __attribute__((vector_size(kBytes / 2), aligned(4), may_alias));
    *reinterpret_cast<Unaligned*>(p) = __builtin_convertvector(v, Narrow);
}

// Modes 0 .. n-1 of the blur of n points: d = m - delta. delta = 1 for weak blur: D = B - I is small then and has all
// its digits; for strong blur y = x + D x would cancel.
template <class T>
struct Multipliers {
    int64_t n;
    double delta = 0.0;
    Buffer<double> d;

    explicit Multipliers(int64_t n_) : n(n_), d(n_) {}

    void build(double sigma) {
        const double x = M_PI / double(n) * sigma, c = 0.5 * x * x;
        delta = c * double(n) * double(n) < 2.0 ? 1.0 : 0.0;  // up to sigma = 0.64
        d.data[0] = 1.0 - delta;
        if (sizeof(T) == 8) {
            for (int64_t k = 1; k < n; ++k) {
                const double z = -c * double(k) * double(k);
                d.data[k] = delta != 0.0 ? expm1(z) : exp(z);
            }
            return;
        }
        // exp(-c k^2) by its ratios, which double carries to 1e-12 for any n here; as differences from 1 for D.
        double ratio = expm1(-c), value = 0.0;
        const double step = expm1(-2.0 * c);
        for (int64_t k = 1; k < n; ++k) {
            value = value + ratio + value * ratio;
            ratio = ratio + step + ratio * step;
            d.data[k] = value + (1.0 - delta);
        }
    }
};

// The blur of one sample along one axis: y = delta x + D x.
template <class T>
struct AxisBlur {
    const AxisPlan<T>& plan;
    Buffer<T> matrices;
    Buffer<double> weighted, table;
    double delta = 0.0;

    explicit AxisBlur(const AxisPlan<T>& p) : plan(p), matrices(p.matrix_size), weighted(p.n), table(4 * p.n + 64) {}

    void build(const Multipliers<T>& m) {
        delta = m.delta;
        for (int i = 0; i < plan.parts; ++i) build_part(plan.part[i], m.d.data);
    }

    // Modes up to this one matter at the precision of T.
    static int64_t rank(int64_t n, double sigma) {
        const double bits = sizeof(T) == 4 ? 27.0 : 58.0;
        const double modes = double(n) / (M_PI * sigma) * ::sqrt(2.0 * M_LN2 * bits);
        return modes < double(n) ? int64_t(modes) + 1 : n;
    }

  private:
    void build_part(const PartShape& p, const double* multipliers) {
        constexpr int64_t L = kLanes<double>;
        const int64_t modes = plan.modes(p);
        for (int64_t i = 0; i < modes; ++i) {
            const int64_t k = plan.mode(p, i);
            // plain: B = (h(p-q) + h(p+q+1)) / 2; the folded parts are twice the blur that acts on (x_p +- x_{n-1-p}) / 2
            const double weight = (k == 0 ? 1.0 : 2.0) / double(p.points) * (p.kind == Part::plain ? 0.5 : 1.0);
            weighted.data[i] = multipliers[k * p.stride] * weight * p.factor;
        }
        // h(r) = sum over the part's modes of w_k d_k cos(pi k r / points), r = 0 .. rows, the rest by symmetry
        double* h = table.data + round_up(plan.n, L);  // h(-r) = h(r) lies before it
        for (int64_t r = 0; r < p.table; r += L) {
            const double* c = plan.cosines.data + p.cosines + r;
            VD even = VD{}, odd = VD{};
            int64_t i = 0;
            for (; i + 1 < modes; i += 2) {
                even = fma(set1(weighted.data[i]), load(c + i * p.table), even);
                odd = fma(set1(weighted.data[i + 1]), load(c + (i + 1) * p.table), odd);
            }
            if (i < modes) even = fma(set1(weighted.data[i]), load(c + i * p.table), even);
            store(h + r, even + odd);
        }
        const int64_t period = p.kind == Part::plain ? 2 * p.points : p.points;
        const double sign = p.kind == Part::odd ? -1.0 : 1.0;
        for (int64_t r = p.rows + 1; r < 2 * p.rows; ++r) h[r] = sign * h[period - r];
        for (int64_t r = 1; r < p.rows; ++r) h[-r] = h[r];
        for (int64_t i = 0; i < p.rows; ++i) {  // whole vectors: what lies beyond the rows is never used, but finite
            T* row = matrices.data + p.matrix + i * p.ld;
            // The middle point of an odd axis is doubled by the folding.
            const VD half = set1(p.kind == Part::even_of_odd && i == p.rows - 1 ? 0.5 : 1.0);
            for (int64_t j = 0; j < p.rows; j += L) store_as(row + j, half * (load(h + j - i) + load(h + i + j + 1)));
        }
    }
};

// Strong blur: only the first `rank` modes are left, so x -> modes -> x with two thin matrices, folded once.
template <class T>
struct AxisLowRank {
    int64_t n, half_even, half_odd;  // points in the even and odd halves
    int64_t rank = 0, even = 0, odd = 0;
    int64_t ld_modes, ld_even, ld_odd;
    Buffer<T> analyse_even, analyse_odd, synthesise_even, synthesise_odd;
    Buffer<double> turn;  // cos(pi j / 2n), a full turn

    explicit AxisLowRank(int64_t n_)
        : n(n_),
          half_even((n_ + 1) / 2),
          half_odd(n_ / 2),
          ld_modes(round_up(n_ / kLowRankFactor / 2 + 2, kLanes<T>)),
          ld_even(round_up(half_even, kLanes<T>)),
          ld_odd(round_up(half_odd, kLanes<T>)),
          analyse_even(half_even * ld_modes),
          analyse_odd(half_odd * ld_modes),
          synthesise_even((n_ / kLowRankFactor / 2 + 2) * ld_even),
          synthesise_odd((n_ / kLowRankFactor / 2 + 2) * ld_odd),
          turn(4 * n_) {
        for (int64_t j = 0; j < 4 * n; ++j) turn.data[j] = cos(M_PI * double(j) / double(2 * n));
    }

    void build(double sigma) {
        rank = AxisBlur<T>::rank(n, sigma);
        even = (rank + 1) / 2;
        odd = rank / 2;
        memset(analyse_even.data, 0, sizeof(T) * size_t(half_even * ld_modes));
        memset(analyse_odd.data, 0, sizeof(T) * size_t(half_odd * ld_modes));
        memset(synthesise_even.data, 0, sizeof(T) * size_t(even * ld_even));
        memset(synthesise_odd.data, 0, sizeof(T) * size_t(odd * ld_odd));
        for (int64_t k = 0; k < rank; ++k) {
            const double x = M_PI * double(k) / double(n) * sigma;
            const double m = k == 0 ? 1.0 : exp(-0.5 * x * x);
            // All of the weight is on one side: the mean's coefficients are exact on the other.
            const double weight = m * (k == 0 ? 1.0 : 2.0) / double(n);
            const int64_t points = k % 2 ? half_odd : half_even;
            T* analyse = (k % 2 ? analyse_odd.data : analyse_even.data) + k / 2;
            T* synthesise = k % 2 ? synthesise_odd.data + k / 2 * ld_odd : synthesise_even.data + k / 2 * ld_even;
            for (int64_t p = 0; p < points; ++p) {
                const double v = turn.data[k * (2 * p + 1) % (4 * n)];
                // Folding adds the two halves (and doubles the middle point of an odd axis).
                const bool middle = n % 2 && p == half_even - 1 && k % 2 == 0;
                analyse[p * ld_modes] = T(middle ? 0.5 * v : v);
                synthesise[p] = T(weight * v);
            }
        }
    }
};

}  // namespace
