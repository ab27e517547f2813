// y = (x - mean) / sqrt(var + eps) * weight + bias for each channel, the last dimension; in training with the batch's own mean and biased variance,
// which are results too. The variance in two passes.
//
// Memory-bound. `_sums`: channels over segments of rows, first of x, then of (x - mean)^2; `_statistics` adds the segments. `_normalize`: a thread for
// each element. No atomics: the sums have one order.
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
    u32 count;       // elements
    u32 type;
    u32 unused;
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

KERNEL batch_norm_normalize(PARAMETERS p) {
    const u32 index = thread_index();
    if (index >= p.count) return;
    const u32 row = index / p.columns, c = index % p.columns;
    const float weight = p.weight ? load_as(p.type, p.weight, c) : 1.0f;
    const float bias = p.bias ? load_as(p.type, p.bias, c) : 0.0f;
    const float value = (element(p, row, c) - p.mean[c]) / sqrtf(p.var[c] + p.eps) * weight + bias;
    store_as(p.type, p.y, index, value);
}
