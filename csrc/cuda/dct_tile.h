// Transforms of one or two axes of N points, N known at compile time: what one thread does between two barriers.
//
// Pass 0: thread c of a tile reads column c (lanes side by side, so a warp reads whole lines), transforms it in registers and
// writes it to shared memory. Pass 1: thread r does the same with row r, in 16-byte pieces, and leaves it there as it will be
// stored. Then the tile is copied out, 16 bytes a lane. The tensor is read once and written once.
// Fast transforms take 8 to 11 operations per element and axis, few enough for plain fp32 arithmetic to keep up with the memory:
// no tensor core, and so no TF32, is used anywhere.
#pragma once
#include "dct_scalar.h"
#include "dct_spot.h"

namespace warmops {
namespace cuda {

// Rows of 16-byte pieces, arranged so that a warp's columns, rows and pieces lie in different banks: rows of 128 bytes and more
// are an odd number of pieces apart, shorter ones exchange their pieces; tiles follow each other like columns.
template <class T, int N>
struct TileLayout {
    static constexpr int kPiece = 16 / sizeof(T);
    static constexpr bool kShort = N * sizeof(T) < 128;
    static constexpr int kPitch = kShort || (N / kPiece) % 2 ? N : N + kPiece;
    static constexpr int kBanks = 128 / sizeof(T);
    static constexpr int kTile = N * kPitch + ((N - N * kPitch) % kBanks + kBanks) % kBanks;
    // Threads of a block: several small tiles. Registers limit them, see the launch bounds in dct.cu.
    static constexpr int kThreads = N * sizeof(T) <= 64 ? 256 : 128;
    static constexpr int kTiles = kThreads >= N ? kThreads / N : 1;

    static_assert(N % 8 == 0 && (!kShort || (N & (N - 1)) == 0), "");
    // Where piece i of row r is among the row's pieces.
    static WARMOPS_METHOD int piece(int r, int i) { return kShort ? i ^ ((r * N * int(sizeof(T)) / 128) & (N / kPiece - 1)) : i; }
    static WARMOPS_METHOD int at(int r, int c) { return r * kPitch + piece(r, c / kPiece) * kPiece + c % kPiece; }
};

// Lengths that have such a kernel.
inline bool has_tile(int64_t n, int64_t bytes) { return n == 8 || n == 16 || n == 32 || n == 64 || (n == 128 && bytes == 4); }

// The N of a launch, or 0: both axes have it, or one and the other one is not transformed.
inline int tile_points(const Dct& d) {
    const auto fits = [](const DctAxis& axis, int64_t n) { return axis.kind == kNone || ((axis.kind & 3) != 0 && axis.out == n); };
    const int64_t n = d.a.kind != kNone ? d.a.out : d.b.out;
    return has_tile(n, d.x_dtype == 0 ? 8 : 4) && fits(d.a, n) && fits(d.b, n) ? int(n) : 0;
}

// Which short cuts a launch may take: whole tiles of x with rows N apart; rows of out that are written in 16-byte pieces.
struct TileAccess {
    bool dense_x = false, pieces_out = false;
};

template <class T, int N>
TileAccess tile_access(const Dct& d) {
    const int bytes = d.out_dtype == 0 ? 8 : d.out_dtype == 1 ? 4 : 2;
    TileAccess access;
    const auto whole = [](const DctAxis& axis, int64_t n) { return n % N == 0 && (axis.kind == kNone || n == N); };
    access.dense_x = d.a.x_stride == N && d.b.x_stride == 1 && whole(d.a, d.a.in) && whole(d.b, d.b.in);
    const auto aligned = [&](int64_t stride) { return stride * bytes % 16 == 0; };
    access.pieces_out = d.b.out_stride == 1 && whole(d.b, d.b.out) && uintptr_t(d.out) % 16 == 0 && aligned(d.a.out_stride) && N * bytes % 16 == 0;
    for (int i = 0; i < d.dims; ++i) access.pieces_out = access.pieces_out && aligned(d.out_strides[i]);
    return access;
}

template <int N, class T>
WARMOPS_HD void reverse(T (&v)[N]) {
    unrolled<0, N / 2>([&](auto i_) WARMOPS_LAMBDA {
        constexpr int i = decltype(i_)::value;
        const T t = v[i];
        v[i] = v[N - 1 - i];
        v[N - 1 - i] = t;
    });
}

// Sine transforms by cosine transforms: II reverses the output of alternating input, III alternates the output of reversed
// input, IV does too. The special element is element 0 there.
template <int N, class T>
WARMOPS_HD void transform(T (&v)[N], const DctAxis& axis, T scale) {
    const int kind = axis.kind;
    T scale_odd = scale;
    if (kind != kNone) {
        if (kind == 5) {
            unrolled<0, N / 2>([&](auto i_) WARMOPS_LAMBDA { v[2 * decltype(i_)::value + 1] *= T(-1); });
        } else if (kind > 5) {
            reverse(v);
            scale_odd = -scale;
        }
        if ((kind & 3) == 2) v[0] *= T(axis.ends_in);
        if ((kind & 3) == 1) Codelet<N>::dct2(v);
        else if ((kind & 3) == 2) Codelet<N>::dct3(v);
        else Codelet<N>::dct4(v);
        if ((kind & 3) == 1) v[0] *= T(axis.ends_out);
        if (kind == 5) reverse(v);
    }
    if (scale != T(1) || scale_odd != T(1))
        unrolled<0, N>([&](auto i_) WARMOPS_LAMBDA { v[decltype(i_)::value] *= decltype(i_)::value % 2 ? scale_odd : scale; });
}

template <class T, int N, class S>
WARMOPS_HD void read_column(const S* x, int64_t stride, int rows, T (&v)[N]) {
    unrolled<0, N>([&](auto r_) WARMOPS_LAMBDA {
        constexpr int r = decltype(r_)::value;
        v[r] = r < rows ? widened(x[r * stride]) : T(0);
    });
}

template <class T, int N>
WARMOPS_HD void tile_column(const Dct& d, const Tiles& tiles, const TileAccess& access, int64_t block, int thread, T* shared) {
    using Layout = TileLayout<T, N>;
    const int tile = thread / N, c = thread % N;
    const int64_t index = block * Layout::kTiles + tile;
    if (index >= tiles.total) return;
    const Spot s = spot_of(d, tiles, index);
    T v[N];
    with_stored<T>(d.x_dtype, [&](auto stored) WARMOPS_LAMBDA {
        using S = decltype(stored);
        const S* x = static_cast<const S*>(d.x) + s.x + c * d.b.x_stride;
        if (access.dense_x) read_column(x, N, N, v);
        else read_column(x, d.a.x_stride, c < s.b_in ? s.a_in : 0, v);
    });
    transform(v, d.a, T(1));
    T* to = shared + tile * Layout::kTile;
    unrolled<0, N>([&](auto r_) WARMOPS_LAMBDA { to[Layout::at(decltype(r_)::value, c)] = v[decltype(r_)::value]; });
}

template <class T, int N>
WARMOPS_HD void tile_row(const Dct& d, const Tiles& tiles, int64_t block, int thread, T* shared) {
    using Layout = TileLayout<T, N>;
    const int tile = thread / N, r = thread % N;
    if (block * Layout::kTiles + tile >= tiles.total) return;
    T* row = shared + tile * Layout::kTile + r * Layout::kPitch;
    T v[N];
    unrolled<0, N / Layout::kPiece>([&](auto i_) WARMOPS_LAMBDA {
        constexpr int i = decltype(i_)::value;
        const Chunk<T> piece = reinterpret_cast<const Chunk<T>*>(row)[Layout::piece(r, i)];
        unrolled<0, Layout::kPiece>([&](auto e_) WARMOPS_LAMBDA { v[i * Layout::kPiece + decltype(e_)::value] = piece.e[decltype(e_)::value]; });
    });
    transform(v, d.b, T(d.a.scale * d.b.scale));
    with_stored<T>(d.out_dtype, [&](auto stored) WARMOPS_LAMBDA {
        using S = decltype(stored);
        constexpr int kPiece = 16 / sizeof(S);
        unrolled<0, N / kPiece>([&](auto i_) WARMOPS_LAMBDA {
            constexpr int i = decltype(i_)::value;
            Chunk<S> piece;
            unrolled<0, kPiece / 2>([&](auto e_) WARMOPS_LAMBDA {
                constexpr int e = 2 * decltype(e_)::value;
                round_pair(v[i * kPiece + e], v[i * kPiece + e + 1], piece.e + e);
            });
            reinterpret_cast<Chunk<S>*>(row)[Layout::piece(r, i)] = piece;
        });
    });
}

// The threads of a tile write it, in pieces or, where out's strides want it, element after element.
template <class T, int N>
WARMOPS_HD void tile_store(const Dct& d, const Tiles& tiles, const TileAccess& access, int64_t block, int thread, const T* shared) {
    using Layout = TileLayout<T, N>;
    const int tile = thread / N, t = thread % N;
    const int64_t index = block * Layout::kTiles + tile;
    if (index >= tiles.total) return;
    const Spot s = spot_of(d, tiles, index);
    const T* from = shared + tile * Layout::kTile;
    with_stored<T>(d.out_dtype, [&](auto stored) WARMOPS_LAMBDA {
        using S = decltype(stored);
        constexpr int kPiece = 16 / sizeof(S), kPieces = N / kPiece, kRows = N / kPieces;  // kPieces lanes to a row
        S* out = static_cast<S*>(d.out) + s.out;
        if (access.pieces_out) {
            const int i = t % kPieces;
#pragma unroll
            for (int r = t / kPieces; r < N; r += kRows)
                if (r < s.a_out)
                    reinterpret_cast<Chunk<S>*>(out + r * d.a.out_stride)[i] =
                        reinterpret_cast<const Chunk<S>*>(from + r * Layout::kPitch)[Layout::piece(r, i)];
        } else if (t < s.b_out) {
            const int i = t / kPiece;
#pragma unroll 4
            for (int r = 0; r < s.a_out; ++r)
                out[r * d.a.out_stride + t * d.b.out_stride] =
                    reinterpret_cast<const S*>(from + r * Layout::kPitch)[Layout::piece(r, i) * kPiece + t % kPiece];
        }
    });
}

}  // namespace cuda
}  // namespace warmops
