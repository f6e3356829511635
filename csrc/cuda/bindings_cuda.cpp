// The CUDA part of warmops._C.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <stdexcept>
#include <string>
#include <tuple>
#include <vector>

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

}  // namespace

void register_cuda(py::module_& m) { m.def("normal_cuda", &normal_cuda); }
