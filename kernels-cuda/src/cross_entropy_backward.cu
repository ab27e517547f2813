// dlogits = g * (softmax(logits) * sum of p - p), p as in cross_entropy.cu; g is the gradient of the loss, over the samples if the loss is a mean.
//
// Memory-bound. One warp for each sample, in passes through the cache.
#include "cross_entropy.cuh"

struct Parameters {
    const void* logits;
    const float* gradient;
    void* dx;
    Target target;
    Nest<1> nest;         // of the logits' rows
    i64 stride;
    i64 gradient_stride;  // 0 where there is one for all samples
    u32 samples;
    float factor;
};

KERNEL cross_entropy_backward(PARAMETERS p) {
    const u32 sample = blockIdx.x * WARPS + warp_index();
    if (sample >= p.samples) return;
    i64 at[1];
    locate(p.nest, sample, at);
    Logits logits = {p.logits, at[0], p.stride, p.target.type, p.target.classes};
    logits.normalize();
    float total = 0.0f;
#pragma unroll 1
    for (u32 c = lane_index(); c < logits.classes; c += 32) total += probability(p.target, sample, c);
    total = warp_sum(total);
    const float g = p.factor * p.gradient[sample * p.gradient_stride];
#pragma unroll 1
    for (u32 c = lane_index(); c < logits.classes; c += 32) {
        const float y = expf(logits.at(c) - logits.largest) / logits.sum;
        store_as(p.target.type, p.dx, (i64)sample * logits.classes + c, g * (y * total - probability(p.target, sample, c)));
    }
}
