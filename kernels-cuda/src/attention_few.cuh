// Attention of few queries, for heads of at most 64 columns: one query over many keys (cross attention), or a few frames over each other.
//
// Bound by the memory that keys and values come from. A warp has one query and a segment of the keys: eight lanes share a key, eight columns each, so that
// four keys are read by 16 bytes a lane at a time. Each of the four has a running maximum and sum; they are joined in the end, and segments by `few_join`,
// in their order.
#pragma once
#include "common.cuh"

constexpr int COLUMNS = 8, GROUPS = 4, FEW_WIDTH = 64;
// What a segment leaves: sums, then the largest score and the sum of weights.
constexpr int LEFT = FEW_WIDTH + 2;

// Eight columns of a row, from `c` on; zeros beyond `width`.
DEVICE void load_eight(u32 type, const void* base, i64 at, i64 channel, u32 c, u32 width, bool wide, float (&x)[COLUMNS]) {
    if (wide && c + COLUMNS <= width) {
        if (type == F32) {
            const Pack<float, 4> low = load_pack<float, 4>(static_cast<const float*>(base) + at + c);
            const Pack<float, 4> high = load_pack<float, 4>(static_cast<const float*>(base) + at + c + 4);
#pragma unroll
            for (int i = 0; i < 4; ++i) {
                x[i] = low.x[i];
                x[i + 4] = high.x[i];
            }
        } else {
            const auto pack = load_pack<unsigned short, 8>(static_cast<const unsigned short*>(base) + at + c);
#pragma unroll
            for (int i = 0; i < COLUMNS; ++i) x[i] = half_as(type, pack.x[i]);
        }
    } else {
#pragma unroll
        for (int i = 0; i < COLUMNS; ++i) x[i] = c + i < width ? load_as(type, base, at + (c + i) * channel) : 0.0f;
    }
}

// Part of a softmax: the largest score, the sum of weights relative to it, and this lane's weighted sums.
struct Part {
    float largest, total, sums[COLUMNS];

    DEVICE void clear() {
        largest = NEGATIVE_INFINITY;
        total = 0.0f;
#pragma unroll
        for (int i = 0; i < COLUMNS; ++i) sums[i] = 0.0f;
    }
    DEVICE void scale_to(float high) {
        const float shrink = largest == high ? 1.0f : fast_exp(largest - high);
        largest = high;
        total *= shrink;
#pragma unroll
        for (int i = 0; i < COLUMNS; ++i) sums[i] *= shrink;
    }
    // Joins the parts of two lanes; both have the same bits afterwards.
    DEVICE void join(int step) {
        scale_to(fmaxf(largest, __shfl_xor_sync(ALL_LANES, largest, step)));
        total += __shfl_xor_sync(ALL_LANES, total, step);
#pragma unroll
        for (int i = 0; i < COLUMNS; ++i) sums[i] += __shfl_xor_sync(ALL_LANES, sums[i], step);
    }
};
