// The kernels of csrc/cuda/dct*.cu on the host: what lies between two barriers is a loop over threads or items, in either order.
#include <algorithm>
#include <cstring>
#include <vector>

#include "cuda/dct_plan.h"

using namespace warmops;
using namespace warmops::cuda;

namespace {

struct Loops {
    bool reversed;
    void barrier() const {}
    template <class F>
    void loop(int outer, int inner, const F& f) const {
        for (int i = 0; i < outer * inner; ++i) {
            const int k = reversed ? outer * inner - 1 - i : i;
            f(k / inner, k % inner);
        }
    }
};

// Shared memory as a block finds it: full of NaN.
template <class T>
std::vector<Chunk<T>> shared_memory(int64_t bytes) {
    std::vector<Chunk<T>> memory(size_t(bytes / 16 + 2));
    std::memset(static_cast<void*>(memory.data()), 0xFF, memory.size() * 16);
    return memory;
}

template <class T, int N>
void run_tiles(const Dct& d, bool reversed) {
    using Layout = TileLayout<T, N>;
    const Tiles tiles = tiles_of(d, N, N);
    const TileAccess access = tile_access<T, N>(d);
    const int threads = Layout::kThreads;
    for (int64_t block = 0; block * Layout::kTiles < tiles.total; ++block) {
        auto memory = shared_memory<T>(Layout::kTiles * Layout::kTile * sizeof(T));
        T* shared = reinterpret_cast<T*>(memory.data());
        const auto threadwise = [&](auto phase) {
            for (int t = 0; t < threads; ++t) phase(reversed ? threads - 1 - t : t);
        };
        for (int pass = 0; pass < 2; ++pass) threadwise([&](int t) { tile_pass<T, N>(d, tiles, access, pass, block, t, shared); });
        threadwise([&](int t) { tile_store<T, N>(d, tiles, access, block, t, shared); });
    }
}

template <class T>
void run_tiles(const Dct& d, int points, bool reversed) {
    switch (points) {
        case 8: return run_tiles<T, 8>(d, reversed);
        case 16: return run_tiles<T, 16>(d, reversed);
        case 32: return run_tiles<T, 32>(d, reversed);
        case 48:
            if constexpr (sizeof(T) == 4) return run_tiles<T, 48>(d, reversed);
            break;
        case 64: return run_tiles<T, 64>(d, reversed);
        case 128:
            if constexpr (sizeof(T) == 4) return run_tiles<T, 128>(d, reversed);
    }
    throw std::invalid_argument("no such tile");
}

template <class T>
void run_blocks(const Dct& d, int64_t limit, bool reversed) {
    const Tiles tiles = block_tiles(d, sizeof(T), limit);
    if (tiles.a == 0) throw std::invalid_argument("the transform does not fit in shared memory");
    const int images = block_images(d, tiles, sizeof(T));
    const int64_t bytes = block_bytes(d.a.kind, tiles.a, d.b.kind, tiles.b, sizeof(T), images);
    auto memory = shared_memory<T>(bytes);
    for (int64_t index = 0; index * images < tiles.total; ++index)
        block_tile(d, tiles, images, index, index == 0, reinterpret_cast<T*>(memory.data()), Loops{reversed});
    const unsigned char* end = reinterpret_cast<unsigned char*>(memory.data()) + bytes;
    for (int i = 0; i < 16; ++i)
        if (end[i] != 0xFF) throw std::runtime_error("written beyond the shared memory that was asked for");
}

// Lanes of a phase (8 of 16 bytes, 128 bytes in all) that meet in one bank, at worst.
template <class T, int N>
void describe(int* facts) {
    using Layout = TileLayout<T, N>;
    const auto worst = [](int bytes, int threads, auto address) {
        const int lanes = 128 / bytes;
        int most = 0;
        for (int first = 0; first < threads; first += lanes) {
            std::vector<int> used(32 * 4 / bytes, 0);
            for (int t = first; t < first + lanes; ++t) {
                const int bank = int(address(t) / bytes % int64_t(used.size()));
                most = ++used[bank] > most ? used[bank] : most;
            }
        }
        return most;
    };
    int columns = 0, rows = 0, pieces = 0;
    const auto keep = [](int& most, int value) { most = value > most ? value : most; };
    constexpr int kPieces = N / Layout::kPiece;
    for (int k = 0; k < N; ++k)
        keep(columns, worst(sizeof(T), Layout::kThreads, [&](int t) { return (t / N * Layout::kTile + Layout::at(k, t % N)) * int64_t(sizeof(T)); }));
    for (int i = 0; i < kPieces; ++i)
        keep(rows, worst(16, Layout::kThreads, [&](int t) {
                 return (t / N * Layout::kTile + t % N * Layout::kPitch) * int64_t(sizeof(T)) + Layout::piece(t % N, i) * 16;
             }));
    for (int first = 0; first < N; first += N / kPieces)
        keep(pieces, worst(16, Layout::kThreads, [&](int t) {
                 const int r = first + t % N / kPieces;
                 return (t / N * Layout::kTile + r * Layout::kPitch) * int64_t(sizeof(T)) + Layout::piece(r, t % N % kPieces) * 16;
             }));
    const int values[] = {columns, rows, pieces, Layout::kThreads, Layout::kBlocks, int(Layout::kTiles * Layout::kTile * sizeof(T))};
    std::copy(values, values + 6, facts);
}

thread_local std::string message;

}  // namespace

extern "C" {

const char* last_message() { return message.c_str(); }

// 0 when done; what was wrong is in last_message().
int transform(void* x, int x_dtype, const int64_t* x_sizes, const int64_t* x_strides, void* out, int out_dtype, const int64_t* out_sizes,
              const int64_t* out_strides, int dims, int count, const int* dim, const int* kind, const double* factors, int64_t limit, int reversed) {
    try {
        std::vector<AxisRequest> axes;
        for (int i = 0; i < count; ++i) axes.emplace_back(dim[i], kind[i], factors[3 * i], factors[3 * i + 1], factors[3 * i + 2]);
        const TensorView from{x, x_dtype, {x_sizes, x_sizes + dims}, {x_strides, x_strides + dims}};
        const TensorView to{out, out_dtype, {out_sizes, out_sizes + dims}, {out_strides, out_strides + dims}};
        const Dct d = dct_plan(from, to, axes);
        const int points = tile_points(d);
        if (x_dtype == 0)
            points ? run_tiles<double>(d, points, reversed) : run_blocks<double>(d, limit, reversed);
        else
            points ? run_tiles<float>(d, points, reversed) : run_blocks<float>(d, limit, reversed);
        return 0;
    } catch (const std::exception& error) {
        message = error.what();
        return 1;
    }
}

int fits(int count, const int* kind, const int64_t* n, int twice, int64_t limit) {
    const int64_t bytes = twice ? 8 : 4;
    return count == 1 ? dct_fits_axis(kind[0], n[0], bytes, limit) : dct_fits_pair(kind[0], n[0], kind[1], n[1], bytes, limit);
}

// Of a kernel of `points`: bank conflicts of its three access patterns (1: none), threads and blocks that share a
// multiprocessor, bytes of shared memory. 1 where there is no such kernel.
int tile_facts(int points, int twice, int* facts) {
    switch (points * 2 + twice) {
        case 16: describe<float, 8>(facts); return 0;
        case 32: describe<float, 16>(facts); return 0;
        case 64: describe<float, 32>(facts); return 0;
        case 96: describe<float, 48>(facts); return 0;
        case 128: describe<float, 64>(facts); return 0;
        case 256: describe<float, 128>(facts); return 0;
        case 17: describe<double, 8>(facts); return 0;
        case 33: describe<double, 16>(facts); return 0;
        case 65: describe<double, 32>(facts); return 0;
        case 129: describe<double, 64>(facts); return 0;
    }
    return 1;
}

// Bits of 16-bit numbers to float32 and back.
void halves(const uint16_t* bits, int64_t n, int bfloat, float* wide) {
    for (int64_t i = 0; i < n; ++i) wide[i] = bfloat ? widened(Bfloat16{bits[i]}) : widened(Half{bits[i]});
}
void rounded(const float* wide, int64_t n, int bfloat, uint16_t* bits) {
    for (int64_t i = 0; i < n; ++i) {
        Half h;
        Bfloat16 b;
        round_to(wide[i], h);
        round_to(wide[i], b);
        bits[i] = bfloat ? b.bits : h.bits;
    }
}
}
