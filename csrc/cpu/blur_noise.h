// x_t = scale * (A x + beta eps): images go along their rows, down their columns, and out with their noise.
#pragma once
#include "ahead.h"
#include "dct_axis.h"
#include "multipliers.h"
#include "noise.h"
#include "parallel.h"
#include "small_images.h"

namespace {

constexpr int64_t kSerialWork = 1 << 14;   // pixels below which threads cost more than they bring
constexpr int64_t kSmallPixels = 1 << 8;   // of an image up to which images go side by side
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
    Buffer<T> pixels, noise, strip, blurred, transform;
    Ahead ahead;

    Scratch(int64_t height, int64_t width)
        : pixels(kNoisePixels + width + kLanes<T>),
          noise(kNoisePixels + width + kNoiseBlock + 8 + kLanes<T>),
          strip(width * kLanes<T>),
          blurred(width * kLanes<T>),
          transform(StripDct<T>::kFilterScratch * (height > width ? height : width) * kLanes<T>) {}
};

// One for each thread. Threads that wait for each other are given theirs before they start: none may fail to arrive.
template <class T>
struct Scratches {
    Scratch<T>** each;
    int count = 0;

    Scratches(int threads, int64_t height, int64_t width) : each(new Scratch<T>*[size_t(threads)]) {
        try {
            for (; count < threads; ++count) each[count] = new Scratch<T>(height, width);
        } catch (...) {
            clear();
            throw;
        }
    }
    ~Scratches() { clear(); }
    Scratches(const Scratches&) = delete;
    Scratches& operator=(const Scratches&) = delete;

  private:
    void clear() {
        while (count > 0) delete each[--count];
        delete[] each;
    }
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
        if (are_small()) return run_small();
        const int64_t groups = samples * groups_of_sample, pixels = samples * channels * height * width;
        int threads = pixels < kSerialWork ? 1 : a.threads;
        // Few images: all threads share each one.
        const bool together = threads > 1 && groups < 2 * threads && height * width >= kSerialWork;
        if (!together && threads > groups) threads = int(groups);
        if (together) {
            Shared<T> shared(height, width, group);
            Scratches<T> scratches(threads, height, width);
            in_parallel(threads, [&](int rank, int size) { work(shared, *scratches.each[rank], Team{rank, size, true}, 0, groups); });
            return;
        }
        const Shares shares(groups, threads);
        in_parallel(threads, [&](int64_t rank, int64_t) {
            Shared<T> shared(height, width, group);
            Scratch<T> scratch(height, width);
            for (int64_t first, last; shares.take(rank, first, last);) work(shared, scratch, Team{0, 1, false}, first, last);
        });
    }

    bool are_small() const {
        const int d = a.dims - 2;
        return height * width <= kSmallPixels && samples * channels >= L && a.x.stride[d] == width && a.x.stride[d + 1] == 1;
    }

    void run_small() const {
        const int64_t images = samples * channels, strips = (images + L - 1) / L;
        int threads = images * height * width < kSerialWork ? 1 : a.threads;
        if (threads > strips) threads = int(strips);
        const Shares shares(strips, threads);
        in_parallel(threads, [&](int64_t rank, int64_t) {
            SmallImages<T> small(*dct_rows, *dct_columns);
            Scratch<T> scratch(height, width);
            for (int64_t first, last; shares.take(rank, first, last);)
                for (int64_t i = first * L; i < last * L && i < images; i += L) work_small(small, scratch, i, images - i < L ? images - i : L);
        });
    }

    // Images [first, first + count) of all.
    void work_small(SmallImages<T>& small, Scratch<T>& scratch, int64_t first, int64_t count) const {
        Sequences<const P> from;
        from.along = 1;
        from.count = int(count);
        bool any = false;
        for (int64_t l = 0; l < count; ++l) {
            const Group g = image_at(first + l);
            const double sigma = a.blur_sigma.at(g.sample);
            from.place(int(l), 1, image<const P>(a.x, g.sample, g.first), 0);
            if (sigma != 0.0) small.set(l, sigma);
            any = any || sigma != 0.0;
        }
        if (any) small.run(from);
        for (int64_t l = 0; l < count;) {
            Group g = image_at(first + l);
            g.count = channels - g.first < count - l ? channels - g.first : count - l;
            const bool is_blurred = a.blur_sigma.at(g.sample) != 0.0;
            finish(Blurred{is_blurred ? small.blurred.data + l * height * width : nullptr, height * width, width}, scratch, g, Team{0, 1, false});
            l += g.count;
        }
    }

    // Images [first, first + count) of one sample.
    struct Group {
        int64_t sample, first, count;
    };
    Group group_at(int64_t index) const {
        const int64_t first = index % groups_of_sample * group;
        return {index / groups_of_sample, first, channels - first < group ? channels - first : group};
    }

    Group image_at(int64_t index) const { return {index / channels, index % channels, 1}; }

    // A group after the blur: image i at data + i * next, its rows ld apart; data == nullptr: it stays as it is.
    struct Blurred {
        const T* data;
        int64_t next, ld;
    };

    void work(Shared<T>& shared, Scratch<T>& scratch, Team team, int64_t first, int64_t last) const {
        for (int64_t index = first; index < last; ++index) {
            const Group g = group_at(index);
            if (g.count <= 0) continue;
            const double sigma = a.blur_sigma.at(g.sample);
            if (sigma != 0.0) {
                if (team.rank == 0) shared.build(sigma);
                team.wait();
                if (!team.together) look_ahead(scratch.ahead, index);
                along_rows(shared, scratch, g, team);
                team.wait();
                down_columns(shared, scratch, g, team);
                team.wait();
            }
            finish(Blurred{sigma != 0.0 ? shared.images.data : nullptr, width, shared.ld}, scratch, g, team);
            team.wait();
        }
    }

    template <class E>
    E* image(const View& view, int64_t sample, int64_t channel) const {
        if (!view.data) return nullptr;
        const int64_t within = a.dims == 4 ? channel * view.stride[1] : offset_of(channel, a.sizes, view.stride, 1, a.dims - 2);
        return static_cast<E*>(view.data) + sample * view.stride[0] + within;
    }

    void along_rows(Shared<T>& shared, Scratch<T>& scratch, const Group& g, Team team) const {
        const int64_t rows = g.count * height, down = a.x.stride[a.dims - 2];
        Sequences<const P> from;
        Sequences<T> to;
        from.along = a.x.stride[a.dims - 1];
        to.along = 1;
        for (int64_t row = team.rank * L; row < rows; row += team.size * L) {
            from.count = to.count = int(rows - row < L ? rows - row : L);
            int64_t channel = row / height, r = row % height;
            for (int l = 0; l < from.count; r = 0, ++channel) {
                const int64_t run = from.count - l < height - r ? from.count - l : height - r;
                from.place(l, run, image<const P>(a.x, g.sample, g.first + channel) + r * down, down);
                to.place(l, run, shared.images.data + r * shared.ld + channel * width, shared.ld);
                l += int(run);
            }
            if (from.along != 1) from.template find_adjacent<T>();
            load_strip<P, T>(from, width, scratch.strip.data, L);
            dct_rows->filter(scratch.strip.data, L, scratch.blurred.data, L, shared.along.d.data, shared.along.identity, scratch.transform.data,
                             &scratch.ahead);
            store_strip<T, T>(scratch.blurred.data, L, width, to);
        }
    }

    void down_columns(Shared<T>& shared, Scratch<T>& scratch, const Group& g, Team team) const {
        const Multipliers<T>& m = shared.rows();
        for (int64_t column = team.rank * L; column < g.count * width; column += team.size * L) {
            T* f = shared.images.data + column;
            dct_columns->filter(f, shared.ld, f, shared.ld, m.d.data, m.identity, scratch.transform.data, &scratch.ahead);
        }
    }

    // What the transforms of a group fetch meanwhile: the next one, which most often the same thread takes.
    void look_ahead(Ahead& ahead, int64_t index) const {
        const int64_t *stride = a.x.stride + a.dims - 2, pixels = height * width;
        ahead.clear();
        if (index + 1 == samples * groups_of_sample || stride[1] != 1 || stride[0] != width) return;
        const Group next = group_at(index + 1);
        const P *first = image<const P>(a.x, next.sample, next.first), *last = image<const P>(a.x, next.sample, next.first + next.count - 1);
        if (last - first == (next.count - 1) * pixels) ahead.add(first, next.count * pixels * int64_t(sizeof(P)));
    }

    // Noise, scale, out and blurred.
    void finish(const Blurred& z, Scratch<T>& scratch, const Group& g, Team team) const {
        const int d = a.dims - 2;
        const Noise<T> noise(a.seed.at(g.sample));
        const T beta = T(a.noise_sigma.at(g.sample)), scale = T(a.scale.at(g.sample));
        const int64_t some = kNoisePixels > width ? kNoisePixels / width : 1;
        for (int64_t c = 0; c < g.count; ++c) {
            const int64_t channel = g.first + c;
            const P* x = image<const P>(a.x, g.sample, channel);
            const Q* given = image<const Q>(a.noise, g.sample, channel);
            Q *out = image<Q>(a.out, g.sample, channel), *blurred = image<Q>(a.blurred, g.sample, channel);
            for (int64_t row = team.rank * some; row < height; row += team.size * some) {
                const int64_t count = height - row < some ? height - row : some;
                Rows rows{z.data ? z.data + c * z.next + row * z.ld : nullptr, z.ld, nullptr, beta, scale, out + row * a.out.stride[d],
                          blurred ? blurred + row * a.blurred.stride[d] : nullptr};
                if (!z.data) {
                    read_rows<P, T>(x + row * a.x.stride[d], a.x.stride + d, count, width, scratch.pixels.data);
                    rows.z = scratch.pixels.data;
                    rows.ld = width;
                }
                if (beta != T(0) && given) {
                    read_rows<Q, T>(given + row * a.noise.stride[d], a.noise.stride + d, count, width, scratch.noise.data);
                    rows.eps = scratch.noise.data;
                } else if (beta != T(0)) {
                    rows.eps = noise.generate((channel * height + row) * width, count * width, scratch.noise.data);
                }
                if (rows.eps && scale != T(1)) {
                    finish_rows<true, true>(rows, count);
                } else if (rows.eps) {
                    finish_rows<true, false>(rows, count);
                } else if (scale != T(1)) {
                    finish_rows<false, true>(rows, count);
                } else {
                    finish_rows<false, false>(rows, count);
                }
            }
        }
    }

    // Neighbouring rows of one image: blurred, its noise (rows of width), and where they go.
    struct Rows {
        const T* z;
        int64_t ld;
        const T* eps;
        T beta, scale;
        Q *out, *blurred;
    };

    template <bool NOISY, bool SCALED>
    void finish_rows(Rows at, int64_t count) const {
        const int64_t down = a.out.stride[a.dims - 2], along = a.out.stride[a.dims - 1];
        const int64_t blurred_down = a.blurred.stride[a.dims - 2], blurred_along = a.blurred.stride[a.dims - 1];
        int64_t columns = width;
        if (at.ld == width && down == width && along == 1 && (!at.blurred || (blurred_down == width && blurred_along == 1))) {
            columns *= count;  // they are one long row
            count = 1;
        }
        const V<T> beta = set1(at.beta), scale = set1(at.scale);
        // Rounded one by one: alpha = 0 gives the bits of x + beta * eps.
        const auto value = [=](V<T> v, const T* eps, int64_t j) WARMOPS_INLINE_LAMBDA {
            if (NOISY) v = v + beta * load(eps + j);
            return SCALED ? scale * v : v;
        };
        for (; count > 0; --count, at.z += at.ld, at.out += down) {
            int64_t j = 0;
            if (along == 1 && !at.blurred)
                for (; j + L <= columns; j += L) Pixel<Q, T>::write(at.out + j, value(load(at.z + j), at.eps, j));
            for (; j < columns; j += L) {
                const int64_t left = columns - j < L ? columns - j : L;
                const V<T> v = load(at.z + j);
                if (at.blurred) put(at.blurred + j * blurred_along, blurred_along, left, v);
                put(at.out + j * along, along, left, value(v, at.eps, j));
            }
            if (NOISY) at.eps += columns;
            if (at.blurred) at.blurred += blurred_down;
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
