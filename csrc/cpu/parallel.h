// Threads, as many as the caller says.
#pragma once
#ifdef _OPENMP
#include <omp.h>
#endif

namespace {

// body(rank, size) on each of some threads.
template <class Body>
void in_parallel(int threads, const Body& body) {
#ifdef _OPENMP
    if (threads > 1) {
#pragma omp parallel num_threads(threads)
        body(omp_get_thread_num(), omp_get_num_threads());
        return;
    }
#endif
    (void)threads;
    body(0, 1);
}

}  // namespace
