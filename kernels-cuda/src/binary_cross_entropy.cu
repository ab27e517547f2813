// loss = -(w * y * log sigmoid(x) + (1 - y) * log(1 - sigmoid(x))), element by element, or their sum or mean; logits and targets have any strides.
//
// Memory-bound: a thread for each element; one block adds the losses.
#include "losses.cuh"

struct Parameters {
    const void* logits;
    const void* target;
    const void* weight;  // [columns] or null
    float* each;         // [rows, columns]
    float* total;
    Nest<2> nest;        // of logits and target
    u32 count;
    u32 columns;
    float factor;
    u32 type;
};

// log(1 + e^x), without overflow.
DEVICE float softplus(float x) { return (x != x ? x : fmaxf(x, 0.0f)) + log1pf(expf(-fabsf(x))); }

KERNEL binary_cross_entropy(PARAMETERS p) {
    const u32 index = thread_index();
    if (index >= p.count) return;
    i64 at[2];
    locate(p.nest, index, at);
    const float x = load_as(p.type, p.logits, at[0]), y = load_as(p.type, p.target, at[1]);
    const float weight = p.weight ? load_as(p.type, p.weight, index % p.columns) : 1.0f;
    p.each[index] = weight * y * softplus(-x) + (1.0f - y) * softplus(x);
}

KERNEL binary_cross_entropy_total(PARAMETERS p) { add_losses(p.each, p.count, p.factor, p.total); }
