// y = e^(x - m) / sum of e^(x - m) over the last dimension, or its logarithm; a row with a NaN is NaN. x has any strides, y is contiguous.
//
// Memory-bound. One warp for each row, in three passes through the cache: largest, sum, result.
#include "rows.cuh"

struct Parameters {
    const void* x;
    void* y;
    Nest<1> nest;  // without the last dimension
    i64 stride;
    u32 rows;
    u32 columns;
    u32 log;
    u32 wide;
};

template <class T> DEVICE void softmax(const Parameters& p) {
    const u32 row = blockIdx.x * WARPS + warp_index();
    if (row >= p.rows) return;
    i64 at[1];
    locate(p.nest, row, at);
    const T* x = static_cast<const T*>(p.x) + at[0];
    T* y = static_cast<T*>(p.y) + (i64)row * p.columns;
    float largest = NEGATIVE_INFINITY, sum = 0.0f;
    each_in_row(x, p.stride, p.columns, p.wide, [&](u32, float x) { largest = max_nan(largest, x); });
    largest = warp_max(largest);
    each_in_row(x, p.stride, p.columns, p.wide, [&](u32, float x) { sum += expf(x - largest); });
    sum = warp_sum(sum);
    const float log_sum = logf(sum);
    map_row(x, p.stride, p.columns, p.wide, y, [&](u32, float x) { return p.log ? x - largest - log_sum : expf(x - largest) / sum; });
}

#define DEFINE(name, type) \
    KERNEL softmax_##name(PARAMETERS p) { softmax<type>(p); }
FOR_EACH_FLOAT(DEFINE)
