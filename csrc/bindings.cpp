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
#include "plain_calls.h"

namespace py = pybind11;
using namespace warmops;

#ifdef WARMOPS_WITH_CUDA
void register_cuda(py::module_& m);
#endif

namespace {

using python::Few;
using python::Tensor;

constexpr int64_t kMaxOdd = 16384;  // an odd factor is multiplied out: its matrices then take about 1 GB

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

View to_view(const Tensor& t, int dims) {
    if (t.view.data && t.sizes.count != dims) throw std::invalid_argument("tensors must have the same number of dimensions");
    if (t.view.dtype > kUInt8) throw std::invalid_argument("tensors must be of a floating-point type or uint8");
    return t.view;
}

template <class Args>
void set_sizes(Args& a, const Tensor& t, int least) {
    if (t.sizes.count < least || t.sizes.count > kMaxDims)
        throw std::invalid_argument("tensors must have " + std::to_string(least) + " to " + std::to_string(kMaxDims) + " dimensions, got " +
                                    std::to_string(t.sizes.count));
    python::set_sizes(a, t.sizes);
}

void check_level(const char* name, const Level& level, int64_t n) {
    if (!level.data) return;
    for (int64_t i = 0; i < n; ++i)
        if (!(level.at(i) >= 0.0))
            throw std::invalid_argument(std::string(name) + " must be >= 0, got " + std::to_string(level.at(i)) + " for sample " +
                                        std::to_string(i));
}

void run(BlurNoiseArgs& a, int threads) {
    a.threads = usable_threads(threads);
    check_level("blur_sigma", a.blur_sigma, a.sizes[0]);
    check_level("noise_sigma", a.noise_sigma, a.sizes[0]);
    for (int d = a.dims - 2; d < a.dims; ++d)
        if (python::odd_factor(a.sizes[d]) > kMaxOdd)
            throw std::invalid_argument("x must have H and W without an odd factor above " + std::to_string(kMaxOdd) +
                                        " on backend 'cpu', got " + std::to_string(a.sizes[d]));
    py::gil_scoped_release release;
    current.load()->blur_noise(a);
}

void run(DctArgs& a, int threads) {
    a.threads = usable_threads(threads);
    py::gil_scoped_release release;
    current.load()->dct(a);
}

void run(SamplerStepArgs& a, int threads) {
    a.threads = usable_threads(threads);
    py::gil_scoped_release release;
    current.load()->sampler_step(a);
}

void blur_noise(const Tensor& x, const Level& blur_sigma, const Level& noise_sigma, const Seed& seed, const Tensor& noise,
                const Level& scale, const Tensor& out, const Tensor& blurred, int threads) {
    BlurNoiseArgs a;
    set_sizes(a, x, 3);
    a.x = to_view(x, a.dims);
    a.noise = to_view(noise, a.dims);
    a.out = to_view(out, a.dims);
    a.blurred = to_view(blurred, a.dims);
    a.blur_sigma = blur_sigma;
    a.noise_sigma = noise_sigma;
    a.scale = scale;
    a.seed = seed;
    run(a, threads);
}

// What warmops.blur_noise returns, or None: not a plain call.
py::object plain_blur_noise(py::handle x, py::handle blur_sigma, py::handle noise_sigma, py::handle seed, py::handle scale,
                            bool return_blurred, py::handle draw, py::handle out, int threads) {
    BlurNoiseArgs a;
    py::object drawn;
    python::Results results(return_blurred);
    if (!python::plain_blur_noise(x.ptr(), blur_sigma.ptr(), noise_sigma.ptr(), seed.ptr(), scale.ptr(), draw, out, a, drawn, results))
        return py::none();
    run(a, threads);
    return results.take();
}

void normal(const Tensor& out, const Seed& seed, int threads) {
    NormalArgs a;
    set_sizes(a, out, 1);
    a.out = to_view(out, a.dims);
    a.seed = seed;
    a.threads = usable_threads(threads);
    py::gil_scoped_release release;
    current.load()->normal(a);
}

void dct(const Tensor& x, const Tensor& out, const Few<DctAxis, kMaxDims>& axes, int threads) {
    DctArgs a;
    set_sizes(a, out, 1);
    if (axes.count > out.sizes.count) throw std::invalid_argument("there are more axes than dimensions");
    a.x = to_view(x, a.dims);
    a.out = to_view(out, a.dims);
    memcpy(a.sizes_in, x.sizes.at, sizeof a.sizes_in);
    python::set_axes(a, axes);
    run(a, threads);
}

// What a function of the DCT family returns, or None: not a plain call.
py::object plain_dct(py::handle x, const Few<DctAxis, kMaxDims>& axes, py::handle out, int threads) {
    DctArgs a;
    python::Results results(false);
    if (!python::plain_dct(x.ptr(), axes, out, a, results)) return py::none();
    run(a, threads);
    return results.take();
}

// coefficients: 14 numbers, or table: a contiguous float64 tensor [N, 14].
void sampler_step(const Tensor& x, const Tensor& head_b, const Tensor& head_r, const Tensor& slope,
                  const Few<double, python::kStepNumbers>& coefficients, const Tensor& table, const Tensor& out, const Tensor& slope_out,
                  int threads) {
    SamplerStepArgs a;
    set_sizes(a, x, 3);
    a.x = to_view(x, a.dims);
    a.head_b = to_view(head_b, a.dims);
    a.head_r = to_view(head_r, a.dims);
    a.slope = to_view(slope, a.dims);
    a.out = to_view(out, a.dims);
    a.slope_out = to_view(slope_out, a.dims);
    if (table.view.data) {
        a.coefficients = static_cast<const double*>(table.view.data);
        a.coefficient_stride = python::kStepNumbers;
    } else {
        if (coefficients.count != python::kStepNumbers) throw std::invalid_argument("coefficients must be 14 numbers");
        a.coefficients = coefficients.at;
    }
    run(a, threads);
}

// What warmops.sampler_step returns, or None: not a plain call. update: the numbers after the three factors.
py::object plain_sampler_step(py::handle x, py::handle heads, py::handle slope, py::handle c_skip, py::handle c_out,
                              const Few<double, python::kStepNumbers>& update, bool return_slope, py::handle out, int threads) {
    SamplerStepArgs a;
    python::StepTable table;
    python::Results results(return_slope);
    if (!python::plain_sampler_step(x.ptr(), heads.ptr(), slope.ptr(), c_skip.ptr(), c_out.ptr(), update, out, a, table, results))
        return py::none();
    run(a, threads);
    return results.take();
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
    python::Torch::get().find();
    m.def("blur_noise", &blur_noise);
    m.def("plain_blur_noise", &plain_blur_noise);
    m.def("normal", &normal);
    m.def("dct", &dct);
    m.def("plain_dct", &plain_dct);
    m.def("dct_by_fft", &python::dct_by_fft, py::arg("kind"), py::arg("n"),
          "Whether an axis goes through an FFT: the kernels multiply odd factors out, and work in caches.");
    m.def("sampler_step", &sampler_step);
    m.def("plain_sampler_step", &plain_sampler_step);
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
