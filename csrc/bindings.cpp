// warmops._C: raw addresses, sizes and strides in, no torch header anywhere.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <atomic>
#include <cmath>
#include <stdexcept>
#include <string>
#include <tuple>
#include <vector>
#ifdef __unix__
#include <pthread.h>
#endif

#include "cpu/args.h"
#include "philox.h"

namespace py = pybind11;
using namespace warmops;

#ifdef WARMOPS_WITH_CUDA
void register_cuda(py::module_& m);
#endif

namespace {

using PyView = std::tuple<uintptr_t, int, std::vector<int64_t>>;
using PyLevel = std::tuple<double, uintptr_t, int, int64_t>;
using PySeed = std::tuple<int64_t, uintptr_t, int64_t>;
using Sizes = std::vector<int64_t>;

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

View to_view(const PyView& v, size_t dims) {
    View view;
    view.data = reinterpret_cast<void*>(std::get<0>(v));
    view.dtype = std::get<1>(v);
    const auto& stride = std::get<2>(v);
    if (view.data && stride.size() != dims) throw std::invalid_argument("strides do not match the sizes");
    for (size_t d = 0; d < stride.size(); ++d) view.stride[d] = stride[d];
    return view;
}

Level to_level(const PyLevel& v) { return {std::get<0>(v), reinterpret_cast<const void*>(std::get<1>(v)), std::get<2>(v), std::get<3>(v)}; }

Seed to_seed(const PySeed& v) { return {std::get<0>(v), reinterpret_cast<const int64_t*>(std::get<1>(v)), std::get<2>(v)}; }

template <class Args>
void set_sizes(Args& a, const Sizes& sizes, size_t least) {
    if (sizes.size() < least || sizes.size() > size_t(kMaxDims))
        throw std::invalid_argument("tensors must have " + std::to_string(least) + " to " + std::to_string(kMaxDims) + " dimensions, got " +
                                    std::to_string(sizes.size()));
    a.dims = int(sizes.size());
    for (size_t d = 0; d < sizes.size(); ++d) a.sizes[d] = sizes[d];
}

void check_level(const char* name, const Level& level, int64_t n) {
    if (!level.data) return;
    for (int64_t i = 0; i < n; ++i)
        if (!(level.at(i) >= 0.0))
            throw std::invalid_argument(std::string(name) + " must be >= 0, got " + std::to_string(level.at(i)) + " for sample " +
                                        std::to_string(i));
}

void blur_noise(const PyView& x, const Sizes& sizes, const PyLevel& blur_sigma, const PyLevel& noise_sigma, const PySeed& seed,
                const PyView& noise, const PyLevel& scale, const PyView& out, const PyView& blurred, int threads) {
    BlurNoiseArgs a;
    set_sizes(a, sizes, 3);
    a.x = to_view(x, sizes.size());
    a.noise = to_view(noise, sizes.size());
    a.out = to_view(out, sizes.size());
    a.blurred = to_view(blurred, sizes.size());
    a.blur_sigma = to_level(blur_sigma);
    a.noise_sigma = to_level(noise_sigma);
    a.scale = to_level(scale);
    a.seed = to_seed(seed);
    a.threads = usable_threads(threads);
    check_level("blur_sigma", a.blur_sigma, sizes[0]);
    check_level("noise_sigma", a.noise_sigma, sizes[0]);
    for (size_t d = sizes.size() - 2; d < sizes.size(); ++d)
        if (odd_factor(sizes[d]) > kMaxOdd)
            throw std::invalid_argument("x must have H and W without an odd factor above " + std::to_string(kMaxOdd) +
                                        " on backend 'cpu', got " + std::to_string(sizes[d]));
    py::gil_scoped_release release;
    current.load()->blur_noise(a);
}

void normal(const PyView& out, const Sizes& sizes, const PySeed& seed, int threads) {
    NormalArgs a;
    set_sizes(a, sizes, 1);
    a.out = to_view(out, sizes.size());
    a.seed = to_seed(seed);
    a.threads = usable_threads(threads);
    py::gil_scoped_release release;
    current.load()->normal(a);
}

void dct(const PyView& x, const Sizes& sizes_in, const PyView& out, const Sizes& sizes,
         const std::vector<std::tuple<int, int, double, double, double>>& axes, int threads) {
    DctArgs a;
    set_sizes(a, sizes, 1);
    if (sizes_in.size() != sizes.size() || axes.size() > sizes.size()) throw std::invalid_argument("sizes and axes do not match");
    for (size_t d = 0; d < sizes.size(); ++d) a.sizes_in[d] = sizes_in[d];
    a.x = to_view(x, sizes.size());
    a.out = to_view(out, sizes.size());
    for (const auto& [dim, kind, scale, ends_in, ends_out] : axes) a.axis[a.axes++] = {dim, kind, scale, ends_in, ends_out};
    a.threads = usable_threads(threads);
    py::gil_scoped_release release;
    current.load()->dct(a);
}

constexpr size_t kStepNumbers = 14;

void sampler_step(const PyView& x, const Sizes& sizes, const PyView& head_b, const PyView& head_r, const PyView& slope,
                  const std::vector<double>& coefficients, uintptr_t table, const PyView& out, const PyView& slope_out, int threads) {
    SamplerStepArgs a;
    set_sizes(a, sizes, 3);
    a.x = to_view(x, sizes.size());
    a.head_b = to_view(head_b, sizes.size());
    a.head_r = to_view(head_r, sizes.size());
    a.slope = to_view(slope, sizes.size());
    a.out = to_view(out, sizes.size());
    a.slope_out = to_view(slope_out, sizes.size());
    if (table) {
        a.coefficients = reinterpret_cast<const double*>(table);
        a.coefficient_stride = int64_t(kStepNumbers);
    } else {
        if (coefficients.size() != kStepNumbers) throw std::invalid_argument("coefficients must be 14 numbers");
        a.coefficients = coefficients.data();
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
