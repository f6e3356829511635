// Blur of images too small to fill vectors one by one: up to kLanes of them side by side, image l in lane l.
#pragma once
#include "dct_axis.h"
#include "multipliers.h"
#include "strip_io.h"

namespace {

template <class T>
class SmallImages {
    static constexpr int64_t L = kLanes<T>;

    const int64_t height, width;
    const StripDct<T>&rows, &columns;
    LaneMultipliers<T> along, down;
    double sigma[kLanes<T>] = {};
    bool built = false;
    Buffer<T> strip, transform;

  public:
    Buffer<T> blurred;  // [L, height * width]

    SmallImages(const StripDct<T>& of_rows, const StripDct<T>& of_columns)
        : height(of_columns.n),
          width(of_rows.n),
          rows(of_rows),
          columns(of_columns),
          along(width),
          down(height),
          strip(height * width * L),
          transform(StripDct<T>::kLanesScratch * (height > width ? height : width) * L),
          blurred(L * height * width) {}

    // The blur of the image in a lane, from now on.
    void set(int64_t lane, double level) {
        if (sigma[lane] == level) return;
        sigma[lane] = level;
        built = false;
    }

    // Images of height * width neighbours each.
    template <class P>
    void run(const Sequences<const P>& images) {
        if (!built) {
            along.build(sigma);
            if (height != width) down.build(sigma);
            built = true;
        }
        const LaneMultipliers<T>& m = height == width ? along : down;
        load_strip<P, T>(images, height * width, strip.data, L);
        for (int64_t i = 0; i < height; ++i)
            rows.filter_lanes(strip.data + i * width * L, L, along.d.data, along.identity.data, transform.data);
        for (int64_t j = 0; j < width; ++j) columns.filter_lanes(strip.data + j * L, width * L, m.d.data, m.identity.data, transform.data);
        Sequences<T> to;
        to.along = 1;
        to.count = images.count;
        to.place(0, to.count, blurred.data, height * width);
        store_strip<T, T>(strip.data, L, height * width, to);
    }
};

}  // namespace
