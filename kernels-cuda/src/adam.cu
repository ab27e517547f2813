// One step of Adam or AdamW on many tensors in one launch; all are f32 and contiguous.
//
// Memory-bound: seven streams (nine with amsgrad) of 16 bytes a thread where the addresses allow. A model has hundreds of small tensors, for which a launch each would cost
// more than the step: the table of tensors goes with the launch as its parameter, and each block looks up whose elements it has.
#include "multi_tensor.cuh"
#include "step.cuh"

struct Tensors {
    const float* param;
    const float* gradient;
    const float* m;        // null before the first step, as are the others of the state
    const float* v;
    const float* largest;  // null without amsgrad
    float* new_param;
    float* new_m;
    float* new_v;
    float* new_largest;    // null without amsgrad
    u32 count;
    u32 first_block;
    u32 wide;  // whether all addresses are aligned to 16 bytes
    u32 unused;
};

struct Parameters {
    Tensors group[32];
    u32 groups;
    u32 decoupled;
    u32 amsgrad;
    float gradient_scale;
    float decay;
    float beta1;
    float rest1;
    float beta2;
    float rest2;
    float rate;
    float correction;
    float eps;
    const StepNumbers* step;  // null unless captured
};

// What differs from step to step.
struct Rates {
    float gradient_scale;
    float decay;
    float rate;
    float correction;
};

DEVICE Rates rates_of(const Parameters& p) {
    const StepNumbers* step = p.step;
    if (!step) return {p.gradient_scale, p.decay, p.rate, p.correction};
    // Some parameters do not decay; a decay that is not decoupled is the same in every step.
    const float decay = p.decoupled && p.decay != 0.0f ? step->decay : p.decay;
    return {step->gradient_scale, decay, step->rate, step->correction};
}

struct Step {
    const Parameters& p;
    const Tensors& t;
    const Rates r;

    template <int V> DEVICE void at(u32 i) const {
        Pack<float, V> param = load_pack<float, V>(t.param + i), gradient = load_pack<float, V>(t.gradient + i);
        Pack<float, V> m = load_or_zero<V>(t.m, i), v = load_or_zero<V>(t.v, i), largest = load_or_zero<V>(t.largest, i);
#pragma unroll
        for (int k = 0; k < V; ++k) {
            // Where the gradient is no number everything stays as it is, so that the host can look for the reason.
            if (r.gradient_scale != r.gradient_scale) break;
            float value = param.x[k], g = r.gradient_scale * gradient.x[k];
            if (p.decoupled) {
                value -= value * r.decay;
            } else {
                g += r.decay * value;
            }
            m.x[k] = p.beta1 * m.x[k] + p.rest1 * g;
            v.x[k] = p.beta2 * v.x[k] + p.rest2 * g * g;
            largest.x[k] = p.amsgrad ? max_nan(v.x[k], largest.x[k]) : v.x[k];
            param.x[k] = value - r.rate * m.x[k] / (sqrtf(largest.x[k]) * r.correction + p.eps);
        }
        store_pack<float, V>(t.new_param + i, param);
        store_pack<float, V>(t.new_m + i, m);
        store_pack<float, V>(t.new_v + i, v);
        if (p.amsgrad) store_pack<float, V>(t.new_largest + i, largest);
    }
};

KERNEL adam(PARAMETERS p) {
    const Tensors& t = p.group[group_of_block(p.group, p.groups)];
    each_four(t.count, t.first_block, t.wide, Step{p, t, rates_of(p)});
}
