// y[..., k, ..., c] = x[..., indices[..., k, ...], ..., c]; indices outside are clamped. Operands have any strides, y is contiguous.
//
// Memory-bound: one thread moves one element; neighbours along c read neighbours. In the nest, x has stride 0 along the selected dimension and the
// indices have stride 0 along c.
#include "common.cuh"

struct Parameters {
    const void* x;
    const i32* indices;
    void* y;
    Nest<2> nest;
    i64 stride;
    u32 count;
    i32 size;
};

template <class T> DEVICE void gather(const Parameters& p) {
    const u32 index = thread_index();
    if (index >= p.count) return;
    i64 at[2];
    locate(p.nest, index, at);
    const i32 chosen = min(max(p.indices[at[1]], 0), p.size - 1);
    static_cast<T*>(p.y)[index] = static_cast<const T*>(p.x)[at[0] + chosen * p.stride];
}

KERNEL gather_b8(PARAMETERS p) { gather<u8>(p); }
KERNEL gather_b16(PARAMETERS p) { gather<unsigned short>(p); }
KERNEL gather_b32(PARAMETERS p) { gather<u32>(p); }
KERNEL gather_b64(PARAMETERS p) { gather<u64>(p); }
