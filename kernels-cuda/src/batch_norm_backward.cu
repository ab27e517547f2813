// With x^ = (x - mean) / sigma: dweight = sum of gradient * x^, dbias = sum of gradient; dx = weight / sigma * gradient for running statistics,
// dx = weight / sigma * (gradient - (dbias + x^ * dweight) / rows) for those of the batch.
//
// Memory-bound; as batch_norm.cu: `_sums` over segments of rows, `_parameters` adds them, `_dx` has a thread for each element.
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
    u32 count;       // elements
    u32 type;
    u32 unused;
};

struct Element {
    float hat, gradient, scale;
};
DEVICE Element element(const Parameters& p, u32 row, u32 c) {
    i64 at[2];
    locate(p.nest, row, at);
    const float x = load_as(p.type, p.x, at[0] + c * p.x_stride);
    const float gradient = load_as(p.type, p.gradient, at[1] + c * p.gradient_stride);
    const float scale = 1.0f / sqrtf(p.var[c] + p.eps);
    return {(x - p.mean[c]) * scale, gradient, scale};
}

KERNEL batch_norm_backward_sums(PARAMETERS p) {
    column_sums<2>(p.rows, p.columns, p.segments, p.partial, [&](u32 row, u32 c, Sum(&sums)[2]) {
        const Element e = element(p, row, c);
        sums[0] += e.gradient * e.hat;
        sums[1] += e.gradient;
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

KERNEL batch_norm_backward_dx(PARAMETERS p) {
    const u32 index = thread_index();
    if (index >= p.count) return;
    const u32 row = index / p.columns, c = index % p.columns;
    const Element e = element(p, row, c);
    const float weight = p.weight ? load_as(p.type, p.weight, c) : 1.0f;
    const float mean = p.batch ? (p.totals[p.columns + c] + e.hat * p.totals[c]) / (float)p.rows : 0.0f;
    store_as(p.type, p.dx, index, weight * e.scale * (e.gradient - mean));
}
