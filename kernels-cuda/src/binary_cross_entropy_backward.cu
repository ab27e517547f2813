// dlogits = g * ((1 - y) * sigmoid(x) - w * y * (1 - sigmoid(x))), element by element; g is the gradient of the loss, over the number of elements if the
// loss is a mean. Operands have any strides.
//
// Memory-bound: a thread for each element.
#include "functions.cuh"

struct Parameters {
    const void* logits;
    const void* target;
    const void* weight;  // [columns] or null
    const float* gradient;
    void* dx;
    Nest<3> nest;  // of logits, target and gradient
    u32 count;
    u32 columns;
    float factor;
    u32 type;
};

KERNEL binary_cross_entropy_backward(PARAMETERS p) {
    const u32 index = thread_index();
    if (index >= p.count) return;
    i64 at[3];
    locate(p.nest, index, at);
    const float x = load_as(p.type, p.logits, at[0]), y = load_as(p.type, p.target, at[1]);
    const float weight = p.weight ? load_as(p.type, p.weight, index % p.columns) : 1.0f;
    const float slope = (1.0f - y) * sigmoid(x) - weight * y * sigmoid(-x);
    store_as(p.type, p.dx, index, p.factor * p.gradient[at[2]] * slope);
}
