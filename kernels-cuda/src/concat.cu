// One operand of a concatenation, moved to its place in the result. It has any strides; the place is a view of the result.
//
// Memory-bound: one launch for each operand moves bits, 16 bytes at a time where both views allow (`_vector`).
#include "common.cuh"

struct Parameters {
    const void* x;
    void* y;
    Nest<2> nest;
    u32 count;
    u32 broadcast;
};

template <class T, int V> DEVICE void place(const Parameters& p) {
    const u32 index = thread_index();
    if (index >= p.count) return;
    i64 at[2];
    locate(p.nest, index, at);
    store_pack<T, V>(static_cast<T*>(p.y) + at[1], load_along<T, V>(static_cast<const T*>(p.x), at[0], p.broadcast & 1));
}

#define MOVE(bits, type)                                                 \
    KERNEL concat_b##bits(PARAMETERS p) { place<type, 1>(p); }           \
    KERNEL concat_b##bits##_vector(PARAMETERS p) { place<type, 16 / sizeof(type)>(p); }
MOVE(8, u8)
MOVE(16, unsigned short)
MOVE(32, u32)
MOVE(64, u64)
