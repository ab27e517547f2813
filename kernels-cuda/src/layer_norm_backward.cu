// dx = (g - mean(g) - x^ * mean(g * x^)) / sigma with g = gradient * weight; dweight = sum of gradient * x^, dbias = sum of gradient over rows.
//
// Memory-bound. `_dx`: a warp for each row, as in layer_norm.cu; it leaves mean and 1 / sigma of the row. `_sums`: columns over segments of rows.
// `_parameters` adds the segments. No atomics: the sums have one order.
#include "rows.cuh"

struct Parameters {
    const void* x;
    const void* gradient;
    const void* weight;
    void* dx;
    void* dweight;
    void* dbias;
    float* statistics;  // [rows, 2]: mean, 1 / sigma
    float* partial;     // [segments, 2, columns]
    Nest<2> nest;       // of x and gradient, without the last dimension
    i64 x_stride;
    i64 gradient_stride;
    u32 rows;
    u32 columns;
    u32 segments;
    float eps;
    u32 wide;
    u32 unused;
};

template <class T> DEVICE void dx(const Parameters& p) {
    const u32 row = blockIdx.x * WARPS + warp_index();
    if (row >= p.rows) return;
    i64 at[2];
    locate(p.nest, row, at);
    const T* x = static_cast<const T*>(p.x) + at[0];
    const T* gradient = static_cast<const T*>(p.gradient) + at[1];
    const T* weight = static_cast<const T*>(p.weight);
    T* dx = static_cast<T*>(p.dx) + (i64)row * p.columns;
    const float n = (float)p.columns;
    float total = 0.0f, squares = 0.0f, sum_g = 0.0f, sum_gx = 0.0f;
    each_in_row(x, p.x_stride, p.columns, p.wide, [&](u32, float x) { total += x; });
    const float mean = warp_sum(total) / n;
    each_in_row(x, p.x_stride, p.columns, p.wide, [&](u32, float x) { squares += (x - mean) * (x - mean); });
    const float scale = 1.0f / sqrtf(warp_sum(squares) / n + p.eps);
    each_in_rows(x, p.x_stride, gradient, p.gradient_stride, p.columns, p.wide, [&](u32 c, float x, float g) {
        g *= weight ? to_float(weight[c]) : 1.0f;
        sum_g += g;
        sum_gx += g * ((x - mean) * scale);
    });
    const float mean_g = warp_sum(sum_g) / n, mean_gx = warp_sum(sum_gx) / n;
    map_rows(x, p.x_stride, gradient, p.gradient_stride, p.columns, p.wide, dx, [&](u32 c, float x, float g) {
        g *= weight ? to_float(weight[c]) : 1.0f;
        return (g - mean_g - (x - mean) * scale * mean_gx) * scale;
    });
    if (lane_index() == 0) {
        p.statistics[2 * row] = mean;
        p.statistics[2 * row + 1] = scale;
    }
}

template <class T> DEVICE void sums(const Parameters& p) {
    column_sums<2>(p.rows, p.columns, p.segments, p.partial, [&](u32 row, u32 c, Sum(&sums)[2]) {
        i64 at[2];
        locate(p.nest, row, at);
        const float x = to_float(static_cast<const T*>(p.x)[at[0] + c * p.x_stride]);
        const float g = to_float(static_cast<const T*>(p.gradient)[at[1] + c * p.gradient_stride]);
        sums[0] += g * ((x - p.statistics[2 * row]) * p.statistics[2 * row + 1]);
        sums[1] += g;
    });
}

template <class T> DEVICE void parameters(const Parameters& p) {
    const u32 column = thread_index();
    if (column >= p.columns) return;
    static_cast<T*>(p.dweight)[column] = from_float<T>(column_total<2>(p.partial, p.segments, p.columns, 0, column));
    static_cast<T*>(p.dbias)[column] = from_float<T>(column_total<2>(p.partial, p.segments, p.columns, 1, column));
}

#define DEFINE(name, type)                                                             \
    KERNEL layer_norm_backward_##name##_dx(PARAMETERS p) { dx<type>(p); }              \
    KERNEL layer_norm_backward_##name##_sums(PARAMETERS p) { sums<type>(p); }          \
    KERNEL layer_norm_backward_##name##_parameters(PARAMETERS p) { parameters<type>(p); }
FOR_EACH_FLOAT(DEFINE)
