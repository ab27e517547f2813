// y = (s - mean) / sqrt(var + eps) * weight + bias over the last dimension, s = x + residual; the variance in two passes.
//
// Memory-bound. One warp for each row: its sums need shuffles only, and rows of up to a few thousand elements stay in the cache between the three passes,
// so that memory is read once.
#include "rows.cuh"

struct Parameters {
    const void* x;
    const void* residual;
    const void* weight;
    const void* bias;
    void* y;
    void* sum;
    Nest<2> nest;  // of x and residual, without the last dimension
    i64 x_stride;
    i64 residual_stride;
    u32 rows;
    u32 columns;
    float eps;
    u32 wide;
};

// Calls f(column, s); stores what it returns in `to`. Without a residual b is 0, and adding it is exact.
template <class T, class F> DEVICE void each_sum(const Parameters& p, const T* x, const T* residual, T* to, const F& f) {
    map_rows(x, p.x_stride, residual, p.residual_stride, p.columns, p.wide, to, [&](u32 c, float a, float b) { return f(c, a + b); });
}

template <class T> DEVICE void layer_norm(const Parameters& p) {
    const u32 row = blockIdx.x * WARPS + warp_index();
    if (row >= p.rows) return;
    i64 at[2];
    locate(p.nest, row, at);
    const T* x = static_cast<const T*>(p.x) + at[0];
    const T* residual = p.residual ? static_cast<const T*>(p.residual) + at[1] : nullptr;
    const T* weight = static_cast<const T*>(p.weight);
    const T* bias = static_cast<const T*>(p.bias);
    T* y = static_cast<T*>(p.y) + (i64)row * p.columns;
    T* sum = p.sum ? static_cast<T*>(p.sum) + (i64)row * p.columns : nullptr;
    float total = 0.0f, squares = 0.0f;
    each_sum(p, x, residual, sum, [&](u32, float s) {
        total += s;
        return s;
    });
    const float mean = warp_sum(total) / (float)p.columns;
    each_sum(p, x, residual, static_cast<T*>(nullptr), [&](u32, float s) { return squares += (s - mean) * (s - mean); });
    const float scale = 1.0f / sqrtf(warp_sum(squares) / (float)p.columns + p.eps);
    each_sum(p, x, residual, y, [&](u32 c, float s) {
        return (s - mean) * scale * (weight ? to_float(weight[c]) : 1.0f) + (bias ? to_float(bias[c]) : 0.0f);
    });
}

#define DEFINE(name, type) \
    KERNEL layer_norm_##name(PARAMETERS p) { layer_norm<type>(p); }
FOR_EACH_FLOAT(DEFINE)
