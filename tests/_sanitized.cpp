// Calls of every CPU kernel on memory of the exact size, for a build with sanitizers (tests/test_sanitizers.py).
// Arguments: `beyond`, a call that reads one element beyond its input, to see that such a thing is reported; `together`, the
// same calls from four threads at once.
#include <array>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <thread>
#include <vector>

#include "cpu/blur_noise.h"
#include "cpu/dct.h"
#include "cpu/normal.h"
#include "cpu/sampler_step.h"

using namespace warmops;

namespace {

constexpr int64_t kBytes_[] = {8, 4, 2, 2, 1};
enum Layout { kPlain, kTransposed, kSteps, kFlipped, kLayouts };

// [2, 3, H, W] in a block of its own that ends where the tensor ends.
struct Tensor {
    View view;
    char* block;
    int64_t sizes[4];

    Tensor(const int64_t* shape, int dtype, int layout, int byte = 0, int64_t missing = 0) {
        memcpy(sizes, shape, sizeof sizes);
        const int64_t size = kBytes_[dtype], step = layout == kSteps ? 3 : 1;
        int64_t span = step;
        for (int k = 3; k >= 0; --k) {
            const int d = layout == kTransposed && k >= 2 ? 5 - k : k;
            view.stride[d] = span;
            span *= sizes[d];
        }
        span -= step - 1;  // nothing behind the last element
        const int64_t bytes = (span - missing) * size;
        block = static_cast<char*>(malloc(size_t(bytes)));
        memset(block, byte, size_t(bytes));
        view.dtype = dtype;
        view.data = block;
        if (layout == kFlipped)
            for (int d = 2; d < 4; ++d) {
                view.data = static_cast<char*>(view.data) + (sizes[d] - 1) * view.stride[d] * size;
                view.stride[d] = -view.stride[d];
            }
    }
    ~Tensor() { free(block); }
    Tensor(const Tensor&) = delete;
    Tensor& operator=(const Tensor&) = delete;

    // Poison is bytes of ones, a NaN in every format: none may be left.
    void check(const char* what) const {
        for (int64_t i = 0; i < sizes[0] * sizes[1] * sizes[2] * sizes[3]; ++i) {
            const int64_t at = offset_of(i, sizes, view.stride, 0, 4) * kBytes_[view.dtype];
            bool poison = true;
            for (int64_t b = 0; b < kBytes_[view.dtype]; ++b) poison = poison && static_cast<const unsigned char*>(view.data)[at + b] == 0xFF;
            if (poison) {
                fprintf(stderr, "%s left element %lld unwritten\n", what, static_cast<long long>(i));
                exit(3);
            }
        }
    }
};

void forward(const int64_t* shape, int dtype, int layout, int threads, bool beyond = false) {
    const int result = dtype == kUInt8 ? kFloat32 : dtype;
    const Tensor x(shape, dtype, layout, 0, beyond ? 1 : 0), noise(shape, result, layout);
    const std::vector<double> levels{0.0, 1.7};
    const std::vector<int64_t> seeds{-1, 5};
    for (int way = 0; way < 4; ++way) {
        Tensor out(shape, result, (layout + way) % kLayouts, 0xFF), blurred(shape, result, layout, 0xFF);
        BlurNoiseArgs a;
        a.dims = 4;
        memcpy(a.sizes, shape, sizeof out.sizes);
        a.x = x.view;
        a.out = out.view;
        if (way % 2) a.noise = noise.view;
        if (way / 2) a.blurred = blurred.view;
        a.blur_sigma = a.noise_sigma = {0.0, levels.data(), kFloat64, 1};
        a.scale.value = way / 2 ? 1.0 : 0.5;
        a.seed = {0, seeds.data(), 1};
        a.threads = threads;
        blur_noise(a);
        out.check("blur_noise");
        if (way / 2) blurred.check("blur_noise (blurred)");
    }
}

void noise(const int64_t* shape, int dtype, int layout, int threads) {
    Tensor out(shape, dtype, layout, 0xFF);
    NormalArgs a;
    a.dims = 4;
    memcpy(a.sizes, shape, sizeof out.sizes);
    a.out = out.view;
    a.seed.base = INT64_MAX;
    a.threads = threads;
    normal(a);
    out.check("normal");
}

void transforms(const int64_t* shape, int dtype, int layout, int threads) {
    const Tensor x(shape, dtype, layout);
    const std::vector<std::vector<int>> dimensions{{3}, {2}, {2, 3}, {0, 3, 2}};
    int64_t sizes[4], more = -1;  // cropped, as it is, padded
    for (int kind = 0; kind < 8; ++kind)
        for (const std::vector<int>& dims : dimensions) {
            memcpy(sizes, shape, sizeof sizes);
            DctArgs a;
            for (int d : dims) {
                sizes[d] += d == 0 ? 1 : more;
                if (sizes[d] < (kind == 0 ? 2 : 1)) sizes[d] = kind == 0 ? 2 : 1;
                a.axis[a.axes++] = {d, kind, 0.5, 1.5, 0.7};
            }
            more = more == 1 ? -1 : more + 1;
            Tensor out(sizes, dtype, (layout + kind) % kLayouts, 0xFF);
            a.dims = 4;
            memcpy(a.sizes_in, shape, sizeof sizes);
            memcpy(a.sizes, sizes, sizeof sizes);
            a.x = x.view;
            a.out = out.view;
            a.threads = threads;
            dct(a);
            out.check("dct");
        }
}

void step(const int64_t* shape, int dtype, int layout, int threads) {
    const Tensor x(shape, dtype, layout), slope(shape, dtype, (layout + 1) % kLayouts);
    for (int head = kFloat64; head <= kBFloat16; ++head)
        for (bool filtered : {false, true}) {
            const Tensor first(shape, head, layout), second(shape, head, kPlain);
            Tensor out(shape, dtype, (layout + head) % kLayouts, 0xFF), slope_out(shape, dtype, layout, 0xFF);
            // skip, out_b, out_r, k0, k1, alpha1, k2, k3, alpha2, a, b, g, p, q
            std::vector<double> table{0.1, 0.9, 0.8, 0.2, 0.3, 1.0, 0.5, 0.1, 2.0, 1.0, -0.5, 0.4, 0.3, 0.2};
            if (!filtered) table[5] = table[7] = table[8] = 0.0;
            table.insert(table.end(), table.begin(), table.end());
            SamplerStepArgs a;
            a.dims = 4;
            memcpy(a.sizes, shape, sizeof out.sizes);
            a.x = x.view;
            a.head_b = first.view;
            if (filtered) a.head_r = second.view;
            a.slope = slope.view;
            a.out = out.view;
            a.slope_out = slope_out.view;
            a.coefficients = table.data();
            a.coefficient_stride = 14;
            a.threads = threads;
            sampler_step(a);
            out.check("sampler_step");
            slope_out.check("sampler_step (slope)");
        }
}

// Every kernel, dtype and layout.
void everything(int threads) {
    const int64_t sides[][2] = {{1, 1}, {2, 3}, {8, 16}, {9, 37}, {33, 24}};
    for (const auto& side : sides)
        for (int dtype = kFloat64; dtype <= kUInt8; ++dtype)
            for (int layout : {int(kPlain), 1 + int(side[1] + dtype) % (kLayouts - 1)}) {
                const int64_t shape[4] = {2, 3, side[0], side[1]};
                forward(shape, dtype, layout, threads);
                if (dtype == kUInt8) continue;
                noise(shape, dtype, layout, threads);
                transforms(shape, dtype, layout, threads);
                step(shape, dtype, layout, threads);
            }
}

// Images that threads share, images that they do not, and small ones side by side in vectors, some of which are not full.
void in_threads(int threads) {
    for (const auto& [n, channels, height, width] : {std::array<int64_t, 4>{2, 1, 140, 150}, {2, 3, 70, 90}, {2, 11, 8, 9}, {2, 37, 16, 15}}) {
        const int64_t shape[4] = {n, channels, height, width};
        forward(shape, kFloat32, kPlain, threads);
        noise(shape, kFloat32, kPlain, threads);
        transforms(shape, kFloat32, kTransposed, threads);
        step(shape, kFloat32, kPlain, threads);
    }
}

}  // namespace

int main(int arguments, char** argument) {
    const char* mode = arguments > 1 ? argument[1] : "";
    if (!strcmp(mode, "beyond")) {
        const int64_t shape[4] = {2, 3, 5, 7};
        forward(shape, kFloat32, kPlain, 1, true);
        return 0;
    }
    if (!strcmp(mode, "together")) {
        std::vector<std::thread> callers;
        for (int i = 0; i < 4; ++i) callers.emplace_back(everything, 1);
        for (std::thread& caller : callers) caller.join();
    } else {
        everything(1);
        in_threads(3);
    }
    puts("every call done");
    return 0;
}
