// x_t = scale * (A x + beta eps): each plane goes down its columns, along its rows, and out with its noise.
#pragma once
#ifdef _OPENMP
#include <omp.h>
#endif

#include "noise.h"
#include "pixels.h"
#include "products.h"

namespace {

constexpr int64_t kFoldRowsAbove = 8;  // see AxisPlan
template <class T>
constexpr int64_t kFoldColumnsAbove = kLanes<T>;  // a part narrower than a vector costs as much as a vector
constexpr int64_t kLowRankChunk = 16;           // what is left of a strong blur is small beside what cancels: shorter sums
constexpr int64_t kSerialWork = 1 << 14;          // pixels below which threads cost more than they bring

struct Team {
    int rank, size;
    bool together;  // all threads work on one plane; else each thread has planes of its own
    void wait() const {
        if (together) {
#ifdef _OPENMP
#pragma omp barrier
#endif
        }
    }
};

// What the threads of one plane share: its blur, its pixels folded once along the columns, and what the columns' blur gives.
template <class T>
struct Shared {
    Multipliers<T> modes_rows, modes_columns;
    AxisBlur<T> rows, columns;
    AxisLowRank<T>*low_rows = nullptr, *low_columns = nullptr;
    double sigma = -1.0;
    bool low_rank = false;
    int64_t height, width, ld;
    Buffer<T> folded, plane, spectrum;

    Shared(const AxisPlan<T>& plan_rows, const AxisPlan<T>& plan_columns)
        : modes_rows(plan_rows.n),
          modes_columns(plan_columns.n),
          rows(plan_rows),
          columns(plan_columns),
          height(round_up(plan_rows.n, kTall)),
          width(plan_columns.n),
          ld(row_stride(round_up(width, kStrip<T>) + 2 * kLanes<T>)),
          folded(height * ld),
          plane(height * ld),
          spectrum(round_up(plan_rows.n / kLowRankFactor + 2, kTall) * ld) {}
    ~Shared() {
        delete low_rows;
        delete low_columns;
    }

    void build(double level) {
        if (level == sigma || level == 0.0) return;
        sigma = level;
        const int64_t h = rows.plan.n, w = columns.plan.n;
        low_rank = AxisBlur<T>::rank(h, level) <= h / kLowRankFactor && AxisBlur<T>::rank(w, level) <= w / kLowRankFactor;
        if (low_rank) {
            if (!low_rows) low_rows = new AxisLowRank<T>(h);
            if (!low_columns) low_columns = new AxisLowRank<T>(w);
            low_rows->build(level);
            low_columns->build(level);
        } else {
            modes_rows.build(level);
            if (w != h) modes_columns.build(level);
            rows.build(modes_rows);
            columns.build(w == h ? modes_rows : modes_columns);
        }
    }
    T* source(int64_t r) { return folded.data + kLanes<T> + r * ld; }
    T* row(int64_t r) { return plane.data + kLanes<T> + r * ld; }
    T* mode(int64_t r) { return spectrum.data + kLanes<T> + r * ld; }
};

// A thread's own buffers.
template <class T>
struct Scratch {
    Buffer<T> noise;
    int64_t ld_modes;
    Buffer<T> modes;
    ColumnPass<T> columns;

    explicit Scratch(const AxisPlan<T>& plan_columns)
        : noise(kTall * plan_columns.n + kNoiseBlock + 8 + kLanes<T>),
          ld_modes(row_stride(round_up(plan_columns.n, kStrip<T>) + 2 * kLanes<T>)),
          modes(6 * kTall * ld_modes),
          columns(plan_columns) {}
};

// P: how x is stored; Q: how noise, out and blurred are stored; T: what is computed in.
template <class P, class Q, class T>
class Forward {
  public:
    static void run(const BlurNoiseArgs& a) {
        Forward<P, Q, T> forward(a);
        forward.run_all();
    }

  private:
    // One plane of each tensor, and its sample's levels.
    struct Plane {
        const P* x;
        Q *out, *blurred;
        const Q* noise;
        int64_t first;  // index of its first element in the sample
        T beta, scale;
        const P* next_x;  // of the plane after it, or nullptr
    };

    const BlurNoiseArgs& a;
    int64_t samples, channels, height, width;
    AxisPlan<T> plan_rows, plan_columns;

    explicit Forward(const BlurNoiseArgs& args)
        : a(args),
          samples(args.sizes[0]),
          channels(1),
          height(args.sizes[args.dims - 2]),
          width(args.sizes[args.dims - 1]),
          plan_rows(height, kFoldRowsAbove),
          plan_columns(width, kFoldColumnsAbove<T>) {
        for (int d = 1; d < a.dims - 2; ++d) channels *= a.sizes[d];
    }

    void run_all() {
        const int64_t planes = samples * channels;
        int threads = planes * height * width < kSerialWork ? 1 : a.threads;
        // Few planes: all threads share each one.
        const bool together = threads > 1 && planes < 2 * threads && height * width >= kSerialWork;
        if (!together && threads > planes) threads = int(planes);
        if (threads <= 1) {
            Shared<T> shared(plan_rows, plan_columns);
            work(shared, Team{0, 1, false}, 0, planes);
            return;
        }
#ifdef _OPENMP
        if (together) {
            Shared<T> shared(plan_rows, plan_columns);
#pragma omp parallel num_threads(threads)
            work(shared, Team{omp_get_thread_num(), omp_get_num_threads(), true}, 0, planes);
        } else {
#pragma omp parallel num_threads(threads)
            {
                Shared<T> shared(plan_rows, plan_columns);
                const int64_t rank = omp_get_thread_num(), size = omp_get_num_threads();
                work(shared, Team{0, 1, false}, planes * rank / size, planes * (rank + 1) / size);
            }
        }
#else
        Shared<T> shared(plan_rows, plan_columns);
        work(shared, Team{0, 1, false}, 0, planes);
#endif
    }

    void work(Shared<T>& shared, Team team, int64_t first, int64_t last) const {
        Scratch<T> scratch(plan_columns);
        Noise<T> noise(a.seed.at(first / channels));
        for (int64_t plane = first; plane < last; ++plane) {
            const int64_t sample = plane / channels;
            const double sigma = a.blur_sigma.at(sample);
            if (team.rank == 0) shared.build(sigma);
            team.wait();
            if (plane % channels == 0) noise = Noise<T>(a.seed.at(sample));
            const Plane p = {at<const P>(a.x, plane),     at<Q>(a.out, plane),         at<Q>(a.blurred, plane),
                             at<const Q>(a.noise, plane), plane % channels * height * width, T(a.noise_sigma.at(sample)),
                             T(a.scale.at(sample)),       plane + 1 < last ? at<const P>(a.x, plane + 1) : nullptr};
            if (sigma == 0.0) {
                copy_rows(scratch, noise, p, team);
            } else if (shared.low_rank) {
                blur_low_rank(shared, scratch, noise, p, team);
            } else {
                blur_full(shared, scratch, noise, p, team);
            }
            team.wait();
        }
    }

    template <class E>
    E* at(const View& view, int64_t plane) const {
        return view.data ? static_cast<E*>(view.data) + offset_of(plane, a.sizes, view.stride, 0, a.dims - 2) : nullptr;
    }

    // The plane's rows, folded once: row p holds x_p + x_{h-1-p}, row h-1-p their difference, a middle row is doubled.
    // In the order in which they lie in memory, for the prefetcher.
    void read_folded(Shared<T>& shared, const P* x, bool fold, Team team) const {
        const int64_t down = a.x.stride[a.dims - 2], along = a.x.stride[a.dims - 1], half = fold ? height / 2 : 0;
        for (int64_t p = team.rank; p < half; p += team.size) {
            const P *upper = x + p * down, *lower = x + (height - 1 - p) * down;
            T *sum = shared.source(p), *difference = shared.source(height - 1 - p);
            int64_t j = 0;
            if (along == 1)
                for (; j + kLanes<T> <= width; j += kLanes<T>) put_folded(Pixel<P, T>::read(upper + j), Pixel<P, T>::read(lower + j), sum + j, difference + j);
            for (; j < width; j += kLanes<T>) {
                const int64_t left = width - j < kLanes<T> ? width - j : kLanes<T>;
                put_folded(read_some<P, T>(upper + j * along, along, left), read_some<P, T>(lower + j * along, along, left), sum + j,
                           difference + j);
            }
        }
        for (int64_t p = half + team.rank; p < height - half; p += team.size) {
            read_row<P, T>(x + p * down, along, width, shared.source(p));
            if (fold)
                for (int64_t j = 0; j < width; j += kLanes<T>) store(shared.source(p) + j, load(shared.source(p) + j) + load(shared.source(p) + j));
        }
    }

    void prefetch_rows(const P* x) const {
        const int64_t down = a.x.stride[a.dims - 2];
        if (a.x.stride[a.dims - 1] != 1) return;
        for (int r = 0; r < kTall; ++r)
            for (int64_t j = 0; j < width; j += 64 / int64_t(sizeof(P))) __builtin_prefetch(x + r * down + j, 0, 2);
    }

    static WARMOPS_INLINE void put_folded(V<T> x, V<T> y, T* sum, T* difference) {
        store(sum, x + y);
        store(difference, x - y);
    }

    void copy_rows(Scratch<T>& scratch, const Noise<T>& noise, const Plane& plane, Team team) const {
        const int64_t down = a.x.stride[a.dims - 2], along = a.x.stride[a.dims - 1], ld = scratch.ld_modes;
        for (int64_t r = team.rank * kTall; r < height; r += team.size * kTall) {
            const int64_t count = height - r < kTall ? height - r : kTall;
            for (int64_t i = 0; i < count; ++i) read_row<P, T>(plane.x + (r + i) * down, along, width, scratch.modes.data + i * ld);
            finish(scratch, noise, plane, r, count, scratch.modes.data, ld);
        }
    }

    void blur_full(Shared<T>& shared, Scratch<T>& scratch, const Noise<T>& noise, const Plane& plane, Team team) const {
        read_folded(shared, plane.x, plan_rows.folds > 0, team);
        team.wait();
        for (int64_t column = team.rank * kStrip<T>; column < width; column += team.size * kStrip<T>) {
            T *f = shared.source(0) + column, *g = shared.row(0) + column;
            if (width - column > kLanes<T>) {
                strip_vertical<T, kWide>(shared.rows, f, shared.ld, g, shared.ld);
            } else {
                strip_vertical<T, 1>(shared.rows, f, shared.ld, g, shared.ld);
            }
        }
        team.wait();
        for (int64_t r = team.rank * kTall; r < height; r += team.size * kTall) {
            // The next plane comes from memory while this one keeps the arithmetic busy.
            if (plane.next_x && r + kTall <= height) prefetch_rows(plane.next_x + r * a.x.stride[a.dims - 2]);
            scratch.columns.run(shared.columns, shared.row(r), shared.ld, shared.row(r), shared.ld);
            finish(scratch, noise, plane, r, height - r < kTall ? height - r : kTall, shared.row(r), shared.ld);
        }
    }

    void blur_low_rank(Shared<T>& shared, Scratch<T>& scratch, const Noise<T>& noise, const Plane& plane, Team team) const {
        const AxisLowRank<T>& rows = *shared.low_rows;
        const int64_t ld = shared.ld;
        read_folded(shared, plane.x, true, team);
        team.wait();
        // Down: pixels to modes. Even modes come first, then odd ones.
        for (int64_t column = team.rank * kStrip<T>; column < width; column += team.size * kStrip<T>) {
            const T *even = shared.source(0) + column, *odd = shared.source(height - 1) + column;
            product_vertical<T, kWide>(even, ld, rows.half_even, rows.analyse_even.data, rows.ld_modes, rows.even, T(0),
                                       shared.mode(0) + column, ld, kLowRankChunk);
            product_vertical<T, kWide>(odd, -ld, rows.half_odd, rows.analyse_odd.data, rows.ld_modes, rows.odd, T(0),
                                       shared.mode(rows.even) + column, ld, kLowRankChunk);
        }
        team.wait();
        for (int64_t r = team.rank * kTall; r < rows.rank; r += team.size * kTall) low_rank_columns(*shared.low_columns, scratch, shared.mode(r), ld);
        team.wait();
        for (int64_t column = team.rank * kStrip<T>; column < width; column += team.size * kStrip<T>) {
            T* y = shared.row(0) + column;
            product_vertical<T, kWide>(shared.mode(0) + column, ld, rows.even, rows.synthesise_even.data, rows.ld_even, rows.half_even, T(0),
                                       y, ld);
            product_vertical<T, kWide>(shared.mode(rows.even) + column, ld, rows.odd, rows.synthesise_odd.data, rows.ld_odd, rows.half_odd,
                                       T(0), y + (height - 1) * ld, -ld);
            unfold_rows<T, kWide>(y, ld, height);
        }
        team.wait();
        for (int64_t r = team.rank * kTall; r < height; r += team.size * kTall)
            finish(scratch, noise, plane, r, height - r < kTall ? height - r : kTall, shared.row(r), ld);
    }

    // kTall rows, in place: pixels to modes to pixels.
    static void low_rank_columns(const AxisLowRank<T>& c, Scratch<T>& scratch, T* f, int64_t ldf) {
        const int64_t ld = scratch.ld_modes;
        const auto buffer = [&](int i) { return scratch.modes.data + i * kTall * ld + kLanes<T>; };
        T *even = buffer(0), *odd = buffer(1), *even_modes = buffer(2), *odd_modes = buffer(3), *e = buffer(4), *o = buffer(5);
        for (int r = 0; r < kTall; ++r) fold_columns(f + r * ldf, c.n, even + r * ld, odd + r * ld);
        product_horizontal(even, ld, c.half_even, c.analyse_even.data, c.ld_modes, c.even, T(0), even_modes, ld, kLowRankChunk);
        product_horizontal(odd, ld, c.half_odd, c.analyse_odd.data, c.ld_modes, c.odd, T(0), odd_modes, ld, kLowRankChunk);
        product_horizontal(even_modes, ld, c.even, c.synthesise_even.data, c.ld_even, c.half_even, T(0), e, ld);
        product_horizontal(odd_modes, ld, c.odd, c.synthesise_odd.data, c.ld_odd, c.half_odd, T(0), o, ld);
        for (int r = 0; r < kTall; ++r) unfold_columns(e + r * ld, o + r * ld, c.n, f + r * ldf);
    }

    // count rows of A x from z: noise, scale, out and blurred.
    void finish(Scratch<T>& scratch, const Noise<T>& noise, const Plane& plane, int64_t row, int64_t count, const T* z, int64_t ldz) const {
        const int d = a.dims - 2;
        const bool noisy = plane.beta != T(0);
        const T* eps = noisy && !plane.noise ? noise.generate(plane.first + row * width, count * width, scratch.noise.data) : nullptr;
        for (int64_t r = row; r < row + count; ++r, z += ldz) {
            const T* row_eps = eps;
            if (eps) eps += width;
            if (noisy && plane.noise) {
                read_row<Q, T>(plane.noise + r * a.noise.stride[d], a.noise.stride[d + 1], width, scratch.noise.data);
                row_eps = scratch.noise.data;
            }
            finish_row(z, row_eps, plane.beta, plane.scale, plane.out + r * a.out.stride[d], a.out.stride[d + 1],
                       plane.blurred ? plane.blurred + r * a.blurred.stride[d] : nullptr, a.blurred.stride[d + 1]);
        }
    }

    void finish_row(const T* z, const T* eps, T beta, T scale, Q* out, int64_t out_stride, Q* blurred, int64_t blurred_stride) const {
        constexpr int64_t L = kLanes<T>;
        const int64_t columns = width;
        const V<T> vbeta = set1(beta), vscale = set1(scale);
        const bool scaled = scale != T(1);
        // Rounded one by one: alpha = 0 gives the bits of x + beta * eps.
        const auto value = [&](V<T> v, int64_t j) {
            if (eps) v = v + vbeta * load(eps + j);
            return scaled ? vscale * v : v;
        };
        int64_t j = 0;
        if (out_stride == 1 && !blurred)
            for (; j + L <= columns; j += L) Pixel<Q, T>::write(out + j, value(load(z + j), j));
        for (; j < columns; j += L) {
            const int64_t left = columns - j < L ? columns - j : L;
            const V<T> v = load(z + j);
            if (blurred) put(blurred + j * blurred_stride, blurred_stride, left, v);
            put(out + j * out_stride, out_stride, left, value(v, j));
        }
    }

    static WARMOPS_INLINE void put(Q* p, int64_t stride, int64_t count, V<T> v) {
        if (stride == 1 && count == kLanes<T>) {
            Pixel<Q, T>::write(p, v);
        } else {
            write_some<Q, T>(p, stride, count, v);
        }
    }
};

void blur_noise(const BlurNoiseArgs& a) {
    switch (a.x.dtype) {
        case kFloat64: return Forward<double, double, double>::run(a);
        case kFloat32: return Forward<float, float, float>::run(a);
        case kFloat16: return Forward<Half, Half, float>::run(a);
        case kBFloat16: return Forward<BFloat, BFloat, float>::run(a);
        default: return Forward<uint8_t, float, float>::run(a);
    }
}

}  // namespace
