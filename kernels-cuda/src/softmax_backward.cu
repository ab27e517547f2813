// dx = y * (gradient - sum of gradient * y) over the last dimension; for the logarithm gradient - e^y * sum of gradient.
//
// Memory-bound. One warp for each row, in two passes through the cache.
#include "rows.cuh"

struct Parameters {
    const void* y;
    const void* gradient;
    void* dx;
    Nest<2> nest;  // without the last dimension
    i64 y_stride;
    i64 gradient_stride;
    u32 rows;
    u32 columns;
    u32 log;
    u32 wide;
};

template <class T> DEVICE void softmax_backward(const Parameters& p) {
    const u32 row = blockIdx.x * WARPS + warp_index();
    if (row >= p.rows) return;
    i64 at[2];
    locate(p.nest, row, at);
    const T* y = static_cast<const T*>(p.y) + at[0];
    const T* gradient = static_cast<const T*>(p.gradient) + at[1];
    T* dx = static_cast<T*>(p.dx) + (i64)row * p.columns;
    float sum = 0.0f;
    each_in_rows(y, p.y_stride, gradient, p.gradient_stride, p.columns, p.wide, [&](u32, float y, float g) { sum += p.log ? g : g * y; });
    sum = warp_sum(sum);
    map_rows(y, p.y_stride, gradient, p.gradient_stride, p.columns, p.wide, dx, [&](u32, float y, float g) {
        return p.log ? g - expf(y) * sum : y * (g - sum);
    });
}

#define DEFINE(name, type) \
    KERNEL softmax_backward_##name(PARAMETERS p) { softmax_backward<type>(p); }
FOR_EACH_FLOAT(DEFINE)
