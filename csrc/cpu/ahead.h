// Memory that will be needed soon, fetched into the second cache a few lines at a time, between parts of other work: all at once
// it would hold up the loads of that work.
#pragma once
#include "simd.h"

namespace {

class Ahead {
    static constexpr int kMost = 6, kBurst = 10;
    struct {
        const char *at, *end;
    } range[kMost];
    int count = 0, turn = 0;

  public:
    void clear() { count = turn = 0; }
    void add(const void* begin, int64_t bytes) {
        const char* at = static_cast<const char*>(begin);
        range[count++] = {at, at + bytes};
    }
    WARMOPS_INLINE void some() {
        auto& of = range[turn];
#pragma GCC unroll 16
        for (int k = 0; k < kBurst; ++k) __builtin_prefetch(of.at + 64 * k, 0, 2);
        of.at += 64 * kBurst;
        if (of.at >= of.end) {
            of = range[--count];
        } else {
            ++turn;
        }
        if (turn >= count) turn = 0;
    }
    bool is_done() const { return count == 0; }
};

WARMOPS_INLINE void fetch_some(Ahead* ahead) {
    if (ahead && !ahead->is_done()) ahead->some();
}

}  // namespace
