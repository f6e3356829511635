// Arguments of warmops._C, read in place from Python's tuples: by way of std::tuple and std::vector they would cost a
// small image's call more than the image.
#pragma once
#include <pybind11/pybind11.h>

#include "cpu/args.h"

namespace warmops::python {

// At most N things; count may say that there are more, which are not read.
template <class T, int N>
struct Few {
    Py_ssize_t count = 0;
    T at[N] = {};
};
using Sizes = Few<int64_t, kMaxDims>;

// A tensor: address (0: not given), dtype code, strides.
struct TensorTuple {
    void* data = nullptr;
    int64_t dtype = 0;
    Sizes strides;
};

inline bool read(PyObject* o, int64_t& to) {
    to = PyLong_AsLongLong(o);
    return to != -1 || !PyErr_Occurred();
}
inline bool read(PyObject* o, double& to) {
    to = PyFloat_AsDouble(o);
    return to != -1.0 || !PyErr_Occurred();
}
inline bool read(PyObject* o, void*& to) {
    to = PyLong_AsVoidPtr(o);
    return to || !PyErr_Occurred();
}

template <class... Parts>
bool read_parts(PyObject* o, Parts&... parts);

inline bool read(PyObject* o, DctAxis& to);

template <class T, int N>
bool read(PyObject* o, Few<T, N>& to) {
    if (!PyTuple_Check(o)) return false;
    to.count = PyTuple_GET_SIZE(o);
    for (Py_ssize_t i = 0; i < to.count && i < N; ++i)
        if (!read(PyTuple_GET_ITEM(o, i), to.at[i])) return false;
    return true;
}
inline bool read(PyObject* o, TensorTuple& to) { return read_parts(o, to.data, to.dtype, to.strides); }
inline bool read(PyObject* o, Level& to) {
    void* data = nullptr;
    int64_t dtype = 0;
    const bool ok = read_parts(o, to.value, data, dtype, to.stride);
    to.data = data;
    to.dtype = int(dtype);
    return ok;
}
inline bool read(PyObject* o, Seed& to) {
    void* data = nullptr;
    const bool ok = read_parts(o, to.base, data, to.stride);
    to.data = static_cast<const int64_t*>(data);
    return ok;
}
inline bool read(PyObject* o, DctAxis& to) {
    int64_t dim = 0, kind = 0;
    const bool ok = read_parts(o, dim, kind, to.scale, to.ends_in, to.ends_out);
    to.dim = int(dim);
    to.kind = int(kind);
    return ok;
}

// A tuple of exactly these parts.
template <class... Parts>
bool read_parts(PyObject* o, Parts&... parts) {
    if (!PyTuple_Check(o) || PyTuple_GET_SIZE(o) != Py_ssize_t(sizeof...(parts))) return false;
    Py_ssize_t i = 0;
    return (read(PyTuple_GET_ITEM(o, i++), parts) && ...);
}

template <class T>
struct Caster {
    PYBIND11_TYPE_CASTER(T, pybind11::detail::const_name("tuple"));

    bool load(pybind11::handle from, bool) {
        if (read(from.ptr(), value)) return true;
        PyErr_Clear();
        return false;
    }
};

}  // namespace warmops::python

namespace pybind11::detail {

template <>
struct type_caster<warmops::python::TensorTuple> : warmops::python::Caster<warmops::python::TensorTuple> {};
template <>
struct type_caster<warmops::Level> : warmops::python::Caster<warmops::Level> {};
template <>
struct type_caster<warmops::Seed> : warmops::python::Caster<warmops::Seed> {};
template <class T, int N>
struct type_caster<warmops::python::Few<T, N>> : warmops::python::Caster<warmops::python::Few<T, N>> {};

}  // namespace pybind11::detail
