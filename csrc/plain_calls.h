// Calls that need no explaining: plain tensors of the CPU, numbers in order, outputs in one piece and apart from the inputs. Their
// arguments are found here, in a twentieth of the time that Python takes to look at each. Anything else is turned down, and the
// caller checks every argument by name, or goes another way.
#pragma once
#include <math.h>

#include <vector>

#include "tensor_args.h"

namespace warmops::python {

// [first, last) addresses.
struct Extent {
    const char *first, *last;
    bool apart(const Extent& other) const { return last <= other.first || other.last <= first; }
};

inline int64_t bytes_of(int dtype) {
    switch (dtype) {
        case kFloat64:
        case kInt64: return 8;
        case kFloat32: return 4;
        case kUInt8: return 1;
        default: return 2;
    }
}
inline Extent extent_of(const Tensor& t) {
    int64_t last = 0;
    for (int64_t d = 0; d < t.sizes.count; ++d) last += (t.sizes.at[d] - 1) * t.view.stride[d];
    const char* data = static_cast<const char*>(t.view.data);
    return {data, data + (last + 1) * bytes_of(t.view.dtype)};
}
inline bool same_sizes(const Tensor& a, const Tensor& b) {
    return a.sizes.count == b.sizes.count && memcmp(a.sizes.at, b.sizes.at, size_t(a.sizes.count) * sizeof a.sizes.at[0]) == 0;
}
inline bool in_one_piece(const Tensor& t) {
    int64_t stride = 1;
    for (int64_t d = t.sizes.count - 1; d >= 0; stride *= t.sizes.at[d--])
        if (t.sizes.at[d] != 1 && t.view.stride[d] != stride) return false;
    return true;
}
inline bool is_float(int dtype) { return dtype >= kFloat64 && dtype <= kBFloat16; }

// A torch.Tensor, of no subclass, with numbers in the CPU's memory, which autograd does not look at.
inline bool read_plain(PyObject* o, Tensor& to) {
    const Torch& torch = Torch::get();
    if (Py_TYPE(o) != torch.tensor) return false;
    bool plain = read(o, to) && to.on_cpu && to.view.dtype != kOtherType && to.sizes.count <= kMaxDims && (to.view.data || to.count() == 0);
    for (PyObject* watched : {torch.requires_grad, torch.is_neg}) {
        if (!plain) break;
        PyObject* answer = watched == torch.is_neg ? PyObject_CallMethodNoArgs(o, watched) : PyObject_GetAttr(o, watched);
        plain = answer == Py_False;
        Py_XDECREF(answer);
    }
    PyErr_Clear();
    return plain;
}
// [N, ..., H, W] with something in it.
inline bool read_images(PyObject* o, Tensor& to) { return read_plain(o, to) && to.sizes.count >= 3 && to.view.dtype <= kUInt8 && to.count() > 0; }

// A number, or a tensor of one or of n of them.
inline bool read_plain(PyObject* o, int64_t n, Level& to) {
    if (PyFloat_CheckExact(o)) {
        to.value = PyFloat_AS_DOUBLE(o);
        return true;
    }
    if (PyLong_CheckExact(o)) {
        const bool fits = read(o, to.value);
        PyErr_Clear();
        return fits;
    }
    Tensor t;
    if (!read_plain(o, t) || (t.view.dtype != kFloat64 && t.view.dtype != kFloat32)) return false;
    if (t.sizes.count != 0 && (t.sizes.count != 1 || t.sizes.at[0] != n)) return false;
    to.data = t.view.data;
    to.dtype = t.view.dtype;
    to.stride = t.sizes.count ? t.view.stride[0] : 0;
    return true;
}
inline bool read_plain(PyObject* o, int64_t n, Seed& to) {
    if (PyLong_CheckExact(o)) {
        const bool fits = read(o, to.base);
        PyErr_Clear();
        return fits;
    }
    Tensor t;
    if (!read_plain(o, t) || t.view.dtype != kInt64 || t.sizes.count != 1 || t.sizes.at[0] != n) return false;
    to.data = static_cast<const int64_t*>(t.view.data);
    to.stride = t.view.stride[0];
    return true;
}

// One or two results of x's sizes: those given, or new ones.
class Results {
    pybind11::object object[2];
    Tensor tensor[2];

  public:
    const int count;
    explicit Results(bool two) : count(two ? 2 : 1) {}
    const View& view(int i) const { return tensor[i].view; }

    bool find(pybind11::handle given, pybind11::handle like, const Tensor& x, std::initializer_list<const Tensor*> read) {
        const int dtype = x.view.dtype == kUInt8 ? int(kFloat32) : x.view.dtype;
        if (given.is_none()) {
            for (int i = 0; i < count; ++i) {
                object[i] = empty(like, x.view.dtype == kUInt8);
                if (!read_plain(object[i].ptr(), tensor[i])) return false;
            }
            return true;
        }
        if (count == 1) {
            object[0] = pybind11::reinterpret_borrow<pybind11::object>(given);
        } else {
            if (!PyTuple_CheckExact(given.ptr()) || PyTuple_GET_SIZE(given.ptr()) != 2) return false;
            for (int i = 0; i < 2; ++i) object[i] = pybind11::reinterpret_borrow<pybind11::object>(PyTuple_GET_ITEM(given.ptr(), i));
        }
        for (int i = 0; i < count; ++i) {
            if (!read_plain(object[i].ptr(), tensor[i]) || tensor[i].view.dtype != dtype || !same_sizes(tensor[i], x) || !in_one_piece(tensor[i]))
                return false;
            const Extent written = extent_of(tensor[i]);
            for (const Tensor* t : read)
                if (t->view.data && !written.apart(extent_of(*t))) return false;
            if (i == 1 && !written.apart(extent_of(tensor[0]))) return false;
        }
        return true;
    }
    pybind11::object take() { return count == 1 ? std::move(object[0]) : pybind11::make_tuple(std::move(object[0]), std::move(object[1])); }

  private:
    static pybind11::object empty(pybind11::handle like, bool as_float32) {
        const Torch& torch = Torch::get();
        PyObject* arguments[] = {like.ptr(), torch.float32};
        PyObject* made = PyObject_Vectorcall(torch.empty_like, arguments, 1, as_float32 ? torch.dtype_name : nullptr);
        if (!made) throw pybind11::error_already_set();
        return pybind11::reinterpret_steal<pybind11::object>(made);
    }
};

template <class Args>
void set_sizes(Args& a, const Sizes& sizes) {
    a.dims = int(sizes.count);
    memcpy(a.sizes, sizes.at, sizeof a.sizes);
}

// The arguments of warmops.blur_noise, without those that it asks the long way for; draw(n) makes the seeds if there is none. True: `a` and
// `results` are complete, and `drawn` lives as long as they are needed.
inline bool plain_blur_noise(PyObject* x_object, PyObject* blur_sigma, PyObject* noise_sigma, PyObject* seed, PyObject* scale,
                             pybind11::handle draw, pybind11::handle out, BlurNoiseArgs& a, pybind11::object& drawn, Results& results) {
    Tensor x;
    if (!read_images(x_object, x)) return false;
    const int64_t n = x.sizes.at[0];
    if (!read_plain(blur_sigma, n, a.blur_sigma) || !read_plain(noise_sigma, n, a.noise_sigma)) return false;
    if (!(a.blur_sigma.value >= 0.0) || !(a.noise_sigma.value >= 0.0)) return false;
    a.scale.value = 1.0;
    if (scale != Py_None && (!read_plain(scale, n, a.scale) || !isfinite(a.scale.value))) return false;
    const bool draws = a.noise_sigma.data || a.noise_sigma.value != 0.0;
    if (seed != Py_None && !read_plain(seed, n, a.seed)) return false;
    if (!results.find(out, x_object, x, {&x})) return false;
    if (seed == Py_None && draws) {
        drawn = draw(n);
        if (!read_plain(drawn.ptr(), n, a.seed)) return false;
    }
    set_sizes(a, x.sizes);
    a.x = x.view;
    a.out = results.view(0);
    if (results.count == 2) a.blurred = results.view(1);
    return true;
}

inline int64_t odd_factor(int64_t n) {
    while (n > 0 && n % 2 == 0) n /= 2;
    return n;
}
inline bool dct_by_fft(int kind, int64_t n) {
    const int64_t points = kind == 0 ? n - 1 : kind == 4 ? n + 1 : n;
    return odd_factor(points) > 2048 || points > 16384;
}

inline void set_axes(DctArgs& a, const Few<DctAxis, kMaxDims>& axes) {
    a.axes = int(axes.count);
    memcpy(a.axis, axes.at, sizeof a.axis);
}

// The same for the DCT family: transforms of whole axes that the kernels take.
inline bool plain_dct(PyObject* x_object, const Few<DctAxis, kMaxDims>& axes, pybind11::handle out, DctArgs& a, Results& results) {
    Tensor x;
    if (!read_plain(x_object, x) || !is_float(x.view.dtype) || x.count() == 0 || axes.count == 0 || axes.count > x.sizes.count) return false;
    for (int i = 0; i < axes.count; ++i)
        if (axes.at[i].dim < 0 || axes.at[i].dim >= x.sizes.count || dct_by_fft(axes.at[i].kind, x.sizes.at[axes.at[i].dim])) return false;
    if (!results.find(out, x_object, x, {&x})) return false;
    set_sizes(a, x.sizes);
    memcpy(a.sizes_in, a.sizes, sizeof a.sizes_in);
    a.x = x.view;
    a.out = results.view(0);
    set_axes(a, axes);
    return true;
}

constexpr int kStepNumbers = 14, kStepFactors = 3;  // a row of warmops/sampler_step.py, and how many of it are factors of x0

// The heads [N, 2C, ..., H, W], one of x's sizes, or a pair of those.
inline bool read_heads(PyObject* o, const Tensor& x, Tensor& b, Tensor& r) {
    if (PyTuple_CheckExact(o)) {
        return PyTuple_GET_SIZE(o) == 2 && read_plain(PyTuple_GET_ITEM(o, 0), b) && read_plain(PyTuple_GET_ITEM(o, 1), r) &&
               is_float(b.view.dtype) && b.view.dtype == r.view.dtype && same_sizes(b, x) && same_sizes(r, x);
    }
    if (!read_plain(o, b) || !is_float(b.view.dtype)) return false;
    if (same_sizes(b, x)) return true;
    if (x.sizes.count < 4 || b.sizes.at[1] != 2 * x.sizes.at[1]) return false;
    b.sizes.at[1] = x.sizes.at[1];
    if (!same_sizes(b, x)) return false;
    r = b;
    r.view.data = static_cast<char*>(b.view.data) + x.sizes.at[1] * b.view.stride[1] * bytes_of(b.view.dtype);
    return true;
}

// Coefficients of a step: the same for all samples, or a row for each.
class StepTable {
    std::vector<double> rows;

  public:
    // c_out: one factor or a pair. update: the rest of the row. False: something is not as it should be.
    bool fill(PyObject* c_skip, PyObject* c_out, const Few<double, kStepNumbers>& update, bool two_heads, int64_t n) {
        Level factor[kStepFactors];
        const bool pair = PyTuple_CheckExact(c_out);
        if (update.count != kStepNumbers - kStepFactors || (pair && PyTuple_GET_SIZE(c_out) != 2)) return false;
        for (int k = 0; k < kStepNumbers - kStepFactors; ++k)
            if (!isfinite(update.at[k])) return false;
        if (!read_plain(c_skip, n, factor[0]) || !read_plain(pair ? PyTuple_GET_ITEM(c_out, 0) : c_out, n, factor[1])) return false;
        if (!read_plain(pair ? PyTuple_GET_ITEM(c_out, 1) : c_out, n, factor[2])) return false;
        bool each = false;
        for (const Level& f : factor) each = each || f.data;
        rows.resize(size_t((each ? n : 1) * kStepNumbers));
        double* row = rows.data();
        for (int64_t i = 0; i < (each ? n : 1); ++i, row += kStepNumbers) {
            for (int k = 0; k < kStepFactors; ++k) row[k] = factor[k].at(i);
            for (int k = 0; k < kStepFactors; ++k)
                if (!isfinite(row[k])) return false;
            if (!two_heads) row[2] = 0.0;
            memcpy(row + kStepFactors, update.at, sizeof(double) * (kStepNumbers - kStepFactors));
        }
        return true;
    }
    const double* data() const { return rows.data(); }
    int64_t stride() const { return int64_t(rows.size()) > kStepNumbers ? kStepNumbers : 0; }
};

// The same for warmops.sampler_step.
inline bool plain_sampler_step(PyObject* x_object, PyObject* heads, PyObject* slope_object, PyObject* c_skip, PyObject* c_out,
                               const Few<double, kStepNumbers>& update, pybind11::handle out, SamplerStepArgs& a, StepTable& table,
                               Results& results) {
    Tensor x, b, r, slope;
    if (!read_images(x_object, x) || !is_float(x.view.dtype) || !read_heads(heads, x, b, r)) return false;
    if (slope_object != Py_None && (!read_plain(slope_object, slope) || slope.view.dtype != x.view.dtype || !same_sizes(slope, x))) return false;
    if (!table.fill(c_skip, c_out, update, r.view.data, x.sizes.at[0])) return false;
    if (!results.find(out, x_object, x, {&x, &b, &r, &slope})) return false;
    set_sizes(a, x.sizes);
    a.x = x.view;
    a.head_b = b.view;
    a.head_r = r.view;
    a.slope = slope.view;
    a.out = results.view(0);
    if (results.count == 2) a.slope_out = results.view(1);
    a.coefficients = table.data();
    a.coefficient_stride = table.stride();
    return true;
}

}  // namespace warmops::python
