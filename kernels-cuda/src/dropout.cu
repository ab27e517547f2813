// y = x * m / (1 - probability), one draw for each run of `run` neighbouring elements; x has any strides, y is contiguous.
//
// Draw i is word i mod 4 of the Philox4x32-10 block i / 4 (Salmon et al., SC 2011), the same on every device. Each thread computes its own block:
// ten rounds of integer arithmetic are cheap beside the memory that an element moves.
#include "common.cuh"

struct Parameters {
    const void* x;
    void* y;
    Nest<1> nest;
    u64 seed;
    u64 stream;
    u32 count;
    u32 run;
    float probability;
    float factor;
};

DEVICE u32 philox_word(u32 block, u64 stream, u64 seed, u32 word) {
    u32 c0 = block, c1 = 0, c2 = (u32)stream, c3 = (u32)(stream >> 32);
    u32 k0 = (u32)seed, k1 = (u32)(seed >> 32);
#pragma unroll
    for (int round = 0; round < 10; ++round) {
        const u64 p0 = (u64)0xD2511F53u * c0, p1 = (u64)0xCD9E8D57u * c2;
        const u32 n0 = (u32)(p1 >> 32) ^ c1 ^ k0, n2 = (u32)(p0 >> 32) ^ c3 ^ k1;
        c1 = (u32)p1;
        c3 = (u32)p0;
        c0 = n0;
        c2 = n2;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    return word == 0 ? c0 : word == 1 ? c1 : word == 2 ? c2 : c3;
}

template <class T> DEVICE void dropout(const Parameters& p) {
    const u32 index = thread_index();
    if (index >= p.count) return;
    i64 at[1];
    locate(p.nest, index, at);
    const u32 draw = index / p.run;
    // 24 bits, as everywhere.
    const float uniform = (float)(philox_word(draw / 4, p.stream, p.seed, draw % 4) >> 8) * (1.0f / 16777216.0f);
    const float factor = uniform < p.probability ? 0.0f : p.factor;
    static_cast<T*>(p.y)[index] = from_float<T>(to_float(static_cast<const T*>(p.x)[at[0]]) * factor);
}

#define DEFINE(name, type) \
    KERNEL dropout_##name(PARAMETERS p) { dropout<type>(p); }
FOR_EACH_FLOAT(DEFINE)
