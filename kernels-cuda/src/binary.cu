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

template <class T, int V, class F> DEVICE Pack<T, V> each(const Pack<T, V>& a, const Pack<T, V>& b, const F& f) {
    Pack<T, V> y;
#pragma unroll
    for (int v = 0; v < V; ++v) y.x[v] = from_float<T>(f(to_float(a.x[v]), to_float(b.x[v])));
    return y;
}

// In the order of `Operator` in the launcher; chosen once for a pack.
template <class T, int V> DEVICE Pack<T, V> combine(u32 op, const Pack<T, V>& a, const Pack<T, V>& b) {
    switch (op) {
        case 0: return each(a, b, [](float a, float b) { return a + b; });
        case 1: return each(a, b, [](float a, float b) { return a - b; });
        case 2: return each(a, b, [](float a, float b) { return a * b; });
        case 3: return each(a, b, [](float a, float b) { return a / b; });
    }
    // The smaller is the negative of the larger of the negatives.
    const float sign = op == 4 ? 1.0f : -1.0f;
    return each(a, b, [=](float a, float b) { return sign * max_nan(sign * a, sign * b); });
}

template <class T, int V> DEVICE void binary(const Parameters& p) {
    const u32 index = thread_index();
    if (index >= p.count) return;
    i64 at[2];
    locate(p.nest, index, at);
    const Pack<T, V> a = load_along<T, V>(static_cast<const T*>(p.a), at[0], p.broadcast & 1);
    const Pack<T, V> b = load_along<T, V>(static_cast<const T*>(p.b), at[1], p.broadcast & 2);
    store_pack<T, V>(static_cast<T*>(p.y) + (u64)index * V, combine(p.op, a, b));
}

#define DEFINE(name, type)                                                      \
    KERNEL binary_##name(PARAMETERS p) { binary<type, 1>(p); }                  \
    KERNEL binary_##name##_vector(PARAMETERS p) { binary<type, 16 / sizeof(type)>(p); }
FOR_EACH_FLOAT(DEFINE)
