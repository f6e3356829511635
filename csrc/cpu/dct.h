// Cosine and sine transforms of a tensor along any of its dimensions.
//
// Two axes go through one buffer, image by image, so that the tensor is read once and written once; any further axis is
// one more pass over the result, in place.
#pragma once
#include "dct_axis.h"
#include "parallel.h"
#include "strip_io.h"

namespace {

constexpr int64_t kDctSerial = 1 << 14;       // elements below which threads cost more than they bring
constexpr int64_t kDctGroup = 1 << 12;        // small images are worked on together, up to this many elements
constexpr int64_t kDctTogether = 1 << 16;     // elements of an image that several threads share when there are few

// Counts through the dimensions of a tensor but some, with the offsets in an input and an output.
class Walk {
    int dims = 0;
    int64_t size[kMaxDims], step_in[kMaxDims], step_out[kMaxDims], at[kMaxDims];

  public:
    int64_t total = 1, in = 0, out = 0;

    // The dimension whose elements are neighbours in x comes last and so runs fastest.
    Walk(const DctArgs& a, const int64_t* extent, const View& x, const View& y, int skip, int skip_too) {
        int last = -1;
        for (int d = 0; d < a.dims; ++d)
            if (d != skip && d != skip_too && x.stride[d] == 1 && extent[d] > 1) last = d;
        for (int d = 0; d < a.dims; ++d)
            if (d != last) add(d, extent, x, y, skip, skip_too);
        if (last >= 0) add(last, extent, x, y, skip, skip_too);
    }
    void seek(int64_t index) {
        in = out = 0;
        for (int d = dims - 1; d >= 0; --d) {
            at[d] = index % size[d];
            index /= size[d];
            in += at[d] * step_in[d];
            out += at[d] * step_out[d];
        }
    }
    void next() {
        for (int d = dims - 1; d >= 0; --d) {
            in += step_in[d];
            out += step_out[d];
            if (++at[d] < size[d]) return;
            in -= size[d] * step_in[d];
            out -= size[d] * step_out[d];
            at[d] = 0;
        }
    }

  private:
    void add(int d, const int64_t* extent, const View& x, const View& y, int skip, int skip_too) {
        if (d == skip || d == skip_too || extent[d] == 1) return;
        size[dims] = extent[d];
        step_in[dims] = x.stride[d];
        step_out[dims] = y.stride[d];
        total *= extent[d];
        ++dims;
    }
};

inline int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

template <class T>
void clear_rows(T* rows, int64_t ld, int64_t from, int64_t to) {
    for (int64_t j = from; j < to; ++j) store(rows + j * ld, V<T>{});
}

// One axis: strips of kLanes sequences. x and y may be the same memory. extent: the sizes of the other dimensions.
template <class P, class Q, class T>
void dct_one(const DctArgs& a, const View& x, const View& y, const int64_t* extent, const DctAxis& axis, T factor) {
    constexpr int64_t L = kLanes<T>;
    const int64_t n = a.sizes[axis.dim], n_in = least(extent[axis.dim], n);
    const AxisTransform<T> transform(axis, n);
    const Walk all(a, extent, x, y, axis.dim, -1);
    const int64_t strips = (all.total + L - 1) / L;
    const int threads = all.total * n < kDctSerial ? 1 : int(least(a.threads, strips));
    const Shares shares(strips, threads);
    in_parallel(threads, [&](int64_t rank, int64_t) {
        Buffer<T> strip(n * L), result(n * L), scratch(AxisTransform<T>::kScratch * n * L);
        Sequences<const P> from;
        Sequences<Q> to;
        from.along = x.stride[axis.dim];
        to.along = y.stride[axis.dim];
        Walk walk = all;
        for (int64_t first, last; shares.take(rank, first, last);) {
            walk.seek(first * L);
            for (int64_t s = first * L; s < least(last * L, all.total); s += L) {
                from.count = to.count = int(least(L, all.total - s));
                for (int l = 0; l < from.count; ++l, walk.next()) {
                    from.begin[l] = static_cast<const P*>(x.data) + walk.in;
                    to.begin[l] = static_cast<Q*>(y.data) + walk.out;
                }
                from.template find_adjacent<T>();
                to.template find_adjacent<T>();
                load_strip<P, T>(from, n_in, strip.data, L, factor);
                clear_rows(strip.data, L, n_in, n);
                transform.run(strip.data, L, result.data, L, scratch.data);
                store_strip<Q, T>(result.data, L, n, to);
            }
        }
    });
}

// Two axes: along the rows, then down the columns.
template <class P, class Q, class T>
class DctTwo {
    static constexpr int64_t L = kLanes<T>;
    const DctArgs& a;
    const View &x, &y;
    const DctAxis &down, &along;
    const T factor;
    const AxisTransform<T> transform_down, transform_along;
    const Walk all;
    const int64_t height, width, rows_in, columns_in;
    int64_t group, groups, ld;

  public:
    DctTwo(const DctArgs& args, const View& from, const View& to, const int64_t* extent, const DctAxis& d, const DctAxis& w, T f)
        : a(args),
          x(from),
          y(to),
          down(d),
          along(w),
          factor(f),
          transform_down(d, args.sizes[d.dim]),
          transform_along(w, args.sizes[w.dim]),
          all(args, extent, from, to, d.dim, w.dim),
          height(args.sizes[d.dim]),
          width(args.sizes[w.dim]),
          rows_in(least(extent[d.dim], height)),
          columns_in(least(extent[w.dim], width)) {
        group = kDctGroup / (height * width);
        group = group < 1 ? 1 : least(group, all.total);
        groups = (all.total + group - 1) / group;
        ld = round_up(group * width, L) + L;
    }

    void run() const {
        const int64_t elements = all.total * height * width;
        int threads = elements < kDctSerial ? 1 : a.threads;
        if (threads > 1 && groups < 2 * threads && height * width >= kDctTogether) {
            Buffer<T> images(height * ld);
            for (int64_t g = 0; g < groups; ++g) {
                in_parallel(threads, [&](int64_t rank, int64_t size) { rows(images.data, g, rank, size); });
                in_parallel(threads, [&](int64_t rank, int64_t size) { columns(images.data, g, rank, size); });
            }
            return;
        }
        const Shares shares(groups, least(threads, groups));
        in_parallel(int(least(threads, groups)), [&](int64_t rank, int64_t) {
            Buffer<T> images(height * ld);
            Strips strips(*this);
            for (int64_t first, last; shares.take(rank, first, last);)
                for (int64_t g = first; g < last; ++g) {
                    rows(strips, images.data, g, 0, 1);
                    columns(strips, images.data, g, 0, 1);
                }
        });
    }

  private:
    struct Strips {
        Buffer<T> strip, result, scratch;
        explicit Strips(const DctTwo& two)
            : strip(two.width * L),
              result((two.width > two.height ? two.width : two.height) * L),
              scratch(AxisTransform<T>::kScratch * (two.width > two.height ? two.width : two.height) * L) {}
    };

    void rows(T* images, int64_t g, int64_t rank, int64_t size) const {
        Strips strips(*this);
        rows(strips, images, g, rank, size);
    }
    void columns(T* images, int64_t g, int64_t rank, int64_t size) const {
        Strips strips(*this);
        columns(strips, images, g, rank, size);
    }

    void rows(Strips& strips, T* images, int64_t g, int64_t rank, int64_t size) const {
        const int64_t count = least(group, all.total - g * group) * rows_in;
        Sequences<const P> from;
        Sequences<T> to;
        from.along = x.stride[along.dim];
        to.along = 1;
        Walk walk = all;
        for (int64_t row = rank * L; row < count; row += size * L) {
            from.count = to.count = int(least(L, count - row));
            int64_t image = row / rows_in, r = row % rows_in;
            walk.seek(g * group + image);
            for (int l = 0; l < from.count; r = 0, ++image, walk.next()) {
                const int64_t run = least(from.count - l, rows_in - r);
                from.place(l, run, static_cast<const P*>(x.data) + walk.in + r * x.stride[down.dim], x.stride[down.dim]);
                to.place(l, run, images + r * ld + image * width, ld);
                l += int(run);
            }
            if (from.along != 1) from.template find_adjacent<T>();
            load_strip<P, T>(from, columns_in, strips.strip.data, L, factor);
            clear_rows(strips.strip.data, L, columns_in, width);
            transform_along.run(strips.strip.data, L, strips.result.data, L, strips.scratch.data);
            store_strip<T, T>(strips.result.data, L, width, to);
        }
    }

    void columns(Strips& strips, T* images, int64_t g, int64_t rank, int64_t size) const {
        const int64_t count = least(group, all.total - g * group) * width;
        Sequences<Q> to;
        to.along = y.stride[down.dim];
        Walk walk = all;
        for (int64_t column = rank * L; column < count; column += size * L) {
            to.count = int(least(L, count - column));
            int64_t c = column % width;
            walk.seek(g * group + column / width);
            for (int l = 0; l < to.count; c = 0, walk.next()) {
                const int64_t run = least(to.count - l, width - c);
                to.place(l, run, static_cast<Q*>(y.data) + walk.out + c * y.stride[along.dim], y.stride[along.dim]);
                l += int(run);
            }
            to.template find_adjacent<T>();
            clear_rows(images + column, ld, rows_in, height);
            transform_down.run(images + column, ld, strips.result.data, L, strips.scratch.data);
            store_strip<Q, T>(strips.result.data, L, height, to);
        }
    }
};

// P: how x and out are stored; T: what is computed in, and how results between passes are stored.
template <class P, class T>
void dct_axes(const DctArgs& a) {
    double factor = 1.0;
    int64_t extent[kMaxDims];
    for (int d = 0; d < a.dims; ++d) extent[d] = a.sizes_in[d];
    for (int i = 0; i < a.axes; ++i) factor *= a.axis[i].scale;
    // From the last dimension to the first: the same bits for any strides.
    DctAxis axis[kMaxDims];
    for (int i = 0; i < a.axes; ++i) {
        int j = i;
        for (; j > 0 && axis[j - 1].dim < a.axis[i].dim; --j) axis[j] = axis[j - 1];
        axis[j] = a.axis[i];
    }
    if (a.axes == 1) return dct_one<P, P, T>(a, a.x, a.out, extent, axis[0], T(factor));
    if (a.axes == 2) return DctTwo<P, P, T>(a, a.x, a.out, extent, axis[1], axis[0], T(factor)).run();

    // What the passes hand on: out itself, unless it cannot hold T.
    View between = a.out;
    int64_t elements = 1;
    for (int d = 0; d < a.dims; ++d) elements *= a.sizes[d];
    Buffer<T> own(sizeof(P) == sizeof(T) ? 1 : elements);
    if (sizeof(P) != sizeof(T)) {
        between.data = own.data;
        int64_t stride = 1;
        for (int d = a.dims - 1; d >= 0; stride *= a.sizes[d--]) between.stride[d] = stride;
    }
    // Dimensions that wait for their pass keep the elements that it will read.
    const auto waiting = [&](int done) {
        for (int i = 0; i < a.axes; ++i) {
            int64_t& e = extent[axis[i].dim];
            e = i < done ? a.sizes[axis[i].dim] : least(e, a.sizes[axis[i].dim]);
        }
    };
    waiting(0);
    DctTwo<P, T, T>(a, a.x, between, extent, axis[1], axis[0], T(factor)).run();
    for (int i = 2; i < a.axes; ++i) {
        waiting(i);
        if (i + 1 < a.axes) {
            dct_one<T, T, T>(a, between, between, extent, axis[i], T(1));
        } else {
            dct_one<T, P, T>(a, between, a.out, extent, axis[i], T(1));
        }
    }
}

void dct(const DctArgs& a) {
    switch (a.x.dtype) {
        case kFloat64: return dct_axes<double, double>(a);
        case kFloat32: return dct_axes<float, float>(a);
        case kFloat16: return dct_axes<Half, float>(a);
        default: return dct_axes<BFloat, float>(a);
    }
}

}  // namespace
