// x_t = scale * (A x + beta eps): images go along their rows, down their columns, and out with their noise.
#pragma once
#ifdef _OPENMP
#include <omp.h>
#endif

#include "dct_axis.h"
#include "multipliers.h"
#include "noise.h"
#include "strip_io.h"

namespace {

constexpr int64_t kSerialWork = 1 << 14;   // pixels below which threads cost more than they bring
constexpr int64_t kGroupPixels = 1 << 13;  // small images of one sample are worked on together, up to this many pixels
constexpr int64_t kNoisePixels = 1 << 10;  // normals are made for about as many pixels at a time: they stay in the L1 cache

struct Team {
    int rank, size;
    bool together;  // all threads work on one image; else each thread has images of its own
    void wait() const {
        if (together) {
#ifdef _OPENMP
#pragma omp barrier
#endif
        }
    }
};

// What the threads of a group of images share: its blur, and the images side by side.
template <class T>
struct Shared {
    Multipliers<T> down, along;
    double sigma = 0.0;
    int64_t ld;
    Buffer<T> images;

    Shared(int64_t height, int64_t width, int64_t group)
        : down(height),
          along(width),
          ld(round_up(group * width, kLanes<T>) + kLanes<T>),  // not a power of two: rows fall into different sets of the cache
          images(height * ld) {}

    void build(double level) {
        if (level == sigma || level == 0.0) return;
        sigma = level;
        along.build(level);
        if (down.n != along.n) down.build(level);
    }
    const Multipliers<T>& rows() const { return down.n == along.n ? along : down; }
};

// A thread's own buffers.
template <class T>
struct Scratch {
    Buffer<T> noise, strip, blurred, transform;

    Scratch(int64_t height, int64_t width)
        : noise(kNoisePixels + width + kNoiseBlock + 8 + kLanes<T>),
          strip(width * kLanes<T>),
          blurred(width * kLanes<T>),
          transform(StripDct<T>::kFilterScratch * (height > width ? height : width) * kLanes<T>) {}
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
    static constexpr int64_t L = kLanes<T>;

    const BlurNoiseArgs& a;
    int64_t samples, channels, height, width;
    int64_t group;             // images of one sample that are worked on together
    int64_t groups_of_sample;
    const Plan<T> dct_rows, dct_columns;

    explicit Forward(const BlurNoiseArgs& args)
        : a(args),
          samples(args.sizes[0]),
          channels(1),
          height(args.sizes[args.dims - 2]),
          width(args.sizes[args.dims - 1]),
          dct_rows(width),
          dct_columns(height) {
        for (int d = 1; d < a.dims - 2; ++d) channels *= a.sizes[d];
        const int64_t most = kGroupPixels / (height * width);
        groups_of_sample = most < 1 ? channels : (channels + most - 1) / most;
        group = (channels + groups_of_sample - 1) / groups_of_sample;
    }

    void run_all() {
        const int64_t groups = samples * groups_of_sample, pixels = samples * channels * height * width;
        int threads = pixels < kSerialWork ? 1 : a.threads;
        // Few images: all threads share each one.
        const bool together = threads > 1 && groups < 2 * threads && height * width >= kSerialWork;
        if (!together && threads > groups) threads = int(groups);
#ifdef _OPENMP
        if (threads > 1 && together) {
            Shared<T> shared(height, width, group);
#pragma omp parallel num_threads(threads)
            work(shared, Team{omp_get_thread_num(), omp_get_num_threads(), true}, 0, groups);
            return;
        }
        if (threads > 1) {
#pragma omp parallel num_threads(threads)
            {
                Shared<T> shared(height, width, group);
                const int64_t rank = omp_get_thread_num(), size = omp_get_num_threads();
                work(shared, Team{0, 1, false}, groups * rank / size, groups * (rank + 1) / size);
            }
            return;
        }
#endif
        Shared<T> shared(height, width, group);
        work(shared, Team{0, 1, false}, 0, groups);
    }

    // Images [first, first + count) of one sample.
    struct Group {
        int64_t sample, first, count;
    };
    Group group_at(int64_t index) const {
        const int64_t first = index % groups_of_sample * group;
        return {index / groups_of_sample, first, channels - first < group ? channels - first : group};
    }

    void work(Shared<T>& shared, Team team, int64_t first, int64_t last) const {
        Scratch<T> scratch(height, width);
        for (int64_t index = first; index < last; ++index) {
            const Group g = group_at(index);
            if (g.count <= 0) continue;
            const double sigma = a.blur_sigma.at(g.sample);
            if (sigma != 0.0) {
                if (team.rank == 0) shared.build(sigma);
                team.wait();
                along_rows(shared, scratch, g, team);
                team.wait();
                down_columns(shared, scratch, g, team);
                team.wait();
            }
            finish(shared, scratch, g, sigma != 0.0, index + 1 < last ? group_at(index + 1) : Group{0, 0, 0}, team);
            team.wait();
        }
    }

    template <class E>
    E* image(const View& view, int64_t sample, int64_t channel) const {
        return view.data ? static_cast<E*>(view.data) + offset_of(sample * channels + channel, a.sizes, view.stride, 0, a.dims - 2) : nullptr;
    }

    void along_rows(Shared<T>& shared, Scratch<T>& scratch, const Group& g, Team team) const {
        const int64_t rows = g.count * height, down = a.x.stride[a.dims - 2];
        Sequences<const P> from;
        Sequences<T> to;
        from.along = a.x.stride[a.dims - 1];
        to.along = 1;
        to.adjacent = false;
        for (int64_t row = team.rank * L; row < rows; row += team.size * L) {
            from.count = to.count = int(rows - row < L ? rows - row : L);
            int64_t channel = row / height, r = row % height;
            const P* x = image<const P>(a.x, g.sample, g.first + channel);
            for (int l = 0; l < from.count; ++l) {
                from.begin[l] = x + r * down;
                to.begin[l] = shared.images.data + r * shared.ld + channel * width;
                if (++r == height && l + 1 < from.count) {
                    r = 0;
                    x = image<const P>(a.x, g.sample, g.first + ++channel);
                }
            }
            from.find_adjacent();
            load_strip<P, T>(from, width, scratch.strip.data, L);
            dct_rows->filter(scratch.strip.data, L, scratch.blurred.data, L, shared.along.d.data, shared.along.identity, scratch.transform.data);
            store_strip<T, T>(scratch.blurred.data, L, width, to);
        }
    }

    void down_columns(Shared<T>& shared, Scratch<T>& scratch, const Group& g, Team team) const {
        const Multipliers<T>& m = shared.rows();
        for (int64_t column = team.rank * L; column < g.count * width; column += team.size * L) {
            T* f = shared.images.data + column;
            dct_columns->filter(f, shared.ld, f, shared.ld, m.d.data, m.identity, scratch.transform.data);
        }
    }

    // Noise, scale, out and blurred. next comes from memory while this group keeps the arithmetic busy.
    void finish(Shared<T>& shared, Scratch<T>& scratch, const Group& g, bool is_blurred, const Group& next, Team team) const {
        const int d = a.dims - 2;
        const Noise<T> noise(a.seed.at(g.sample));
        const T beta = T(a.noise_sigma.at(g.sample)), scale = T(a.scale.at(g.sample));
        const int64_t some = kNoisePixels > width ? kNoisePixels / width : 1;
        for (int64_t c = 0; c < g.count; ++c) {
            const int64_t channel = g.first + c;
            const P *x = image<const P>(a.x, g.sample, channel), *next_x = c < next.count ? image<const P>(a.x, next.sample, next.first + c) : nullptr;
            const Q* given = image<const Q>(a.noise, g.sample, channel);
            Q *out = image<Q>(a.out, g.sample, channel), *blurred = image<Q>(a.blurred, g.sample, channel);
            for (int64_t row = team.rank * some; row < height; row += team.size * some) {
                const int64_t count = height - row < some ? height - row : some;
                if (next_x && a.x.stride[d + 1] == 1) prefetch(next_x + row * a.x.stride[d], count);
                const bool draws = beta != T(0) && !given;
                const T* eps = draws ? noise.generate((channel * height + row) * width, count * width, scratch.noise.data) : nullptr;
                for (int64_t r = row; r < row + count; ++r, eps += draws ? width : 0) {
                    const T* z = shared.images.data + r * shared.ld + c * width;
                    if (!is_blurred) {
                        read_row<P, T>(x + r * a.x.stride[d], a.x.stride[d + 1], width, scratch.strip.data);
                        z = scratch.strip.data;
                    }
                    if (beta != T(0) && given) {
                        read_row<Q, T>(given + r * a.noise.stride[d], a.noise.stride[d + 1], width, scratch.noise.data);
                        eps = scratch.noise.data;
                    }
                    finish_row(z, eps, beta, scale, out + r * a.out.stride[d], a.out.stride[d + 1],
                               blurred ? blurred + r * a.blurred.stride[d] : nullptr, a.blurred.stride[d + 1]);
                }
            }
        }
    }

    void prefetch(const P* x, int64_t rows) const {
        for (int64_t r = 0; r < rows; ++r)
            for (int64_t j = 0; j < width; j += 64 / int64_t(sizeof(P))) __builtin_prefetch(x + r * a.x.stride[a.dims - 2] + j, 0, 2);
    }

    void finish_row(const T* z, const T* eps, T beta, T scale, Q* out, int64_t out_stride, Q* blurred, int64_t blurred_stride) const {
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
            if (stride == 1) {
                First<Q, T>::write(p, count, v);
            } else {
                write_some<Q, T>(p, stride, count, v);
            }
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
