// One axis of a transform: any kind, as one of the strip transforms with signs, reversals and weights around it.
#pragma once
#include "strip_dct1.h"

namespace {

// The plan of n points. Those with small tables are kept for good (for small batches planning costs more than
// transforming; all of them together take some 30 MB); the list only grows, and what is in it never changes.
template <class T>
class Plan {
    const StripDct<T>* dct;
    bool kept = true;

    struct Node {
        StripDct<T> dct;
        const bool four;
        Node* next = nullptr;
        Node(int64_t n, bool f) : dct(n, f), four(f) {}
    };

  public:
    explicit Plan(int64_t n, bool four = false) {
        static Node* head = nullptr;
        Node* const first = __atomic_load_n(&head, __ATOMIC_ACQUIRE);
        for (Node* node = first; node; node = node->next)
            if (node->dct.n == n && node->four >= four) {
                dct = &node->dct;
                return;
            }
        if (StripDct<T>::table_size(n, four) * int64_t(sizeof(T)) > (1 << 16)) {
            dct = new StripDct<T>(n, four);
            kept = false;
            return;
        }
        Node* node = new Node(n, four);
        node->next = first;
        while (!__atomic_compare_exchange_n(&head, &node->next, node, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)) {
        }
        dct = &node->dct;
    }
    ~Plan() {
        if (!kept) delete dct;
    }
    Plan(const Plan&) = delete;
    Plan& operator=(const Plan&) = delete;
    const StripDct<T>* operator->() const { return dct; }
    const StripDct<T>& operator*() const { return *dct; }
};

template <class T>
class AxisTransform {
    static constexpr int64_t L = kLanes<T>;
    enum Kind { kCos1, kCos2, kCos3, kCos4, kSin1, kSin2, kSin3, kSin4 };
    const int kind;
    const T ends_in, ends_out;
    Plan<T>* dct = nullptr;
    StripOne<T>* one = nullptr;

  public:
    const int64_t n;
    static constexpr int64_t kScratch = StripDct<T>::kScratch;

    AxisTransform(const DctAxis& axis, int64_t points)
        : kind(axis.kind), ends_in(T(axis.ends_in)), ends_out(T(axis.ends_out)), n(points) {
        if (kind == kCos1 || kind == kSin1) {
            one = new StripOne<T>(kind == kSin1, n);
        } else {
            dct = new Plan<T>(n, kind == kCos4 || kind == kSin4);
        }
    }
    ~AxisTransform() {
        delete dct;
        delete one;
    }
    AxisTransform(const AxisTransform&) = delete;
    AxisTransform& operator=(const AxisTransform&) = delete;

    // Loses in; scratch has kScratch * n rows; the three are apart.
    void run(T* in, int64_t ldi, T* out, int64_t ldo, T* scratch) const {
        T *const last_in = in + (n - 1) * ldi, *const last_out = out + (n - 1) * ldo;
        switch (kind) {
            case kCos1:
                weigh(in, ends_in);
                weigh(last_in, ends_in);
                one->run(in, ldi, out, ldo, scratch);
                weigh(out, ends_out);
                weigh(last_out, ends_out);
                return;
            case kSin1: return one->run(in, ldi, out, ldo, scratch);
            case kCos2: (*dct)->dct2(in, ldi, out, ldo, scratch); return weigh(out, ends_out);
            case kSin2:  // the cosine transform of (-1)^j x_j, from the last frequency to the first
                alternate(in, ldi);
                (*dct)->dct2(in, ldi, last_out, -ldo, scratch);
                return weigh(last_out, ends_out);
            case kCos3: weigh(in, ends_in); return (*dct)->dct3(in, ldi, out, ldo, scratch);
            case kSin3:
                weigh(last_in, ends_in);
                (*dct)->dct3(last_in, -ldi, out, ldo, scratch);
                return alternate(out, ldo);
            case kCos4: return (*dct)->dct4(in, ldi, out, ldo, scratch);
            default:
                (*dct)->dct4(last_in, -ldi, out, ldo, scratch);
                return alternate(out, ldo);
        }
    }

  private:
    static void weigh(T* row, T factor) {
        if (factor != T(1)) store(row, load(row) * set1(factor));
    }
    void alternate(T* rows, int64_t ld) const {
        for (int64_t j = 1; j < n; j += 2) store(rows + j * ld, -load(rows + j * ld));
    }
};

}  // namespace
