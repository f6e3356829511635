// One sampler update: x0 from the network's heads, a filter in the cosine domain, and the next state and slope.
//
// The linear form and its 14 coefficients are those of warmops/sampler_step.py. An image goes down its columns to
// frequencies, along its rows there and back with the filter in between, and up its columns again.
#pragma once
#include "ahead.h"
#include "dct_axis.h"
#include "parallel.h"
#include "strip_io.h"
#include "sum.h"

namespace {

constexpr int64_t kStepSerial = 1 << 13;  // pixels below which threads cost more than they bring
constexpr int64_t kStepDense = 1 << 12;   // pixels of an image up to which its rows lie without gaps: sums then take many at once
constexpr int64_t kStepAhead = 1 << 11;   // pixels of an image from which on memory is fetched ahead
constexpr int64_t kStepBlock = 1 << 10;   // rows are worked on together, up to this many pixels: copies stay in the L1 cache

struct StepCoefficients {
    double skip, out_b, out_r, k0, k1, alpha1, k2, k3, alpha2, a, b, g, p, q;
};

// K_ij - constant, transposed, for the strips of the rows' pass: [ceil(H / L), W, L], with the weights of II and III.
template <class T>
struct StepFilter {
    static constexpr int64_t L = kLanes<T>;
    int64_t height, width;
    StepCoefficients of{};
    bool built = false;
    double constant = 0.0;
    Buffer<T> table;
    Buffer<double> along, down;  // E(alpha1), E(alpha2), lambda of either axis

    StepFilter(int64_t h, int64_t w)
        : height(h), width(w), table(w * round_up(h, L)), along(3 * w), down(3 * round_up(h, kLanes<double>)) {}

    void build(const StepCoefficients& c) {
        if (built && memcmp(&of, &c, sizeof c) == 0) return;
        of = c;
        built = true;
        // Weak filters are nearly a number: taken out, what is left is small and its rounding errors smaller.
        constant = c.alpha1 < 0.64 && c.alpha2 < 0.64 ? c.k0 + c.k1 + c.k2 : 0.0;
        const int64_t lh = round_up(height, kLanes<double>);
        modes(c, width, along.data, width);
        modes(c, height, down.data, lh);
        for (int64_t j = 0; j < width; ++j) {
            const double weight = (j == 0 ? 1.0 : 2.0) / (double(width) * double(height));
            const VD e1 = set1(c.k1 * along.data[j]), e2 = set1(along.data[width + j]), lambda = set1(along.data[2 * width + j]);
            for (int64_t i = 0; i < lh; i += kLanes<double>) {
                const VD k = fma(set1(c.k3), lambda + load(down.data + 2 * lh + i), set1(c.k2));
                VD v = fma(e1, load(down.data + i), set1(c.k0 - constant));
                v = fma(k, e2 * load(down.data + lh + i), v);
                put(table.data + (i / L * width + j) * L + i % L, v * set1(2.0 * weight));
            }
            table.data[j * L] *= T(0.5);  // the first frequency down has half the weight
        }
    }

  private:
    static void modes(const StepCoefficients& c, int64_t n, double* e, int64_t ld) {
        for (int64_t k = 0; k < n; ++k) {
            const double x = M_PI * double(k) / double(n);
            e[k] = k == 0 ? 1.0 : exp(-0.5 * x * x * c.alpha1 * c.alpha1);
            e[ld + k] = k == 0 ? 1.0 : exp(-0.5 * x * x * c.alpha2 * c.alpha2);
            e[2 * ld + k] = x * x;
        }
    }
    static void put(double* p, VD v) { store(p, v); }
    static void put(float* p, VD v) {
        for (int i = 0; i < kLanes<double>; ++i) p[i] = float(v[i]);
    }
};

template <class T>
class SamplerStep {
    static constexpr int64_t L = kLanes<T>;
    const SamplerStepArgs& a;
    int64_t channels, height, width, ld, block;
    const Plan<T> down, along;

  public:
    explicit SamplerStep(const SamplerStepArgs& args)
        : a(args),
          channels(1),
          height(args.sizes[args.dims - 2]),
          width(args.sizes[args.dims - 1]),
          // Of larger images rows are no power of two apart: they fall into different sets of the cache.
          ld(width % L == 0 && height * width <= kStepDense ? width : round_up(width, L) + L),
          block(kStepBlock > width ? kStepBlock / width : 1),
          down(height),
          along(width) {
        for (int d = 1; d < a.dims - 2; ++d) channels *= a.sizes[d];
    }

    void run() const {
        const int64_t images = a.sizes[0] * channels, pixels = images * height * width;
        const int threads = pixels < kStepSerial ? 1 : a.threads;
        if (threads > 1 && images < 2 * threads && height * width >= kStepSerial) {  // few images: threads share each one
            Buffer<T> image(round_up(height, L) * ld);
            StepFilter<T> filter(height, width);
            for (int64_t i = 0; i < images; ++i) {
                const bool filtered = prepare(filter, i);
                for (int phase = filtered ? kCombine : kFinish; phase <= kFinish; ++phase)
                    in_parallel(threads, [&](int64_t rank, int64_t size) {
                        Scratch scratch(*this);
                        run_phase(phase, scratch, filter, image.data, i, filtered, rank, size);
                    });
            }
            return;
        }
        const int workers = threads < images ? threads : int(images);
        const Shares shares(images, workers);
        in_parallel(workers, [&](int64_t rank, int64_t) {
            Buffer<T> image(round_up(height, L) * ld);
            StepFilter<T> filter(height, width);
            Scratch scratch(*this);
            for (int64_t first, last; shares.take(rank, first, last);)
                for (int64_t i = first; i < last; ++i) {
                    const bool filtered = prepare(filter, i);
                    look_ahead(scratch.ahead, i, i + 1 < images ? i + 1 : i);
                    for (int phase = filtered ? kCombine : kFinish; phase <= kFinish; ++phase)
                        run_phase(phase, scratch, filter, image.data, i, filtered, 0, 1);
                }
        });
    }

  private:
    enum Phase { kCombine, kDown, kAlong, kUp, kFinish };
    enum Copy { kX, kHeadB, kHeadR, kSlope, kOut, kSlopeOut, kCopies };

    struct Scratch {
        Buffer<T> strip, transform, copies;
        Ahead ahead;
        explicit Scratch(const SamplerStep& s)
            : strip(round_up(s.width, L) * L),
              transform(StripDct<T>::kFilterScratch * s.longest() * L),
              copies(kCopies * s.copy_size()) {}
    };
    int64_t longest() const { return height > width ? height : width; }
    int64_t copy_size() const { return round_up(block * width, L) + L; }

    StepCoefficients coefficients(int64_t image) const {
        StepCoefficients c;
        memcpy(&c, a.coefficients + image / channels * a.coefficient_stride, sizeof c);
        return c;
    }

    // What the transforms of an image fetch meanwhile: where its results go, the slope that they take, and what the next image, most
    // often the same thread's, is made of. Smaller images are there soon enough, and of larger ones the second cache has no room for two.
    void look_ahead(Ahead& ahead, int64_t image, int64_t next) const {
        ahead.clear();
        if (height * width < kStepAhead || height * width > 8 * kStepAhead) return;
        add(ahead, a.out, image);
        add(ahead, a.slope, image);
        add(ahead, a.slope_out, image);
        add(ahead, a.x, next);
        add(ahead, a.head_b, next);
        add(ahead, a.head_r, next);
    }
    void add(Ahead& ahead, const View& view, int64_t image) const {
        const int d = a.dims - 2;
        if (!view.data || view.stride[d + 1] != 1 || view.stride[d] != width) return;
        const int64_t size = view.dtype == kFloat64 ? 8 : view.dtype == kFloat32 ? 4 : 2;
        ahead.add(static_cast<const char*>(view.data) + size * offset_of(image, a.sizes, view.stride, 0, d), size * height * width);
    }

    // Whether the image's filter is more than a number; if so it is built.
    bool prepare(StepFilter<T>& filter, int64_t image) const {
        const StepCoefficients c = coefficients(image);
        if (c.alpha1 == 0.0 && c.alpha2 == 0.0 && c.k3 == 0.0) return false;
        filter.build(c);
        return true;
    }

    void run_phase(int phase, Scratch& s, const StepFilter<T>& filter, T* image, int64_t i, bool filtered, int64_t rank, int64_t size) const {
        if (phase == kAlong) return along_rows(s, filter, image, rank, size);
        if (phase == kDown || phase == kUp) {
            for (T* f = image + rank * L; f < image + width; f += size * L) {
                if (phase == kDown) {
                    down->dct2(f, ld, f, ld, s.transform.data, &s.ahead);
                } else {
                    down->dct3(f, ld, f, ld, s.transform.data, &s.ahead);
                }
            }
            return;
        }
        const StepCoefficients k = coefficients(i);
        for (int64_t row = rank * block; row < height; row += size * block) {
            const Block at = {i, row, height - row < block ? height - row : block};
            if (phase == kCombine) {
                combine(s, k, image, at);
            } else {
                finish(s, k, filter, image, at, filtered);
            }
        }
    }

    // Whole vectors of rows and columns: those past the image go there and back.
    void along_rows(Scratch& s, const StepFilter<T>& filter, T* image, int64_t rank, int64_t size) const {
        T* const strip = s.strip.data;
        for (int64_t r = rank * L; r < height; r += size * L) {
            T* const rows = image + r * ld;
            for (int64_t j = 0; j < width; j += L)
                transpose<T>(rows_of(rows + j, ld), [&](int c, V<T> v) WARMOPS_INLINE_LAMBDA { store(strip + (j + c) * L, v); });
            along->filter_each(strip, L, strip, L, filter.table.data + r * width, L, s.transform.data, &s.ahead);
            for (int64_t j = 0; j < width; j += L)
                transpose<T>(rows_of(strip + j * L, L), [&](int c, V<T> v) WARMOPS_INLINE_LAMBDA { store(rows + c * ld + j, v); });
        }
    }

    // Rows [row, row + count) of an image.
    struct Block {
        int64_t image, row, count;
    };

    // x0 into the image buffer.
    void combine(Scratch& s, const StepCoefficients& k, T* image, const Block& at) const {
        Sum<T> sum;
        sum.add(read(s, kX, a.x, at), k.skip);
        if (a.head_b.data) sum.add(read(s, kHeadB, a.head_b, at), k.out_b);
        if (a.head_r.data) sum.add(read(s, kHeadR, a.head_r, at), k.out_r);
        sum.write({image + at.row * ld, ld}, {}, at.count, width);
    }

    // out and slope_out from the image buffer, which holds y - constant * x0.
    void finish(Scratch& s, const StepCoefficients& k, const StepFilter<T>& filter, const T* image, const Block& at, bool filtered) const {
        const double constant = filtered ? filter.constant : k.k0 + k.k1 + k.k2, bc = k.b * constant, qc = k.q * constant;
        const bool heads = constant != 0.0 || !filtered;  // a factor of 0 keeps a NaN
        const Rows<T> out = target(s, kOut, a.out, at), slope_out = target(s, kSlopeOut, a.slope_out, at);
        Sum<T> sum;
        sum.add(read(s, kX, a.x, at), k.a + bc * k.skip, k.p + qc * k.skip);
        if (filtered) sum.add({image + at.row * ld, ld}, k.b, k.q);
        if (heads && a.head_b.data) sum.add(read(s, kHeadB, a.head_b, at), bc * k.out_b, qc * k.out_b);
        if (heads && a.head_r.data) sum.add(read(s, kHeadR, a.head_r, at), bc * k.out_r, qc * k.out_r);
        if (a.slope.data && !slope_out.data) sum.add(read(s, kSlope, a.slope, at), k.g);
        sum.write(out, slope_out, at.count, width);
        if (a.slope.data && slope_out.data) {  // the slope given is no part of the slope returned: a NaN there must not get into it
            Sum<T> rest;
            rest.add({out.data, out.ld}, 1.0);
            rest.add(read(s, kSlope, a.slope, at), k.g);
            rest.write(out, {}, at.count, width);
        }
        write(s, kOut, a.out, at);
        write(s, kSlopeOut, a.slope_out, at);
    }

    bool is_direct(const View& view) const {
        return view.stride[a.dims - 1] == 1 && view.dtype == (sizeof(T) == 8 ? kFloat64 : kFloat32);
    }
    template <class P>
    P* address(const View& view, const Block& at) const {
        return static_cast<P*>(view.data) + offset_of(at.image, a.sizes, view.stride, 0, a.dims - 2) + at.row * view.stride[a.dims - 2];
    }

    Rows<const T> read(Scratch& s, Copy which, const View& view, const Block& at) const {
        if (is_direct(view)) return {address<const T>(view, at), view.stride[a.dims - 2]};
        T* copy = s.copies.data + which * copy_size();
        switch (view.dtype) {
            case kFloat64: read_as<double>(view, at, copy); break;
            case kFloat32: read_as<float>(view, at, copy); break;
            case kFloat16: read_as<Half>(view, at, copy); break;
            default: read_as<BFloat>(view, at, copy); break;
        }
        return {copy, width};
    }
    template <class P>
    void read_as(const View& view, const Block& at, T* copy) const {
        const P* p = address<const P>(view, at);
        const int64_t* stride = view.stride + a.dims - 2;
        if constexpr ((sizeof(P) == 8) == (sizeof(T) == 8)) {
            read_rows<P, T>(p, stride, at.count, width, copy);
        } else {  // heads of one precision, states of the other
            for (int64_t r = 0; r < at.count; ++r, p += stride[0])
                for (int64_t j = 0; j < width; ++j, ++copy) {
                    if constexpr (sizeof(P) == 2) {
                        *copy = T(read_some<P, float>(p + j * stride[1], 1, 1)[0]);
                    } else {
                        *copy = T(p[j * stride[1]]);
                    }
                }
        }
    }

    // Where a result is computed, and, if that is a copy, how it gets to the tensor.
    Rows<T> target(Scratch& s, Copy which, const View& view, const Block& at) const {
        if (!view.data) return {};
        if (is_direct(view)) return {address<T>(view, at), view.stride[a.dims - 2]};
        return {s.copies.data + which * copy_size(), width};
    }
    void write(const Scratch& s, Copy which, const View& view, const Block& at) const {
        if (!view.data || is_direct(view)) return;
        const T* copy = s.copies.data + which * copy_size();
        if constexpr (sizeof(T) == 8) {
            write_as<double>(view, at, copy);
        } else {
            switch (view.dtype) {
                case kFloat32: return write_as<float>(view, at, copy);
                case kFloat16: return write_as<Half>(view, at, copy);
                default: return write_as<BFloat>(view, at, copy);
            }
        }
    }
    template <class P>
    void write_as(const View& view, const Block& at, const T* copy) const {
        P* p = address<P>(view, at);
        const int64_t *stride = view.stride + a.dims - 2, count = width;
        for (int64_t r = 0; r < at.count; ++r, p += stride[0], copy += width)
            for (int64_t j = 0; j < count; j += L) {
                const int64_t left = count - j < L ? count - j : L;
                if (stride[1] != 1) {
                    write_some<P, T>(p + j * stride[1], stride[1], left, load(copy + j));
                } else if (left < L) {
                    First<P, T>::write(p + j, left, load(copy + j));
                } else {
                    Pixel<P, T>::write(p + j, load(copy + j));
                }
            }
    }
};

void sampler_step(const SamplerStepArgs& a) {
    if (a.x.dtype == kFloat64) {
        SamplerStep<double>(a).run();
    } else {
        SamplerStep<float>(a).run();
    }
}

}  // namespace
