// y = f(x), element by element; x has any strides, y is contiguous.
//
// Memory-bound: one thread moves 16 bytes where x allows (`_vector`), else one element. The function is chosen once per launch: a uniform branch
// costs nothing beside the memory, and one kernel serves all functions.
#include "functions.cuh"

struct Parameters {
    const void* x;
    void* y;
    Nest<1> nest;
    u32 count;
    u32 function;
    u32 broadcast;
    u32 unused;
};

template <class T, int V> DEVICE void unary(const Parameters& p) {
    const u32 index = thread_index();
    if (index >= p.count) return;
    i64 at[1];
    locate(p.nest, index, at);
    Pack<T, V> pack = load_along<T, V>(static_cast<const T*>(p.x), at[0], p.broadcast & 1);
    each_once(pack, [&](float x) { return apply(p.function, x); });
    store_pack<T, V>(static_cast<T*>(p.y) + (u64)index * V, pack);
}

#define DEFINE(name, type)                                                    \
    KERNEL unary_##name(PARAMETERS p) { unary<type, 1>(p); }                  \
    KERNEL unary_##name##_vector(PARAMETERS p) { unary<type, 16 / sizeof(type)>(p); }
FOR_EACH_FLOAT(DEFINE)
