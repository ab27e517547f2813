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

// to = softmax(from), by one warp; `from` may be `to`.
DEVICE void softmax_row(const float* from, float* to, u32 n) {
    float largest = NEGATIVE_INFINITY, sum = 0.0f;
#pragma unroll 1
    for (u32 i = lane_index(); i < n; i += 32) largest = max_nan(largest, from[i]);
    largest = warp_max(largest);
#pragma unroll 1
    for (u32 i = lane_index(); i < n; i += 32) {
        to[i] = expf(from[i] - largest);
        sum += to[i];
    }
    sum = warp_sum(sum);
#pragma unroll 1
    for (u32 i = lane_index(); i < n; i += 32) to[i] /= sum;
    __syncwarp();
}

// to = y * (gradient - sum of gradient * y), by one warp; `to` may be `gradient`.
DEVICE void softmax_row_backward(const float* y, const float* gradient, float* to, u32 n) {
    float sum = 0.0f;
#pragma unroll 1
    for (u32 i = lane_index(); i < n; i += 32) sum += y[i] * gradient[i];
    sum = warp_sum(sum);
#pragma unroll 1
    for (u32 i = lane_index(); i < n; i += 32) to[i] = y[i] * (gradient[i] - sum);
    __syncwarp();
}
