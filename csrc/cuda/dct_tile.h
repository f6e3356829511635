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
    // Tiles of a block, one thread a column, and blocks of a multiprocessor, as many as registers allow.
    static constexpr int kTiles = N * sizeof(T) <= 64 ? 256 / N : N < 128 ? 128 / N : 1;
    static constexpr int kThreads = kTiles * N;
    static constexpr int kBlocks = sizeof(T) == 4 ? (N <= 16 ? 4 : N <= 32 ? 8 : N <= 64 ? 5 : 3) : N <= 8 ? 4 : N <= 16 ? 6 : N <= 32 ? 4 : 2;

    static_assert(N % 8 == 0 && (!kShort || (N & (N - 1)) == 0), "");
    // Where piece i of row r is among the row's pieces.
    static WARMOPS_METHOD int piece(int r, int i) { return kShort ? i ^ ((r * N * int(sizeof(T)) / 128) & (N / kPiece - 1)) : i; }
    static WARMOPS_METHOD int at(int r, int c) { return r * kPitch + piece(r, c / kPiece) * kPiece + c % kPiece; }
};

// Lengths that have such a kernel.
inline bool has_tile(int64_t n, int64_t bytes) { return n == 8 || n == 16 || n == 32 || n == 64 || (bytes == 4 && (n == 48 || n == 128)); }

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

// Keeps what is rarely done behind a branch: the compiler would turn it into selections that every transform pays for.
WARMOPS_HD void behind_a_branch() {
#if defined(__CUDA_ARCH__)
    asm volatile("");
#endif
}

// Sine transforms by cosine transforms: II reverses the output of alternating input, III alternates the output of reversed
// input, IV does too. The special element is element 0 there. Reversing is up to whoever loads and stores.
WARMOPS_HD bool reverses_input(int kind) { return kind == 6 || kind == 7; }
WARMOPS_HD bool reverses_output(int kind) { return kind == 5; }

template <int N, class T>
WARMOPS_HD void transform(T (&v)[N], const DctAxis& axis, T scale) {
    const int kind = axis.kind;
    if (kind != kNone) {
        if (kind == 5) {
            behind_a_branch();
            unrolled<0, N / 2>([&](auto i_) WARMOPS_LAMBDA { v[2 * decltype(i_)::value + 1] *= T(-1); });
        }
        if ((kind & 3) == 2) v[0] *= T(axis.ends_in);
        if ((kind & 3) == 1) Codelet<N>::dct2(v);
        else if ((kind & 3) == 2) Codelet<N>::dct3(v);
        else Codelet<N>::dct4(v);
        if ((kind & 3) == 1) v[0] *= T(axis.ends_out);
    }
    const T scale_odd = reverses_input(kind) ? -scale : scale;
    if (scale != T(1) || scale_odd != T(1)) {
        behind_a_branch();
        unrolled<0, N>([&](auto i_) WARMOPS_LAMBDA { v[decltype(i_)::value] *= decltype(i_)::value % 2 ? scale_odd : scale; });
    }
}

// Elements of a column: all, N apart, or those in [begin, end), zeros elsewhere.
template <class T, int N, class S>
WARMOPS_HD void read_dense(const S* x, T (&v)[N]) {
    unrolled<0, N>([&](auto r_) WARMOPS_LAMBDA { v[decltype(r_)::value] = widened(x[decltype(r_)::value * N]); });
}
template <class T, int N, class S>
WARMOPS_HD void read_column(const S* x, int64_t stride, int begin, int end, T (&v)[N]) {
    unrolled<0, N>([&](auto r_) WARMOPS_LAMBDA {
        constexpr int r = decltype(r_)::value;
        v[r] = widened(load_if(r >= begin && r < end, x));
        x += stride;
    });
}

// N numbers in the stored type, in 16-byte pieces, forwards or backwards.
template <class T, int N, bool kBackwards, class S>
WARMOPS_HD void write_row(Chunk<S>* row, int r, const T (&v)[N]) {
    constexpr int kPiece = 16 / sizeof(S);
    unrolled<0, N / kPiece>([&](auto i_) WARMOPS_LAMBDA {
        constexpr int i = decltype(i_)::value;
        Chunk<S> piece;
        unrolled<0, kPiece / 2>([&](auto e_) WARMOPS_LAMBDA {
            constexpr int e = 2 * decltype(e_)::value, k = i * kPiece + e;
            round_pair(v[kBackwards ? N - 1 - k : k], v[kBackwards ? N - 2 - k : k + 1], piece.e + e);
        });
        row[TileLayout<T, N>::piece(r, i)] = piece;
    });
}

// One function for both passes: the straight-line code, most of a kernel, is there once.
template <class T, int N>
WARMOPS_HD void tile_pass(const Dct& d, const Tiles& tiles, const TileAccess& access, int pass, int64_t block, int thread, T* shared) {
    using Layout = TileLayout<T, N>;
    const int tile = thread / N, t = thread % N;  // column t, then row t
    const int64_t index = block * Layout::kTiles + tile;
    if (index >= tiles.total) return;
    T* const image = shared + tile * Layout::kTile;
    T* const row = image + t * Layout::kPitch;
    T v[N];
    if (pass == 0) {
        const Spot s = spot_of(d, tiles, index);
        with_stored<T>(d.x_dtype, [&](auto stored) WARMOPS_LAMBDA {
            using S = decltype(stored);
            const S* x = static_cast<const S*>(d.x) + s.x + t * d.b.x_stride;
            const int rows = t < s.b_in ? s.a_in : 0;
            const bool backwards = reverses_input(d.a.kind);
            if (access.dense_x && !backwards) read_dense(x, v);
            else if (backwards) read_column(x + (N - 1) * d.a.x_stride, -d.a.x_stride, N - rows, N, v);
            else read_column(x, d.a.x_stride, 0, rows, v);
        });
    } else {
        unrolled<0, N / Layout::kPiece>([&](auto i_) WARMOPS_LAMBDA {
            constexpr int i = decltype(i_)::value;
            const Chunk<T> piece = reinterpret_cast<const Chunk<T>*>(row)[Layout::piece(t, i)];
            unrolled<0, Layout::kPiece>([&](auto e_) WARMOPS_LAMBDA { v[i * Layout::kPiece + decltype(e_)::value] = piece.e[decltype(e_)::value]; });
        });
    }
    transform(v, pass == 0 ? d.a : d.b, pass == 0 ? T(1) : T(d.a.scale * d.b.scale));
    if (pass == 0) {
        const int c = reverses_input(d.b.kind) ? N - 1 - t : t;
        if (reverses_output(d.a.kind))
            unrolled<0, N>([&](auto r_) WARMOPS_LAMBDA { image[Layout::at(N - 1 - decltype(r_)::value, c)] = v[decltype(r_)::value]; });
        else
            unrolled<0, N>([&](auto r_) WARMOPS_LAMBDA { image[Layout::at(decltype(r_)::value, c)] = v[decltype(r_)::value]; });
        return;
    }
    with_stored<T>(d.out_dtype, [&](auto stored) WARMOPS_LAMBDA {
        Chunk<decltype(stored)>* to = reinterpret_cast<Chunk<decltype(stored)>*>(row);
        if (reverses_output(d.b.kind)) write_row<T, N, true>(to, t, v);
        else write_row<T, N, false>(to, t, v);
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
            for (int k = 0; k < kPieces; ++k) {
                const int r = k * kRows + t / kPieces;
                if (r < s.a_out)
                    reinterpret_cast<Chunk<S>*>(out + r * d.a.out_stride)[i] =
                        reinterpret_cast<const Chunk<S>*>(from + r * Layout::kPitch)[Layout::piece(r, i)];
            }
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
