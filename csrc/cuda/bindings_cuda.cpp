// The CUDA part of warmops._C.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <stdexcept>
#include <string>
#include <vector>

#include "../tensor_args.h"
#include "dct_plan.h"
#include "normal.h"

namespace py = pybind11;
namespace cuda = warmops::cuda;

namespace {

using warmops::Seed;
using warmops::python::Tensor;

void normal_cuda(const Tensor& out, const Seed& seed, uintptr_t stream) {
    const int64_t dims = out.sizes.count;
    if (dims < 1 || dims > cuda::kMaxDims)
        throw std::invalid_argument("out must have 1 to " + std::to_string(cuda::kMaxDims) + " dimensions, got " + std::to_string(dims));
    cuda::Target target;
    target.data = out.view.data;
    target.dtype = out.view.dtype;
    target.dims = int(dims);
    for (int64_t d = 0; d < dims; ++d) {
        target.sizes[d] = out.sizes.at[d];
        target.strides[d] = out.view.stride[d];
    }
    const char* error = cuda::normal(target, {seed.base, seed.data, seed.stride}, reinterpret_cast<void*>(stream));
    if (error) throw std::runtime_error(std::string("normal on CUDA: ") + error);
}

cuda::TensorView tensor_view(const Tensor& t) {
    if (t.sizes.count > warmops::kMaxDims)
        throw std::invalid_argument("tensors must have at most " + std::to_string(warmops::kMaxDims) + " dimensions, got " + std::to_string(t.sizes.count));
    const int64_t *sizes = t.sizes.at, *strides = t.view.stride;
    return {t.view.data, t.view.dtype, {sizes, sizes + t.sizes.count}, {strides, strides + t.sizes.count}};
}

void dct_cuda(const Tensor& x, const Tensor& out, const std::vector<cuda::AxisRequest>& axes, uintptr_t stream) {
    const cuda::Dct plan = cuda::dct_plan(tensor_view(x), tensor_view(out), axes);
    const char* error = cuda::dct(plan, reinterpret_cast<void*>(stream));
    if (error) throw std::runtime_error(std::string("dct on CUDA: ") + error);
}

bool dct_cuda_fits(const std::vector<std::pair<int, int64_t>>& axes, bool twice) {
    const int64_t bytes = twice ? 8 : 4, limit = cuda::dct_shared_limit();
    if (axes.size() == 1) return cuda::dct_fits_axis(axes[0].first, axes[0].second, bytes, limit);
    return axes.size() == 2 && cuda::dct_fits_pair(axes[0].first, axes[0].second, axes[1].first, axes[1].second, bytes, limit);
}

}  // namespace

void register_cuda(py::module_& m) {
    m.def("normal_cuda", &normal_cuda);
    m.def("dct_cuda", &dct_cuda);
    m.def("dct_cuda_fits", &dct_cuda_fits, py::arg("axes"), py::arg("twice"),
          "Whether one launch transforms one or two axes, each (kind, n), on the current device; twice: in float64.");
}
