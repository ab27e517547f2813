// Rows of attention over few tokens: what pooling attention and its gradient share.
#pragma once
#include "common.cuh"

// The tokens of one head.
struct Rows {
    const void* base;
    i64 start;
    i64 row;
    i64 channel;
    u32 type;

    DEVICE float at(u32 r, u32 c) const { return load_as(type, base, start + r * row + c * channel); }
};

DEVICE float dot(const Rows& a, u32 i, const Rows& b, u32 j, u32 width) {
    float sum = 0.0f;
#pragma unroll 1
    for (u32 c = 0; c < width; ++c) sum = fmaf(a.at(i, c), b.at(j, c), sum);
    return sum;
}

// What pooling attention and its gradient are told; after `Pooling` in attention_topk_std.rs.
struct Pooling {
    u32 frames;
    u32 width;
    u32 value_width;
    u32 keep;
    u32 renormalize;
    float scale;
    u32 type;
    u32 tile;
};

// The warps of a block, of which each has a row at a time.
constexpr u32 WARPS = 8;

// What makes a softmax of a row: softmax(x) = exp(x - largest) / sum.
struct Softmax {
    float largest;
    float sum;

    DEVICE float operator()(float x) const { return expf(x - largest) / sum; }
};

// Of a row of `n` numbers, in every lane of one warp.
DEVICE Softmax softmax_of(const float* row, u32 n) {
    float largest = NEGATIVE_INFINITY, sum = 0.0f;
#pragma unroll 1
    for (u32 i = lane_index(); i < n; i += 32) largest = max_nan(largest, row[i]);
    largest = warp_max(largest);
#pragma unroll 1
    for (u32 i = lane_index(); i < n; i += 32) sum += expf(row[i] - largest);
    return {largest, warp_sum(sum)};
}

// row = softmax(row), by one warp. A lane reads and writes elements of its own alone.
DEVICE Softmax softmax_row(float* row, u32 n) {
    const Softmax softmax = softmax_of(row, n);
#pragma unroll 1
    for (u32 i = lane_index(); i < n; i += 32) row[i] = softmax(row[i]);
    return softmax;
}

// row = y * (row - sum of y * row) with y = f(x), by one warp; gives the sum.
template <class F> DEVICE float softmax_row_backward(const float* x, const F& f, float* row, u32 n) {
    float sum = 0.0f;
#pragma unroll 1
    for (u32 i = lane_index(); i < n; i += 32) sum += f(x[i]) * row[i];
    sum = warp_sum(sum);
#pragma unroll 1
    for (u32 i = lane_index(); i < n; i += 32) row[i] = f(x[i]) * (row[i] - sum);
    return sum;
}

DEVICE float score(const Pooling& p, const Rows& q, u32 i, const Rows& k, u32 j) { return p.scale * dot(q, i, k, j, p.width); }

// row = softmax(scale * q[i] * k^T), by one warp.
DEVICE Softmax attend(const Pooling& p, const Rows& q, u32 i, const Rows& k, float* row) {
#pragma unroll 1
    for (u32 j = lane_index(); j < p.frames; j += 32) row[j] = score(p, q, i, k, j);
    return softmax_row(row, p.frames);
}

// The sum over rows of weight * x[row][c], by one thread; `weight` is read from row to row in steps of `step`.
DEVICE float weighted(const float* weight, u32 step, const Rows& x, u32 rows, u32 c) {
    float sum = 0.0f;
#pragma unroll 1
    for (u32 r = 0; r < rows; ++r) sum += weight[r * step] * x.at(r, c);
    return sum;
}
