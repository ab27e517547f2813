// y = a o b, element by element with broadcasting (stride 0); operands have any strides, y is contiguous.
//
// Memory-bound: one thread moves 16 bytes of each operand where they allow (`_vector`), else one element.
#include "common.cuh"

struct Parameters {
    const void* a;
    const void* b;
    void* y;
    Nest<2> nest;
    u32 count;
    u32 op;
    u32 broadcast;
    u32 unused;
};

// In the order of `Operator` in the engine.
DEVICE float combine(u32 op, float a, float b) {
    switch (op) {
        case 0: return a + b;
        case 1: return a - b;
        case 2: return a * b;
        case 3: return a / b;
        case 4: return max_nan(a, b);
        default: return -max_nan(-a, -b);
    }
}

template <class T, int V> DEVICE void binary(const Parameters& p) {
    const u32 index = thread_index();
    if (index >= p.count) return;
    i64 at[2];
    locate(p.nest, index, at);
    Pack<T, V> a = load_along<T, V>(static_cast<const T*>(p.a), at[0], p.broadcast & 1);
    const Pack<T, V> b = load_along<T, V>(static_cast<const T*>(p.b), at[1], p.broadcast & 2);
#pragma unroll
    for (int v = 0; v < V; ++v) a.x[v] = from_float<T>(combine(p.op, to_float(a.x[v]), to_float(b.x[v])));
    store_pack<T, V>(static_cast<T*>(p.y) + (u64)index * V, a);
}

#define DEFINE(name, type)                                                      \
    KERNEL binary_##name(PARAMETERS p) { binary<type, 1>(p); }                  \
    KERNEL binary_##name##_vector(PARAMETERS p) { binary<type, 16 / sizeof(type)>(p); }
FOR_EACH_FLOAT(DEFINE)
