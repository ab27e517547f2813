// Kernels over many tensors in one launch: what the optimisers share.
#pragma once
#include "common.cuh"

constexpr u32 BLOCK_ELEMENTS = 4096;  // of one tensor, by a block of 256 threads

// The last group whose first block is not after this one. Groups are sorted and none is empty.
template <class Group> DEVICE u32 group_of_block(const Group* group, u32 groups) {
    u32 low = 0, high = groups;
    while (high - low > 1) {
        const u32 middle = (low + high) / 2;
        if (group[middle].first_block <= blockIdx.x) {
            low = middle;
        } else {
            high = middle;
        }
    }
    return low;
}

template <int V> DEVICE Pack<float, V> load_or_zero(const float* from, u32 i) {
    Pack<float, V> zero = {};
    return from ? load_pack<float, V>(from + i) : zero;
}

// Calls f.at<V>(first element) for this block's elements of a tensor of `count`: V = 4 at a time where they are `wide` and there are four, else one.
template <class F> DEVICE void each_four(u32 count, u32 first_block, bool wide, const F& f) {
    const u32 start = (blockIdx.x - first_block) * BLOCK_ELEMENTS, end = min(count, start + BLOCK_ELEMENTS);
#pragma unroll 1
    for (u32 i = start + threadIdx.x * 4; i < end; i += blockDim.x * 4) {
        if (wide && i + 4 <= end) {
            f.template at<4>(i);
        } else {
#pragma unroll 1
            for (u32 k = i; k < min(i + 4, end); ++k) f.template at<1>(k);
        }
    }
}
