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
    u32 wide;
    float factor;
    u32 unused;
};

template <class T> DEVICE void cross_entropy_backward(const Parameters& p) {
    const u32 sample = blockIdx.x * WARPS + warp_index();
    if (sample >= p.samples) return;
    i64 at[1];
    locate(p.nest, sample, at);
    const T* logits = static_cast<const T*>(p.logits) + at[0];
    T* dx = static_cast<T*>(p.dx) + (i64)sample * p.target.classes;
    float largest, sum, total = 0.0f;
    normalizer(logits, p.stride, p.target.classes, p.wide, largest, sum);
#pragma unroll 1
    for (u32 c = lane_index(); c < p.target.classes; c += 32) total += probability<T>(p.target, sample, c);
    total = warp_sum(total);
    const float g = p.factor * p.gradient[sample * p.gradient_stride];
    map_row(logits, p.stride, p.target.classes, p.wide, dx, [&](u32 c, float x) {
        return g * (expf(x - largest) / sum * total - probability<T>(p.target, sample, c));
    });
}

#define DEFINE(name, type) \
    KERNEL cross_entropy_backward_##name(PARAMETERS p) { cross_entropy_backward<type>(p); }
FOR_EACH_FLOAT(DEFINE)
