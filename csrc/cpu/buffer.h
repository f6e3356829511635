// Working memory of the kernels.
#pragma once
#include <stdlib.h>

#include <new>

#include "simd.h"

namespace {

inline int64_t round_up(int64_t n, int64_t multiple) { return (n + multiple - 1) / multiple * multiple; }

// Zeros at first: lanes beyond the data are computed with too, so they must hold numbers.
template <class T>
struct Buffer {
    T* data;
    explicit Buffer(int64_t count) {
        const size_t bytes = size_t(round_up(count * int64_t(sizeof(T)) + 2 * kBytes, 64));
        void* p = nullptr;
        if (posix_memalign(&p, 64, bytes) != 0) throw std::bad_alloc();
        memset(p, 0, bytes);
        data = static_cast<T*>(p);
    }
    ~Buffer() { free(data); }
    Buffer(const Buffer&) = delete;
    Buffer& operator=(const Buffer&) = delete;
};

}  // namespace
