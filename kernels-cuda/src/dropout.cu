// y = x * m / (1 - probability), one draw for each run of `run` neighbouring elements; x has any strides, y is contiguous.
//
// Draw i is word i mod 4 of the Philox4x32-10 block i / 4 (Salmon et al., SC 2011), the same on every device. Each thread computes its own blocks, ten rounds
// of integer arithmetic: cheap beside the memory that an element moves, and where a thread moves 16 bytes (`_vector`: a draw for each element, or one for
// all of them) all words of a block are used, or a block serves all of them.
#include "step.cuh"

struct Parameters {
    const void* x;
    void* y;
    Nest<1> nest;
    u64 seed;
    u64 stream;
    const StepNumbers* step;  // whose stream is added; null unless captured
    u32 count;
    u32 run;
    float probability;
    float factor;
};

struct Words {
    u32 x[4];
};

DEVICE Words philox(u32 block, u64 stream, u64 seed) {
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
    return {c0, c1, c2, c3};
}

// What an element is multiplied by; 24 bits, as everywhere.
DEVICE float factor_of(const Parameters& p, u32 word) { return (float)(word >> 8) * (1.0f / 16777216.0f) < p.probability ? 0.0f : p.factor; }

// The factor of draw `draw`.
DEVICE float drawn(const Parameters& p, u64 stream, u32 draw) {
    const Words words = philox(draw / 4, stream, p.seed);
    const u32 i = draw % 4;
    return factor_of(p, i == 0 ? words.x[0] : i == 1 ? words.x[1] : i == 2 ? words.x[2] : words.x[3]);
}

// The factors of elements first .. first + V; V is 1, or `run` is 1 or a multiple of V.
template <int V> DEVICE void factors(const Parameters& p, u64 stream, u32 first, float (&out)[V]) {
    if (V == 1 || p.run != 1) {
        const float factor = drawn(p, stream, first / p.run);
#pragma unroll
        for (int v = 0; v < V; ++v) out[v] = factor;
    } else {
#pragma unroll
        for (int v = 0; v < V; v += 4) {
            const Words words = philox((first + v) / 4, stream, p.seed);
#pragma unroll
            for (int w = 0; w < 4 && v + w < V; ++w) out[v + w] = factor_of(p, words.x[w]);
        }
    }
}

template <class T, int V> DEVICE void dropout(const Parameters& p) {
    const u32 index = thread_index();
    if (index >= p.count) return;
    i64 at[1];
    locate(p.nest, index, at);
    float factor[V];
    factors(p, p.stream + (p.step ? p.step->stream : 0), index * V, factor);
    Pack<T, V> x = load_pack<T, V>(static_cast<const T*>(p.x) + at[0]);
#pragma unroll
    for (int v = 0; v < V; ++v) x.x[v] = from_float<T>(to_float(x.x[v]) * factor[v]);
    store_pack<T, V>(static_cast<T*>(p.y) + (u64)index * V, x);
}

#define DEFINE(name, type)                                        \
    KERNEL dropout_##name(PARAMETERS p) { dropout<type, 1>(p); }  \
    KERNEL dropout_##name##_vector(PARAMETERS p) { dropout<type, 16 / sizeof(type)>(p); }
FOR_EACH_FLOAT(DEFINE)
