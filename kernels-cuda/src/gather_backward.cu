// dx[..., a, ..., c] = sum over k with indices[..., k, ...] = a (clamped) of gradient[..., k, ..., c], in the order of k. dx is contiguous.
//
// One thread for each element of dx reads all indices of its position: K is the number of frames that pooling keeps, a handful, and no order of
// arrival can change the sum. In the nest, gradient and indices have stride 0 along the selected dimension; the third "operand" counts along it.
#include "common.cuh"

struct Parameters {
    const void* gradient;
    const i32* indices;
    void* dx;
    Nest<3> nest;
    i64 gradient_stride;
    i64 index_stride;
    u32 count;
    i32 size;
    u32 chosen;
    u32 unused;
};

template <class T> DEVICE void gather_backward(const Parameters& p) {
    const u32 index = thread_index();
    if (index >= p.count) return;
    i64 at[3];
    locate(p.nest, index, at);
    float sum = 0.0f;
    for (u32 k = 0; k < p.chosen; ++k) {
        const i32 chosen = min(max(p.indices[at[1] + k * p.index_stride], 0), p.size - 1);
        if (chosen == at[2]) sum += to_float(static_cast<const T*>(p.gradient)[at[0] + k * p.gradient_stride]);
    }
    static_cast<T*>(p.dx)[index] = from_float<T>(sum);
}

#define DEFINE(name, type) \
    KERNEL gather_backward_##name(PARAMETERS p) { gather_backward<type>(p); }
FOR_EACH_FLOAT(DEFINE)
