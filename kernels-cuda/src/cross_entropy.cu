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
    u32 wide;
    float factor;
    u32 unused;
};

template <class T> DEVICE void cross_entropy(const Parameters& p) {
    const u32 sample = blockIdx.x * WARPS + warp_index();
    if (sample >= p.samples) return;
    i64 at[1];
    locate(p.nest, sample, at);
    const T* logits = static_cast<const T*>(p.logits) + at[0];
    float largest, sum, loss = 0.0f;
    normalizer(logits, p.stride, p.target.classes, p.wide, largest, sum);
    const float log_sum = logf(sum);
    each_in_row(logits, p.stride, p.target.classes, p.wide, [&](u32 c, float x) {
        const float share = probability<T>(p.target, sample, c), log = x - largest - log_sum;
        // A class of probability 0 counts 0 even where its logarithm is infinite.
        loss -= share == 0.0f && log == log ? 0.0f : share * log;
    });
    loss = warp_sum(loss);
    if (lane_index() == 0) p.each[sample] = loss;
}

#define DEFINE(name, type) \
    KERNEL cross_entropy_##name(PARAMETERS p) { cross_entropy<type>(p); }
FOR_EACH_FLOAT(DEFINE)

KERNEL cross_entropy_total(PARAMETERS p) { add_losses(p.each, p.samples, p.factor, p.total); }
