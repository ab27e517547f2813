// Separable resampling of three axes by tables: what interpolation, resizing and their gradients share. The transpose of a resampling is one with the
// transposed tables, so that a gradient, too, is gathered in a fixed order.
//
// y[b, t, h, w, c] = sum of u v s x[b, i, j, k, c] over the taps (i, u) of t, (j, v) of h, (k, s) of w. One thread for each element, neighbours along the
// channels; what neighbours read in common is in the cache, and tables are small.
#pragma once
#include "divisor.cuh"

struct Tap {
    u32 place;
    float weight;
};

struct Parameters {
    const void* x;
    void* y;
    const Tap* taps;    // of all outputs along T, then H, then W
    const u32* starts;  // where those of an output start, likewise, and where the last ones end
    i64 stride[5];      // of x
    Divisor size[4];    // of y: T, H, W, C
    u32 first[2];       // the first output of H and of W
    u32 count;
    u32 unused;
};

template <class T> DEVICE void resample(const Parameters& p) {
    const u32 index = thread_index();
    if (index >= p.count) return;
    u32 b = index;
    const u32 c = split(b, p.size[3]), w = split(b, p.size[2]), h = split(b, p.size[1]), t = split(b, p.size[0]);
    const T* x = static_cast<const T*>(p.x) + b * p.stride[0] + c * p.stride[4];
    const u32* of_h = p.starts + p.first[0] + h;
    const u32* of_w = p.starts + p.first[1] + w;
    const u32 end_t = p.starts[t + 1], start_h = of_h[0], end_h = of_h[1], start_w = of_w[0], end_w = of_w[1];
    float sum = 0.0f;
#pragma unroll 1
    for (u32 i = p.starts[t]; i < end_t; ++i) {
        const T* plane = x + p.taps[i].place * p.stride[1];
#pragma unroll 1
        for (u32 j = start_h; j < end_h; ++j) {
            const T* line = plane + p.taps[j].place * p.stride[2];
            float row = 0.0f;
#pragma unroll 1
            for (u32 k = start_w; k < end_w; ++k) row += p.taps[k].weight * to_float(line[p.taps[k].place * p.stride[3]]);
            sum += p.taps[i].weight * p.taps[j].weight * row;
        }
    }
    static_cast<T*>(p.y)[index] = from_float<T>(sum);
}
