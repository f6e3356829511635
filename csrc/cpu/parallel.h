// Threads, as many as the caller says.
#pragma once
#ifdef _OPENMP
#include <omp.h>
#endif

#include <new>

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

}  // namespace
