// loss = -sum over classes of p * log softmax(logits), p = (1 - epsilon) * target + epsilon / classes; for each sample, or their sum or mean.
//
// Memory-bound. One warp for each sample, in three passes through the cache; one block adds the losses.
#include "cross_entropy.cuh"
#include "losses.cuh"

struct Parameters {
    const void* logits;
    float* each;    // [samples]
    float* total;
    Target target;
    Nest<1> nest;   // of the logits' rows
    i64 stride;
    u32 samples;
    float factor;
};

KERNEL cross_entropy(PARAMETERS p) {
    const u32 sample = blockIdx.x * WARPS + warp_index();
    if (sample >= p.samples) return;
    i64 at[1];
    locate(p.nest, sample, at);
    Logits logits = {p.logits, at[0], p.stride, p.target.type, p.target.classes};
    logits.normalize();
    const float log_sum = logf(logits.sum);
    float loss = 0.0f;
#pragma unroll 1
    for (u32 c = lane_index(); c < logits.classes; c += 32) {
        const float share = probability(p.target, sample, c), log = logits.at(c) - logits.largest - log_sum;
        // A class of probability 0 counts 0 even where its logarithm is infinite.
        loss -= share == 0.0f && log == log ? 0.0f : share * log;
    }
    loss = warp_sum(loss);
    if (lane_index() == 0) p.each[sample] = loss;
}

KERNEL cross_entropy_total(PARAMETERS p) { add_losses(p.each, p.samples, p.factor, p.total); }
