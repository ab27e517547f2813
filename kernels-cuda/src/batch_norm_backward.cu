// With x^ = (x - mean) / sigma: dweight = sum of gradient * x^, dbias = sum of gradient; dx = weight / sigma * gradient for running statistics,
// dx = weight / sigma * (gradient - (dbias + x^ * dweight) / rows) for those of the batch.
//
// Memory-bound; as batch_norm.cu: `_sums` over segments of rows, `_parameters` adds them, `_dx` has a thread for each 16 bytes of
// channels, or for each element.
#include "rows.cuh"

struct Parameters {
    const void* x;
    const void* gradient;
    const void* weight;
    const float* mean;
    const float* var;
    void* dx;
    void* dweight;
    void* dbias;
    float* partial;  // [segments, 2, columns]
    float* totals;   // [2, columns]: dweight, dbias before they are rounded
    Nest<2> nest;    // of x and gradient, without the last dimension
    i64 x_stride;
    i64 gradient_stride;
    u32 rows;
    u32 columns;
    u32 segments;
    u32 batch;
    float eps;
    u32 count;       // threads of `_dx`
    u32 type;
    u32 wide;
};

DEVICE float scale_of(const Parameters& p, u32 c) { return 1.0f / sqrtf(p.var[c] + p.eps); }

KERNEL batch_norm_backward_sums(PARAMETERS p) {
    column_sums<2>(p.rows, p.columns, p.segments, p.partial, [&](u32 row, u32 c, Sum(&sums)[2]) {
        i64 at[2];
        locate(p.nest, row, at);
        const float x = load_as(p.type, p.x, at[0] + c * p.x_stride);
        const float gradient = load_as(p.type, p.gradient, at[1] + c * p.gradient_stride);
        sums[0] += gradient * ((x - p.mean[c]) * scale_of(p, c));
        sums[1] += gradient;
    });
}

KERNEL batch_norm_backward_parameters(PARAMETERS p) {
    const u32 column = thread_index();
    if (column >= p.columns) return;
    const float dweight = column_total<2>(p.partial, p.segments, p.columns, 0, column);
    const float dbias = column_total<2>(p.partial, p.segments, p.columns, 1, column);
    p.totals[column] = dweight;
    p.totals[p.columns + column] = dbias;
    store_as(p.type, p.dweight, column, dweight);
    store_as(p.type, p.dbias, column, dbias);
}

DEVICE float slope(const Parameters& p, u32 c, float x, float gradient, float weight) {
    const float scale = scale_of(p, c), hat = (x - p.mean[c]) * scale;
    const float mean = p.batch ? (p.totals[p.columns + c] + hat * p.totals[c]) / (float)p.rows : 0.0f;
    return weight * scale * (gradient - mean);
}

template <class T, int V> DEVICE void dx(const Parameters& p) {
    const u32 index = thread_index();
    if (index >= p.count) return;
    const u32 row = index / (p.columns / V), c = index % (p.columns / V) * V;
    i64 at[2];
    locate(p.nest, row, at);
    const Pack<T, V> x = load_pack<T, V>(static_cast<const T*>(p.x) + at[0] + c * p.x_stride);
    const Pack<T, V> gradient = load_pack<T, V>(static_cast<const T*>(p.gradient) + at[1] + c * p.gradient_stride);
    const Pack<T, V> weight = load_or<T, V>(p.weight, c, 1.0f);
    Pack<T, V> out;
#pragma unroll
    for (int v = 0; v < V; ++v) out.x[v] = from_float<T>(slope(p, c + v, to_float(x.x[v]), to_float(gradient.x[v]), to_float(weight.x[v])));
    store_pack<T, V>(static_cast<T*>(p.dx) + (i64)row * p.columns + c, out);
}

#define DEFINE(name, type)                               \
    KERNEL batch_norm_backward_dx_##name(PARAMETERS p) { \
        if (p.wide) dx<type, NEIGHBOURS<type>>(p);       \
        else dx<type, 1>(p);                             \
    }
FOR_EACH_FLOAT(DEFINE)
