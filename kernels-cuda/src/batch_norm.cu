// y = (x - mean) / sqrt(var + eps) * weight + bias for each channel, the last dimension; in training with the batch's own mean and biased variance,
// which are results too. The variance in two passes.
//
// Memory-bound. `_sums`: channels over segments of rows, first of x, then of (x - mean)^2; `_statistics` adds the segments. `_normalize`: a thread for
// each 16 bytes of channels, or for each element where they do not lie so. No atomics: the sums have one order.
#include "rows.cuh"

struct Parameters {
    const void* x;
    const void* weight;
    const void* bias;
    void* y;
    float* mean;     // [columns]
    float* var;
    float* partial;  // [segments, columns]
    Nest<1> nest;    // of x, without the last dimension
    i64 stride;
    u32 rows;
    u32 columns;
    u32 segments;
    u32 second;      // the pass: sums of squares
    float eps;
    u32 count;       // threads of `_normalize`
    u32 type;
    u32 wide;
};

DEVICE float element(const Parameters& p, u32 row, u32 column) {
    i64 at[1];
    locate(p.nest, row, at);
    return load_as(p.type, p.x, at[0] + column * p.stride);
}

KERNEL batch_norm_sums(PARAMETERS p) {
    column_sums<1>(p.rows, p.columns, p.segments, p.partial, [&](u32 row, u32 c, Sum(&sums)[1]) {
        const float x = element(p, row, c), centered = p.second ? x - p.mean[c] : 0.0f;
        sums[0] += p.second ? centered * centered : x;
    });
}

KERNEL batch_norm_statistics(PARAMETERS p) {
    const u32 column = thread_index();
    if (column >= p.columns) return;
    (p.second ? p.var : p.mean)[column] = column_total<1>(p.partial, p.segments, p.columns, 0, column) / (float)p.rows;
}

DEVICE float normalized(const Parameters& p, u32 c, float x, float weight, float bias) {
    return (x - p.mean[c]) / sqrtf(p.var[c] + p.eps) * weight + bias;
}

template <class T, int V> DEVICE void normalize(const Parameters& p) {
    const u32 index = thread_index();
    if (index >= p.count) return;
    const u32 row = index / (p.columns / V), c = index % (p.columns / V) * V;
    i64 at[1];
    locate(p.nest, row, at);
    const Pack<T, V> x = load_pack<T, V>(static_cast<const T*>(p.x) + at[0] + c * p.stride);
    const Pack<T, V> weight = load_or<T, V>(p.weight, c, 1.0f), bias = load_or<T, V>(p.bias, c, 0.0f);
    Pack<T, V> y;
#pragma unroll
    for (int v = 0; v < V; ++v) y.x[v] = from_float<T>(normalized(p, c + v, to_float(x.x[v]), to_float(weight.x[v]), to_float(bias.x[v])));
    store_pack<T, V>(static_cast<T*>(p.y) + (i64)row * p.columns + c, y);
}

#define DEFINE(name, type)                                \
    KERNEL batch_norm_normalize_##name(PARAMETERS p) {    \
        if (p.wide) normalize<type, NEIGHBOURS<type>>(p); \
        else normalize<type, 1>(p);                       \
    }
FOR_EACH_FLOAT(DEFINE)
