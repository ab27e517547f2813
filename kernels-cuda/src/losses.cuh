// The losses of samples as one.
#pragma once
#include "common.cuh"

// The sum of `count` losses, times `factor`, by one block, in an order that depends on `count` alone.
DEVICE void add_losses(const float* losses, u32 count, float factor, float* total) {
    __shared__ float scratch[32];
    float sum = 0.0f;
#pragma unroll 1
    for (u32 i = threadIdx.x; i < count; i += blockDim.x) sum += losses[i];
    sum = block_sum(sum, scratch);
    if (threadIdx.x == 0) *total = sum * factor;
}
