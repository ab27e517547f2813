// Target distributions of classification: p = (1 - epsilon) * target + epsilon / classes.
#pragma once
#include "common.cuh"

constexpr u32 WARPS = 8;  // samples of a block of 256 threads

struct Target {
    const i32* labels;      // [samples], or null
    const void* soft;       // [samples, classes], or null
    i64 row;
    i64 column;
    float label_smoothing;
    u32 classes;
    u32 type;
    u32 unused;
};

// The probability of class `c`; NaN for a label outside.
DEVICE float probability(const Target& target, u32 sample, u32 c) {
    float hard;
    if (target.labels) {
        const i32 label = target.labels[sample * target.row];
        hard = (u32)label < target.classes ? (label == (i32)c ? 1.0f : 0.0f) : NOT_A_NUMBER;
    } else {
        hard = load_as(target.type, target.soft, sample * target.row + c * target.column);
    }
    return (1.0f - target.label_smoothing) * hard + target.label_smoothing / (float)target.classes;
}

// The logits of one sample, a lane for every 32nd.
struct Logits {
    const void* base;
    i64 start;
    i64 stride;
    u32 type;
    u32 classes;
    float largest;
    float sum;  // of e^(logit - largest)

    DEVICE float at(u32 c) const { return load_as(type, base, start + c * stride); }
    DEVICE void normalize() {
        largest = NEGATIVE_INFINITY;
        sum = 0.0f;
#pragma unroll 1
        for (u32 c = lane_index(); c < classes; c += 32) largest = max_nan(largest, at(c));
        largest = warp_max(largest);
#pragma unroll 1
        for (u32 c = lane_index(); c < classes; c += 32) sum += expf(at(c) - largest);
        sum = warp_sum(sum);
    }
};
