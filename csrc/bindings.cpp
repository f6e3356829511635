// warmops._C: raw addresses, sizes and strides in, no torch header anywhere.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <array>
#include <atomic>
#include <cstring>
#include <stdexcept>
#include <string>
#include <vector>
#ifdef __unix__
#include <pthread.h>
#endif

#include "philox.h"
#include "python_args.h"

namespace py = pybind11;
using namespace warmops;

#ifdef WARMOPS_WITH_CUDA
void register_cuda(py::module_& m);
#endif

namespace {

using python::Few;
using python::Sizes;
using python::TensorTuple;

constexpr int64_t kMaxOdd = 16384;  // an odd factor is multiplied out: its matrices then take about 1 GB

int64_t odd_factor(int64_t n) {
    while (n > 0 && n % 2 == 0) n /= 2;
    return n;
}

std::vector<const Kernels*> supported_kernels() {
    std::vector<const Kernels*> all;
#ifdef __x86_64__
    __builtin_cpu_init();
    for (const Kernels* k : {&kAvx512Kernels, &kAvx2Kernels})
        if (k->supported()) all.push_back(k);
#endif
    all.push_back(&kBaselineKernels);
    return all;
}

std::atomic<const Kernels*> current{supported_kernels().front()};

// OpenMP's threads do not survive a fork: a child process works alone, as torch's data loading workers do.
std::atomic<bool> forked{false};

int usable_threads(int threads) { return forked ? 1 : threads; }

View to_view(const TensorTuple& t, const Sizes& sizes) {
    if (t.data && t.strides.count != sizes.count) throw std::invalid_argument("strides do not match the sizes");
    View view;
    view.data = t.data;
    view.dtype = int(t.dtype);
    memcpy(view.stride, t.strides.at, sizeof view.stride);
    return view;
}

template <class Args>
void set_sizes(Args& a, const Sizes& sizes, int least) {
    if (sizes.count < least || sizes.count > kMaxDims)
        throw std::invalid_argument("tensors must have " + std::to_string(least) + " to " + std::to_string(kMaxDims) + " dimensions, got " +
                                    std::to_string(sizes.count));
    a.dims = int(sizes.count);
    memcpy(a.sizes, sizes.at, sizeof a.sizes);
}

void check_level(const char* name, const Level& level, int64_t n) {
    if (!level.data) return;
    for (int64_t i = 0; i < n; ++i)
        if (!(level.at(i) >= 0.0))
            throw std::invalid_argument(std::string(name) + " must be >= 0, got " + std::to_string(level.at(i)) + " for sample " +
                                        std::to_string(i));
}

void blur_noise(const TensorTuple& x, const Sizes& sizes, const Level& blur_sigma, const Level& noise_sigma, const Seed& seed,
                const TensorTuple& noise, const Level& scale, const TensorTuple& out, const TensorTuple& blurred, int threads) {
    BlurNoiseArgs a;
    set_sizes(a, sizes, 3);
    a.x = to_view(x, sizes);
    a.noise = to_view(noise, sizes);
    a.out = to_view(out, sizes);
    a.blurred = to_view(blurred, sizes);
    a.blur_sigma = blur_sigma;
    a.noise_sigma = noise_sigma;
    a.scale = scale;
    a.seed = seed;
    a.threads = usable_threads(threads);
    check_level("blur_sigma", a.blur_sigma, a.sizes[0]);
    check_level("noise_sigma", a.noise_sigma, a.sizes[0]);
    for (int d = a.dims - 2; d < a.dims; ++d)
        if (odd_factor(a.sizes[d]) > kMaxOdd)
            throw std::invalid_argument("x must have H and W without an odd factor above " + std::to_string(kMaxOdd) +
                                        " on backend 'cpu', got " + std::to_string(a.sizes[d]));
    py::gil_scoped_release release;
    current.load()->blur_noise(a);
}

void normal(const TensorTuple& out, const Sizes& sizes, const Seed& seed, int threads) {
    NormalArgs a;
    set_sizes(a, sizes, 1);
    a.out = to_view(out, sizes);
    a.seed = seed;
    a.threads = usable_threads(threads);
    py::gil_scoped_release release;
    current.load()->normal(a);
}

void dct(const TensorTuple& x, const Sizes& sizes_in, const TensorTuple& out, const Sizes& sizes,
         const Few<DctAxis, kMaxDims>& axes, int threads) {
    DctArgs a;
    set_sizes(a, sizes, 1);
    if (sizes_in.count != sizes.count || axes.count > sizes.count) throw std::invalid_argument("sizes and axes do not match");
    memcpy(a.sizes_in, sizes_in.at, sizeof a.sizes_in);
    a.x = to_view(x, sizes);
    a.out = to_view(out, sizes);
    a.axes = int(axes.count);
    for (int i = 0; i < a.axes; ++i) a.axis[i] = axes.at[i];
    a.threads = usable_threads(threads);
    py::gil_scoped_release release;
    current.load()->dct(a);
}

constexpr int kStepNumbers = 14;

void sampler_step(const TensorTuple& x, const Sizes& sizes, const TensorTuple& head_b, const TensorTuple& head_r, const TensorTuple& slope,
                  const Few<double, kStepNumbers>& coefficients, uintptr_t table, const TensorTuple& out, const TensorTuple& slope_out, int threads) {
    SamplerStepArgs a;
    set_sizes(a, sizes, 3);
    a.x = to_view(x, sizes);
    a.head_b = to_view(head_b, sizes);
    a.head_r = to_view(head_r, sizes);
    a.slope = to_view(slope, sizes);
    a.out = to_view(out, sizes);
    a.slope_out = to_view(slope_out, sizes);
    if (table) {
        a.coefficients = reinterpret_cast<const double*>(table);
        a.coefficient_stride = kStepNumbers;
    } else {
        if (coefficients.count != kStepNumbers) throw std::invalid_argument("coefficients must be 14 numbers");
        a.coefficients = coefficients.at;
    }
    a.threads = usable_threads(threads);
    py::gil_scoped_release release;
    current.load()->sampler_step(a);
}

std::array<uint32_t, 4> philox(const std::array<uint32_t, 4>& counter, const std::array<uint32_t, 2>& key) {
    const Words w = philox4x32(Words{{counter[0], counter[1], counter[2], counter[3]}}, key[0], key[1]);
    return {w.w[0], w.w[1], w.w[2], w.w[3]};
}

void set_isa(const std::string& name) {
    std::string names;
    for (const Kernels* k : supported_kernels()) {
        if (name == k->name) {
            current = k;
            return;
        }
        names += std::string(names.empty() ? "" : ", ") + k->name;
    }
    throw std::invalid_argument("isa must be one of those this CPU has (" + names + "), got '" + name + "'");
}

}  // namespace

PYBIND11_MODULE(_C, m) {
    m.doc() = "Native kernels of warmops.";
    m.def("blur_noise", &blur_noise);
    m.def("normal", &normal);
    m.def("dct", &dct);
    m.def("sampler_step", &sampler_step);
    m.def("philox4x32", &philox, py::arg("counter"), py::arg("key"));
    m.def("isa", [] { return current.load()->name; }, "The instruction set in use.");
    m.def("set_isa", &set_isa, py::arg("name"), "Use this instruction set from now on (for tests and measurements).");
    m.def("isas", [] {
        std::vector<std::string> names;
        for (const Kernels* k : supported_kernels()) names.emplace_back(k->name);
        return names;
    }, "The instruction sets that this CPU has, the fastest first.");
#ifdef WARMOPS_WITH_CUDA
    m.attr("has_cuda") = true;
    register_cuda(m);
#else
    m.attr("has_cuda") = false;
#endif
#ifdef __unix__
    pthread_atfork(nullptr, nullptr, [] { forked = true; });
#endif
}
