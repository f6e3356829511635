// Torch's tensors as arguments of warmops._C, read through DLPack's C exchange API: no header of torch, and no Python object
// on the way. Tuples are read in place: by way of std::tuple and std::vector they would cost a small image's call more than the image.
#pragma once
#include <pybind11/pybind11.h>

#include <stdexcept>

#include "cpu/args.h"

namespace warmops::python {

// The part of DLPack's ABI, major version 1, that is read: https://dmlc.github.io/dlpack/latest/c_api.html
namespace dlpack {

struct Tensor {
    void* data;
    int32_t device_type, device_id, dims;
    uint8_t code, bits;
    uint16_t lanes;
    int64_t *sizes, *strides;
    uint64_t byte_offset;
};
struct Exchange {
    uint32_t major, minor;
    Exchange* older;
    void *allocate, *managed_from_object, *managed_to_object;
    int (*tensor_from_object)(void* object, Tensor* to);
};
constexpr int32_t kCpu = 1;

}  // namespace dlpack

// What is asked of torch itself. Found when the extension is loaded, and kept as long as the process lives.
struct Torch {
    PyTypeObject* tensor = nullptr;
    const dlpack::Exchange* exchange = nullptr;
    PyObject *empty_like = nullptr, *float32 = nullptr;
    PyObject *requires_grad = nullptr, *is_neg = nullptr, *dtype_name = nullptr;

    static Torch& get() {
        static Torch torch;
        return torch;
    }
    void find() {
        namespace py = pybind11;
        const py::module_ module = py::module_::import("torch");
        py::object type = module.attr("Tensor");
        const py::object capsule = py::getattr(type, "__dlpack_c_exchange_api__", py::none());
        exchange = static_cast<const dlpack::Exchange*>(PyCapsule_GetPointer(capsule.ptr(), "dlpack_exchange_api"));
        PyErr_Clear();
        while (exchange && exchange->major > 1) exchange = exchange->older;
        if (!exchange || exchange->major != 1 || !exchange->tensor_from_object)
            throw std::runtime_error("torch.Tensor has no DLPack exchange API of version 1: warmops needs torch 2.11 or newer");
        tensor = reinterpret_cast<PyTypeObject*>(type.release().ptr());
        empty_like = module.attr("empty_like").cast<py::object>().release().ptr();
        float32 = module.attr("float32").cast<py::object>().release().ptr();
        requires_grad = PyUnicode_InternFromString("requires_grad");
        is_neg = PyUnicode_InternFromString("is_neg");
        dtype_name = Py_BuildValue("(s)", "dtype");
        if (!requires_grad || !is_neg || !dtype_name) throw pybind11::error_already_set();
    }
};

// At most N things; count may say that there are more, which are not read.
template <class T, int N>
struct Few {
    int64_t count = 0;
    T at[N] = {};
};
using Sizes = Few<int64_t, kMaxDims>;

constexpr int kInt64 = 100, kOtherType = 101;  // beside the DType of the kernels

// A tensor (data == nullptr: not given).
struct Tensor {
    View view;  // strides beyond kMaxDims are not read
    Sizes sizes;
    bool on_cpu = true;

    int64_t count() const {
        int64_t product = 1;
        for (int64_t d = 0; d < sizes.count; ++d) product *= sizes.at[d];
        return product;
    }
};

inline int dtype_of(const dlpack::Tensor& t) {
    constexpr int kInt = 0, kUnsigned = 1, kFloat = 2, kBrain = 4;
    if (t.lanes != 1) return kOtherType;
    switch (t.code * 256 + t.bits) {
        case kFloat * 256 + 64: return kFloat64;
        case kFloat * 256 + 32: return kFloat32;
        case kFloat * 256 + 16: return kFloat16;
        case kBrain * 256 + 16: return kBFloat16;
        case kUnsigned * 256 + 8: return kUInt8;
        case kInt * 256 + 64: return kInt64;
        default: return kOtherType;
    }
}

inline bool read(PyObject* o, int64_t& to) {
    to = PyLong_AsLongLong(o);
    return to != -1 || !PyErr_Occurred();
}
inline bool read(PyObject* o, double& to) {
    to = PyFloat_AsDouble(o);
    return to != -1.0 || !PyErr_Occurred();
}
inline bool read(PyObject* o, Tensor& to) {
    if (o == Py_None) return true;
    dlpack::Tensor t;
    if (!PyObject_TypeCheck(o, Torch::get().tensor) || Torch::get().exchange->tensor_from_object(o, &t) != 0) return false;
    to.view.data = static_cast<char*>(t.data) + t.byte_offset;
    to.view.dtype = dtype_of(t);
    to.on_cpu = t.device_type == dlpack::kCpu;
    to.sizes.count = t.dims;
    for (int d = 0; d < t.dims && d < kMaxDims; ++d) {
        to.sizes.at[d] = t.sizes[d];
        to.view.stride[d] = t.strides[d];
    }
    return true;
}

template <class... Parts>
bool read_parts(PyObject* o, Parts&... parts);

// A number, or a tensor [N] of float64 or float32.
inline bool read(PyObject* o, Level& to) {
    if (!PyObject_TypeCheck(o, Torch::get().tensor)) return read(o, to.value);
    Tensor t;
    if (!read(o, t) || t.sizes.count != 1 || (t.view.dtype != kFloat64 && t.view.dtype != kFloat32)) return false;
    to.data = t.view.data;
    to.dtype = t.view.dtype;
    to.stride = t.view.stride[0];
    return true;
}
// The first seed, a tensor [N] of seeds, or None: nothing is drawn.
inline bool read(PyObject* o, Seed& to) {
    if (o == Py_None) return true;
    if (!PyObject_TypeCheck(o, Torch::get().tensor)) return read(o, to.base);
    Tensor t;
    if (!read(o, t) || t.sizes.count != 1 || t.view.dtype != kInt64) return false;
    to.data = static_cast<const int64_t*>(t.view.data);
    to.stride = t.view.stride[0];
    return true;
}
inline bool read(PyObject* o, DctAxis& to) {
    int64_t dim = 0, kind = 0;
    const bool ok = read_parts(o, dim, kind, to.scale, to.ends_in, to.ends_out);
    to.dim = int(dim);
    to.kind = int(kind);
    return ok;
}
template <class T, int N>
bool read(PyObject* o, Few<T, N>& to) {
    if (!PyTuple_Check(o)) return false;
    to.count = PyTuple_GET_SIZE(o);
    for (int64_t i = 0; i < to.count && i < N; ++i)
        if (!read(PyTuple_GET_ITEM(o, i), to.at[i])) return false;
    return true;
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
    PYBIND11_TYPE_CASTER(T, pybind11::detail::const_name("argument"));

    bool load(pybind11::handle from, bool) {
        if (read(from.ptr(), value)) return true;
        PyErr_Clear();
        return false;
    }
};

}  // namespace warmops::python

namespace pybind11::detail {

template <>
struct type_caster<warmops::python::Tensor> : warmops::python::Caster<warmops::python::Tensor> {};
template <>
struct type_caster<warmops::Level> : warmops::python::Caster<warmops::Level> {};
template <>
struct type_caster<warmops::Seed> : warmops::python::Caster<warmops::Seed> {};
template <class T, int N>
struct type_caster<warmops::python::Few<T, N>> : warmops::python::Caster<warmops::python::Few<T, N>> {};

}  // namespace pybind11::detail
