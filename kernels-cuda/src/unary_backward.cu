// dx = gradient * f'(x), element by element; operands have any strides, dx is contiguous.
//
// Memory-bound; as unary.cu.
#include "functions.cuh"

struct Parameters {
    const void* x;
    const void* gradient;
    void* dx;
    Nest<2> nest;
    u32 count;
    u32 function;
    u32 broadcast;
    u32 unused;
};

template <class T, int V> DEVICE void unary_backward(const Parameters& p) {
    const u32 index = thread_index();
    if (index >= p.count) return;
    i64 at[2];
    locate(p.nest, index, at);
    const Pack<T, V> x = load_along<T, V>(static_cast<const T*>(p.x), at[0], p.broadcast & 1);
    Pack<T, V> g = load_along<T, V>(static_cast<const T*>(p.gradient), at[1], p.broadcast & 2);
    // The derivative waits in f32: only the product is rounded.
    Pack<float, V> slope;
#pragma unroll
    for (int v = 0; v < V; ++v) slope.x[v] = to_float(x.x[v]);
    each_once(slope, [&](float x) { return derivative(p.function, x); });
#pragma unroll
    for (int v = 0; v < V; ++v) g.x[v] = from_float<T>(to_float(g.x[v]) * slope.x[v]);
    store_pack<T, V>(static_cast<T*>(p.dx) + (u64)index * V, g);
}

#define DEFINE(name, type)                                                                      \
    KERNEL unary_backward_##name(PARAMETERS p) { unary_backward<type, 1>(p); }                  \
    KERNEL unary_backward_##name##_vector(PARAMETERS p) { unary_backward<type, 16 / sizeof(type)>(p); }
FOR_EACH_FLOAT(DEFINE)
