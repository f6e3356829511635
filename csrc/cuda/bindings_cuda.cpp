// The CUDA part of warmops._C.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <stdexcept>
#include <string>
#include <tuple>
#include <vector>

#include "dct_plan.h"
#include "normal.h"

namespace py = pybind11;
namespace cuda = warmops::cuda;

namespace {

using PyView = std::tuple<uintptr_t, int, std::vector<int64_t>>;
using PySeed = std::tuple<int64_t, uintptr_t, int64_t>;

void normal_cuda(const PyView& view, const std::vector<int64_t>& sizes, const PySeed& seed, uintptr_t stream) {
    const auto& [address, dtype, strides] = view;
    if (sizes.empty() || sizes.size() > size_t(cuda::kMaxDims))
        throw std::invalid_argument("out must have 1 to " + std::to_string(cuda::kMaxDims) + " dimensions, got " + std::to_string(sizes.size()));
    if (strides.size() != sizes.size()) throw std::invalid_argument("strides do not match the sizes");
    cuda::Target target;
    target.data = reinterpret_cast<void*>(address);
    target.dtype = dtype;
    target.dims = int(sizes.size());
    for (size_t d = 0; d < sizes.size(); ++d) {
        target.sizes[d] = sizes[d];
        target.strides[d] = strides[d];
    }
    const auto& [base, seeds, seed_stride] = seed;
    const char* error = cuda::normal(target, {base, reinterpret_cast<const int64_t*>(seeds), seed_stride}, reinterpret_cast<void*>(stream));
    if (error) throw std::runtime_error(std::string("normal on CUDA: ") + error);
}

cuda::TensorView tensor_view(const PyView& view, const std::vector<int64_t>& sizes) {
    const auto& [address, dtype, strides] = view;
    return {reinterpret_cast<void*>(address), dtype, sizes, strides};
}

void dct_cuda(const PyView& x, const std::vector<int64_t>& x_sizes, const PyView& out, const std::vector<int64_t>& out_sizes,
              const std::vector<cuda::AxisRequest>& axes, uintptr_t stream) {
    const cuda::Dct plan = cuda::dct_plan(tensor_view(x, x_sizes), tensor_view(out, out_sizes), axes);
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
