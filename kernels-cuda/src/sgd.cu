// One step of stochastic gradient descent on many tensors in one launch; all are f32 and contiguous. On the first step the momentum buffer is the
// gradient.
//
// Memory-bound; as adam.cu.
#include "multi_tensor.cuh"
#include "step.cuh"

struct Tensors {
    const float* param;
    const float* gradient;
    const float* buffer;  // null on the first step and without momentum
    float* new_param;
    float* new_buffer;
    u32 count;
    u32 first_block;
    u32 wide;  // whether all addresses are aligned to 16 bytes
    u32 unused;
};

struct Parameters {
    Tensors group[64];
    u32 groups;
    u32 nesterov;
    float gradient_scale;
    float decay;
    float momentum;
    float rest;
    float rate;
    u32 unused;
    const StepNumbers* step;  // null unless captured
};

struct Step {
    const Parameters& p;
    const Tensors& t;
    const float gradient_scale;
    const float rate;

    template <int V> DEVICE void at(u32 i) const {
        Pack<float, V> param = load_pack<float, V>(t.param + i), buffer = load_or_zero<V>(t.buffer, i);
        const Pack<float, V> gradient = load_pack<float, V>(t.gradient + i);
#pragma unroll
        for (int k = 0; k < V; ++k) {
            // Where the gradient is no number everything stays as it is, so that the host can look for the reason.
            if (gradient_scale != gradient_scale) break;
            const float g = gradient_scale * gradient.x[k] + p.decay * param.x[k];
            const float m = t.buffer ? p.momentum * buffer.x[k] + p.rest * g : g;
            const float step = p.momentum == 0.0f ? g : p.nesterov ? g + p.momentum * m : m;
            param.x[k] -= rate * step;
            buffer.x[k] = m;
        }
        store_pack<float, V>(t.new_param + i, param);
        store_pack<float, V>(t.new_buffer + i, buffer);
    }
};

KERNEL sgd(PARAMETERS p) {
    const Tensors& t = p.group[group_of_block(p.group, p.groups)];
    const StepNumbers* step = p.step;
    each_four(t.count, t.first_block, t.wide, Step{p, t, step ? step->gradient_scale : p.gradient_scale, step ? step->rate : p.rate});
}
