// One sampler update: x0 from the network's heads, a filter in the cosine domain, and the next state and slope.
//
// The linear form and its 14 coefficients are those of warmops/sampler_step.py. Images of a sample go down their columns
// to frequencies, along their rows there and back with the filter in between, and up their columns again.
#pragma once
#include "dct_axis.h"
#include "parallel.h"
#include "strip_io.h"

namespace {

constexpr int64_t kStepSerial = 1 << 13;  // pixels below which threads cost more than they bring
constexpr int64_t kStepGroup = 1 << 13;   // small images of one sample are worked on together, up to this many pixels

template <class P, class T>
inline const T* row_as(const View& view, int64_t offset, int64_t stride, int64_t count, T* buffer) {
    const P* p = static_cast<const P*>(view.data) + offset;
    if constexpr (sizeof(P) == sizeof(T)) {
        if (stride == 1) return p;
        for (int64_t j = 0; j < count; ++j) buffer[j] = p[j * stride];
    } else if constexpr (sizeof(P) == 8 || sizeof(T) == 8) {  // heads of one precision, states of the other
        for (int64_t j = 0; j < count; ++j) {
            if constexpr (sizeof(P) == 2) {
                buffer[j] = T(read_some<P, float>(p + j * stride, 1, 1)[0]);
            } else {
                buffer[j] = T(p[j * stride]);
            }
        }
    } else {
        read_row<P, T>(p, stride, count, buffer);
    }
    return buffer;
}

// A row of a tensor of any dtype, as T: where it lies, or a copy in the given buffer.
template <class T>
inline const T* row_of(const View& view, int64_t offset, int64_t stride, int64_t count, T* buffer) {
    switch (view.dtype) {
        case kFloat64: return row_as<double>(view, offset, stride, count, buffer);
        case kFloat32: return row_as<float>(view, offset, stride, count, buffer);
        case kFloat16: return row_as<Half>(view, offset, stride, count, buffer);
        default: return row_as<BFloat>(view, offset, stride, count, buffer);
    }
}
template <class P, class T>
inline void write_row_as(const T* row, P* p, int64_t stride, int64_t count) {
    for (int64_t j = 0; j < count; j += kLanes<T>) {
        const int64_t left = count - j < kLanes<T> ? count - j : kLanes<T>;
        if (stride == 1 && left == kLanes<T>) {
            Pixel<P, T>::write(p + j, load(row + j));
        } else {
            write_some<P, T>(p + j * stride, stride, left, load(row + j));
        }
    }
}
inline void write_row(const float* row, const View& view, int64_t offset, int64_t stride, int64_t count) {
    switch (view.dtype) {
        case kFloat32: return write_row_as(row, static_cast<float*>(view.data) + offset, stride, count);
        case kFloat16: return write_row_as(row, static_cast<Half*>(view.data) + offset, stride, count);
        default: return write_row_as(row, static_cast<BFloat*>(view.data) + offset, stride, count);
    }
}
inline void write_row(const double* row, const View& view, int64_t offset, int64_t stride, int64_t count) {
    write_row_as(row, static_cast<double*>(view.data) + offset, stride, count);
}

struct StepCoefficients {
    double skip, out_b, out_r, k0, k1, alpha1, k2, k3, alpha2, a, b, g, p, q;
};

// K_ij - constant, transposed: [W, ld], for the strips of the rows' pass, with the weights of II and III.
template <class T>
struct StepFilter {
    int64_t height, width, ld;
    StepCoefficients of{};
    bool built = false;
    double constant = 0.0;
    Buffer<T> table;
    Buffer<double> along, down;  // E(alpha1), E(alpha2), lambda of either axis

    StepFilter(int64_t h, int64_t w)
        : height(h), width(w), ld(round_up(h, kLanes<T>)), table(w * ld), along(3 * w), down(3 * round_up(h, kLanes<double>)) {}

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
                put(table.data + j * ld + i, v * set1(2.0 * weight));
            }
            table.data[j * ld] *= T(0.5);  // the first frequency down has half the weight
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
    int64_t samples, channels, height, width, group, groups_of_sample, ld;
    const Plan<T> down, along;

  public:
    explicit SamplerStep(const SamplerStepArgs& args)
        : a(args),
          samples(args.sizes[0]),
          channels(1),
          height(args.sizes[args.dims - 2]),
          width(args.sizes[args.dims - 1]),
          down(height),
          along(width) {
        for (int d = 1; d < a.dims - 2; ++d) channels *= a.sizes[d];
        const int64_t most = kStepGroup / (height * width);
        groups_of_sample = most < 1 ? channels : (channels + most - 1) / most;
        group = (channels + groups_of_sample - 1) / groups_of_sample;
        ld = round_up(group * width, L) + L;
    }

    void run() const {
        const int64_t groups = samples * groups_of_sample, pixels = samples * channels * height * width;
        const int threads = pixels < kStepSerial ? 1 : a.threads;
        if (threads > 1 && groups < 2 * threads && height * width >= kStepSerial) {  // few images: threads share each one
            Buffer<T> images(height * ld);
            StepFilter<T> filter(height, width);
            for (int64_t g = 0; g < groups; ++g) {
                const Group at = group_at(g);
                if (at.count <= 0) continue;
                const bool filtered = prepare(filter, at);
                for (int phase = filtered ? 0 : kFinish; phase <= kFinish; ++phase)
                    in_parallel(threads, [&](int64_t rank, int64_t size) {
                        Scratch scratch(*this);
                        run_phase(phase, scratch, filter, images.data, at, filtered, rank, size);
                    });
            }
            return;
        }
        in_parallel(threads < groups ? threads : int(groups), [&](int64_t rank, int64_t size) {
            Buffer<T> images(height * ld);
            StepFilter<T> filter(height, width);
            Scratch scratch(*this);
            for (int64_t g = groups * rank / size; g < groups * (rank + 1) / size; ++g) {
                const Group at = group_at(g);
                if (at.count <= 0) continue;
                const bool filtered = prepare(filter, at);
                for (int phase = filtered ? 0 : kFinish; phase <= kFinish; ++phase)
                    run_phase(phase, scratch, filter, images.data, at, filtered, 0, 1);
            }
        });
    }

  private:
    enum Phase { kCombine, kDown, kAlong, kUp, kFinish };

    // Images [first, first + count) of one sample.
    struct Group {
        int64_t sample, first, count;
    };
    Group group_at(int64_t index) const {
        const int64_t first = index % groups_of_sample * group;
        return {index / groups_of_sample, first, channels - first < group ? channels - first : group};
    }

    struct Scratch {
        Buffer<T> strip, result, transform, rows, zeros;
        explicit Scratch(const SamplerStep& s)
            : strip(s.longest() * L), result(s.longest() * L), transform(StripDct<T>::kScratch * s.longest() * L), rows(6 * s.row()), zeros(s.row()) {}
    };
    int64_t longest() const { return height > width ? height : width; }
    int64_t row() const { return round_up(width, L) + L; }

    StepCoefficients coefficients(int64_t sample) const {
        StepCoefficients c;
        memcpy(&c, a.coefficients + sample * a.coefficient_stride, sizeof c);
        return c;
    }

    // Whether the sample's filter is more than a number; if so it is built.
    bool prepare(StepFilter<T>& filter, const Group& g) const {
        const StepCoefficients c = coefficients(g.sample);
        if (c.alpha1 == 0.0 && c.alpha2 == 0.0 && c.k3 == 0.0) return false;
        filter.build(c);
        return true;
    }

    void run_phase(int phase, Scratch& s, const StepFilter<T>& filter, T* images, const Group& g, bool filtered, int64_t rank,
                   int64_t size) const {
        switch (phase) {
            case kCombine: 
                return each_row(g, rank, size, [&](const StepCoefficients& k, const Origin& at, int64_t c, int64_t r) {
                    combine(s, k, images + r * ld + c * width, at, r);
                });
            case kDown: return each_strip(g, rank, size, [&](int64_t column) { down->dct2(images + column, ld, images + column, ld, s.transform.data); });
            case kAlong: return along_rows(s, filter, images, g, rank, size);
            case kUp:
                return each_strip(g, rank, size, [&](int64_t column) { down->dct3_in_place(images + column, ld, s.result.data, s.transform.data); });
            default:
                return each_row(g, rank, size, [&](const StepCoefficients& k, const Origin& at, int64_t c, int64_t r) {
                    finish(s, k, filter, images + r * ld + c * width, at, r, filtered);
                });
        }
    }

    // Where an image begins in each tensor.
    struct Origin {
        int64_t x, head_b, head_r, slope, out, slope_out;
    };
    int64_t origin(const View& view, const Group& g, int64_t c) const {
        return view.data ? offset_of(g.sample * channels + g.first + c, a.sizes, view.stride, 0, a.dims - 2) : 0;
    }

    template <class Body>
    void each_row(const Group& g, int64_t rank, int64_t size, const Body& body) const {
        const StepCoefficients k = coefficients(g.sample);
        for (int64_t c = 0; c < g.count; ++c) {
            const Origin at = {origin(a.x, g, c),     origin(a.head_b, g, c), origin(a.head_r, g, c),
                               origin(a.slope, g, c), origin(a.out, g, c),    origin(a.slope_out, g, c)};
            for (int64_t r = rank; r < height; r += size) body(k, at, c, r);
        }
    }
    template <class Body>
    void each_strip(const Group& g, int64_t rank, int64_t size, const Body& body) const {
        for (int64_t column = rank * L; column < g.count * width; column += size * L) body(column);
    }

    const T* row_at(const View& view, int64_t from, int64_t r, T* buffer) const {
        if (!view.data) return nullptr;
        return row_of(view, from + r * view.stride[a.dims - 2], view.stride[a.dims - 1], width, buffer);
    }
    // Where a row is to be written: in the tensor if that is how T lies there, else in buffer.
    T* target(const View& view, int64_t from, int64_t r, T* buffer) const {
        const bool direct = view.stride[a.dims - 1] == 1 && view.dtype == (sizeof(T) == 8 ? kFloat64 : kFloat32);
        return direct ? static_cast<T*>(view.data) + from + r * view.stride[a.dims - 2] : buffer;
    }
    // out[j] = sum of factor[i] * row[i][j]. Rows may end where the tensor ends. An absent row is nullptr.
    template <int N>
    void combine_rows(Scratch& s, const double (&factor)[N], const T* (&row)[N], T* out) const {
        V<T> f[N];
#pragma GCC unroll 8
        for (int i = 0; i < N; ++i) {
            f[i] = set1(row[i] ? T(factor[i]) : T(0));
            if (!row[i]) row[i] = s.zeros.data;
        }
        int64_t j = 0;
        for (; j + L <= width; j += L) {
            V<T> v = f[0] * load(row[0] + j);
#pragma GCC unroll 8
            for (int i = 1; i < N; ++i) v = fma(f[i], load(row[i] + j), v);
            store(out + j, v);
        }
        if (j == width) return;
        V<T> v = f[0] * load_first(row[0] + j, width - j);
        for (int i = 1; i < N; ++i) v = fma(f[i], load_first(row[i] + j, width - j), v);
        store_first(out + j, width - j, v);
    }

    // x0 of one row.
    void combine(Scratch& s, const StepCoefficients& k, T* to, const Origin& from, int64_t r) const {
        const T* rows[] = {row_at(a.x, from.x, r, s.rows.data), row_at(a.head_b, from.head_b, r, s.rows.data + row()),
                           row_at(a.head_r, from.head_r, r, s.rows.data + 2 * row())};
        combine_rows(s, {k.skip, k.out_b, k.out_r}, rows, to);
    }

    void along_rows(Scratch& s, const StepFilter<T>& filter, T* images, const Group& g, int64_t rank, int64_t size) const {
        const int64_t strips = (height + L - 1) / L;
        Sequences<T> rows;
        rows.along = 1;
        rows.adjacent = false;
        for (int64_t i = rank; i < g.count * strips; i += size) {
            const int64_t c = i / strips, r = i % strips * L;
            rows.count = int(height - r < L ? height - r : L);
            for (int l = 0; l < rows.count; ++l) rows.begin[l] = images + (r + l) * ld + c * width;
            Sequences<const T> from;
            memcpy(&from, &rows, sizeof from);
            load_strip<T, T>(from, width, s.strip.data, L);
            along->dct2(s.strip.data, L, s.result.data, L, s.transform.data);
            for (int64_t j = 0; j < width; ++j) store(s.result.data + j * L, load(s.result.data + j * L) * load(filter.table.data + j * filter.ld + r));
            along->dct3(s.result.data, L, s.strip.data, L, s.transform.data);
            store_strip<T, T>(s.strip.data, L, width, rows);
        }
    }

    // out and slope_out of one row from y - constant * x0 in z.
    void finish(Scratch& s, const StepCoefficients& k, const StepFilter<T>& filter, const T* z, const Origin& from, int64_t r,
                bool filtered) const {
        const double constant = filtered ? filter.constant : k.k0 + k.k1 + k.k2;
        const bool heads = constant != 0.0;
        const T* x = row_at(a.x, from.x, r, s.rows.data);
        const T* b = heads ? row_at(a.head_b, from.head_b, r, s.rows.data + row()) : nullptr;
        const T* d = heads ? row_at(a.head_r, from.head_r, r, s.rows.data + 2 * row()) : nullptr;
        const T* slope = row_at(a.slope, from.slope, r, s.rows.data + 3 * row());
        T *const out_buffer = s.rows.data + 4 * row(), *const slope_buffer = s.rows.data + 5 * row();
        T* const out = target(a.out, from.out, r, out_buffer);
        T* const slope_out = a.slope_out.data ? target(a.slope_out, from.slope_out, r, slope_buffer) : nullptr;
        const T* rows[] = {x, filtered ? z : nullptr, b, d, slope};
        const double bc = k.b * constant, qc = k.q * constant;
        combine_rows(s, {k.a + bc * k.skip, k.b, bc * k.out_b, bc * k.out_r, k.g}, rows, out);
        if (slope_out) combine_rows(s, {k.p + qc * k.skip, k.q, qc * k.out_b, qc * k.out_r, 0.0}, rows, slope_out);
        const int64_t d_row = a.dims - 2;
        if (out == out_buffer) write_row(out, a.out, from.out + r * a.out.stride[d_row], a.out.stride[d_row + 1], width);
        if (slope_out == slope_buffer)
            write_row(slope_out, a.slope_out, from.slope_out + r * a.slope_out.stride[d_row], a.slope_out.stride[d_row + 1], width);
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
