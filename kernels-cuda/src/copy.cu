// A view in row-major order, converted: floats round to nearest even, integers saturate, NaN becomes 0. x has any strides, y is contiguous.
//
// Memory-bound. Copies of one type move bits, NaN's too, 16 bytes at a time where x allows (`_vector`); conversions that are common move four elements.
#include "common.cuh"

struct Parameters {
    const void* x;
    void* y;
    Nest<1> nest;
    u32 count;
    u32 broadcast;
};

template <class To, class From> struct Convert {
    static DEVICE To of(From x) { return from_float<To>(to_float(x)); }
};
// Beyond 2^24 an integer is no float: rounded to odd on the way, it is rounded once in the end (Boldo and Melquiond).
DEVICE float odd_float(i32 x) {
    const float low = __int2float_rz(x);
    return __float2int_rz(low) == x ? low : __int_as_float(__float_as_int(low) | 1);
}
template <> struct Convert<bf16, i32> {
    static DEVICE bf16 of(i32 x) { return from_float<bf16>(odd_float(x)); }
};
template <> struct Convert<f16, i32> {
    static DEVICE f16 of(i32 x) { return from_float<f16>(odd_float(x)); }
};
template <> struct Convert<u8, i32> {
    static DEVICE u8 of(i32 x) { return (u8)min(max(x, 0), 255); }
};
template <class T> struct Convert<T, T> {
    static DEVICE T of(T x) { return x; }
};

template <class To, class From, int V> DEVICE void copy(const Parameters& p) {
    const u32 index = thread_index();
    if (index >= p.count) return;
    i64 at[1];
    locate(p.nest, index, at);
    const Pack<From, V> x = load_along<From, V>(static_cast<const From*>(p.x), at[0], p.broadcast & 1);
    Pack<To, V> y;
#pragma unroll
    for (int v = 0; v < V; ++v) y.x[v] = Convert<To, From>::of(x.x[v]);
    store_pack<To, V>(static_cast<To*>(p.y) + (u64)index * V, y);
}

#define MOVE(bits, type)                                                           \
    KERNEL copy_b##bits(PARAMETERS p) { copy<type, type, 1>(p); }                  \
    KERNEL copy_b##bits##_vector(PARAMETERS p) { copy<type, type, 16 / sizeof(type)>(p); }
MOVE(8, u8)
MOVE(16, unsigned short)
MOVE(32, u32)
MOVE(64, u64)

#define CONVERT(from, to) \
    KERNEL copy_##from##_##to(PARAMETERS p) { copy<to, from, 1>(p); }
#define CONVERT_WIDE(from, to) \
    CONVERT(from, to)          \
    KERNEL copy_##from##_##to##_vector(PARAMETERS p) { copy<to, from, 4>(p); }
CONVERT_WIDE(f32, bf16)
CONVERT_WIDE(f32, f16)
CONVERT(f32, u8)
CONVERT(f32, i32)
CONVERT_WIDE(bf16, f32)
CONVERT(bf16, f16)
CONVERT(bf16, u8)
CONVERT(bf16, i32)
CONVERT_WIDE(f16, f32)
CONVERT(f16, bf16)
CONVERT(f16, u8)
CONVERT(f16, i32)
CONVERT_WIDE(u8, f32)
CONVERT_WIDE(u8, bf16)
CONVERT_WIDE(u8, f16)
CONVERT(u8, i32)
CONVERT(i32, f32)
CONVERT(i32, bf16)
CONVERT(i32, f16)
CONVERT(i32, u8)
