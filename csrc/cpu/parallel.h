// Threads, as many as the caller says.
#pragma once
#ifdef _OPENMP
#include <omp.h>
#endif

#include <new>

#include "buffer.h"

namespace {

// body(rank, size) on each of some threads. The one thing that it may throw is that memory has run out; no exception may leave
// a parallel region, so it is thrown again after it.
template <class Body>
void in_parallel(int threads, const Body& body) {
#ifdef _OPENMP
    if (threads > 1) {
        bool failed = false;
#pragma omp parallel num_threads(threads)
        try {
            body(omp_get_thread_num(), omp_get_num_threads());
        } catch (...) {
#pragma omp atomic write
            failed = true;
        }
        if (failed) throw std::bad_alloc();
        return;
    }
#endif
    (void)threads;
    body(0, 1);
}

// Items [0, count), an equal share for each thread: the same in every call, for its data may lie in that thread's cache. A thread
// takes its share piece by piece, and then what others have left: threads of a shared machine differ in speed.
class Shares {
    static constexpr int64_t kPieces = 16, kLine = 64 / sizeof(int64_t);  // of a share; counters lie in cache lines of their own
    const int64_t count, threads;
    Buffer<int64_t> taken;

    int64_t begin(int64_t share) const { return count * share / threads; }

  public:
    Shares(int64_t items, int64_t of) : count(items), threads(of < 1 ? 1 : of), taken(threads * kLine) {
        for (int64_t t = 0; t < threads; ++t) taken.data[t * kLine] = begin(t);
    }
    // The next items for a thread, [first, last); false: there are none.
    bool take(int64_t rank, int64_t& first, int64_t& last) const {
        for (int64_t t = 0; t < threads; ++t) {
            const int64_t share = (rank + t) % threads, end = begin(share + 1), piece = (end - begin(share) + kPieces - 1) / kPieces;
            if (piece == 0 || __atomic_load_n(&taken.data[share * kLine], __ATOMIC_RELAXED) >= end) continue;
            first = __atomic_fetch_add(&taken.data[share * kLine], piece, __ATOMIC_RELAXED);
            last = first + piece < end ? first + piece : end;
            if (first < end) return true;
        }
        return false;
    }
};

}  // namespace
