// Target distributions of classification: p = (1 - epsilon) * target + epsilon / classes.
#pragma once
#include "rows.cuh"

struct Target {
    const i32* labels;      // [samples], or null
    const void* soft;       // [samples, classes], or null
    i64 row;
    i64 column;
    float label_smoothing;
    u32 classes;
};

// The probability of class `c`; NaN for a label outside.
template <class T> DEVICE float probability(const Target& target, u32 sample, u32 c) {
    float hard;
    if (target.labels) {
        const i32 label = target.labels[sample * target.row];
        hard = (u32)label < target.classes ? (label == (i32)c ? 1.0f : 0.0f) : NOT_A_NUMBER;
    } else {
        hard = to_float(static_cast<const T*>(target.soft)[sample * target.row + c * target.column]);
    }
    return (1.0f - target.label_smoothing) * hard + target.label_smoothing / (float)target.classes;
}

// The largest logit of a row, and the sum of e^(logit - largest).
template <class T> DEVICE void normalizer(const T* logits, i64 stride, u32 classes, bool wide, float& largest, float& sum) {
    float high = NEGATIVE_INFINITY, total = 0.0f;
    each_in_row(logits, stride, classes, wide, [&](u32, float x) { high = max_nan(high, x); });
    high = warp_max(high);
    each_in_row(logits, stride, classes, wide, [&](u32, float x) { total += expf(x - high); });
    largest = high;
    sum = warp_sum(total);
}
