// What all kernels share: element types, strided indexing, reductions in a fixed order.
//
// Kernels store in T and compute in float. Every kernel takes one struct by value, the mirror of a Rust struct without padding, so that a launch
// uploads nothing. Element counts are below 2^31 (the launcher sees to it): indices of elements are 32-bit, addresses 64-bit.
#pragma once
#include <cuda_bf16.h>
#include <cuda_fp16.h>

typedef __nv_bfloat16 bf16;
typedef __half f16;
typedef float f32;
typedef unsigned char u8;
typedef int i32;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef long long i64;

#define DEVICE __device__ __forceinline__
// A block of 256 threads: four or more of them fit a multiprocessor from Ampere on.
#define KERNEL extern "C" __global__ void __launch_bounds__(256)
// Where ptxas would spill registers for the sake of more blocks on a multiprocessor: one is enough.
#define ROOMY_KERNEL extern "C" __global__ void __launch_bounds__(256, 1)
// Its argument: what a loop indexes stays where the launch has put it, without a copy of its own for every thread.
#define PARAMETERS const __grid_constant__ Parameters

constexpr int RANK = 8;
constexpr u32 ALL_LANES = 0xffffffffu;

// ---- element types ----

DEVICE float to_float(float x) { return x; }
DEVICE float to_float(bf16 x) { return __bfloat162float(x); }
DEVICE float to_float(f16 x) { return __half2float(x); }
DEVICE float to_float(u8 x) { return (float)x; }
DEVICE float to_float(i32 x) { return (float)x; }

// Rounds to nearest even; integers saturate and NaN becomes 0.
template <class T> DEVICE T from_float(float x);
template <> DEVICE float from_float<float>(float x) { return x; }
template <> DEVICE bf16 from_float<bf16>(float x) { return __float2bfloat16_rn(x); }
template <> DEVICE f16 from_float<f16>(float x) { return __float2half_rn(x); }
template <> DEVICE u8 from_float<u8>(float x) { return (u8)(x > 0.0f ? __float2uint_rn(fminf(x, 255.0f)) : 0u); }
template <> DEVICE i32 from_float<i32>(float x) { return x == x ? __float2int_rn(x) : 0; }

// Elements whose type the launch says: where a uniform branch for each is cheap beside other work, one kernel serves all types.
enum Type : u32 { F32, BF16, F16 };

DEVICE float half_as(u32 type, unsigned short bits) {
    return type == BF16 ? __uint_as_float((u32)bits << 16) : to_float(__ushort_as_half(bits));
}
DEVICE float load_as(u32 type, const void* base, i64 at) {
    return type == F32 ? static_cast<const float*>(base)[at] : half_as(type, static_cast<const unsigned short*>(base)[at]);
}
DEVICE void store_as(u32 type, void* base, i64 at, float x) {
    if (type == F32) {
        static_cast<float*>(base)[at] = x;
    } else if (type == BF16) {
        static_cast<bf16*>(base)[at] = from_float<bf16>(x);
    } else {
        static_cast<f16*>(base)[at] = from_float<f16>(x);
    }
}

// V neighbours, moved by one access.
template <class T, int V> struct alignas(sizeof(T) * V) Pack {
    T x[V];
};

template <class T, int V> DEVICE Pack<T, V> load_pack(const T* from) { return *reinterpret_cast<const Pack<T, V>*>(from); }
template <class T, int V> DEVICE void store_pack(T* to, const Pack<T, V>& pack) { *reinterpret_cast<Pack<T, V>*>(to) = pack; }

// ---- strided views ----

// N operands of one shape: sizes and strides innermost first, dimensions that lie side by side in all of them already joined.
template <int N> struct Nest {
    u32 rank;
    u32 size[RANK];
    u32 unused;
    i64 stride[N][RANK];
};

// Where element `index`, counted in row-major order, lies in each operand. The outermost dimension needs no division.
template <int N> DEVICE void locate(const Nest<N>& nest, u32 index, i64 (&at)[N]) {
#pragma unroll
    for (int n = 0; n < N; ++n) at[n] = 0;
    const u32 outermost = nest.rank - 1;
    // Not unrolled: most nests have a dimension or two.
#pragma unroll 1
    for (u32 d = 0; d < outermost; ++d) {
        const u32 rest = index / nest.size[d], here = index - rest * nest.size[d];
#pragma unroll
        for (int n = 0; n < N; ++n) at[n] += (i64)here * nest.stride[n][d];
        index = rest;
    }
#pragma unroll
    for (int n = 0; n < N; ++n) at[n] += (i64)index * nest.stride[n][outermost];
}

// The neighbours from `at` on, or one element for all of them where the operand is broadcast along the innermost dimension.
template <class T, int V> DEVICE Pack<T, V> load_along(const T* from, i64 at, bool broadcast) {
    if constexpr (V > 1) {
        if (broadcast) {
            Pack<T, V> pack;
#pragma unroll
            for (int v = 0; v < V; ++v) pack.x[v] = from[at];
            return pack;
        }
    }
    return load_pack<T, V>(from + at);
}

DEVICE u32 thread_index() { return blockIdx.x * blockDim.x + threadIdx.x; }
DEVICE u32 lane_index() { return threadIdx.x & 31; }
DEVICE u32 warp_index() { return threadIdx.x >> 5; }

// e^x to a few units in the last place of numbers around 1, in three instructions: for weights that are at most 1.
DEVICE float fast_exp(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x * 1.4426950408889634f));
    return y;
}

// ---- reductions: a butterfly, so that every lane has the same bits ----

DEVICE float warp_sum(float x) {
#pragma unroll
    for (int step = 16; step > 0; step >>= 1) x += __shfl_xor_sync(ALL_LANES, x, step);
    return x;
}

// The larger; NaN if either is.
DEVICE float max_nan(float a, float b) { return a != a ? a : (b > a || b != b ? b : a); }

DEVICE float warp_max(float x) {
#pragma unroll
    for (int step = 16; step > 0; step >>= 1) x = max_nan(x, __shfl_xor_sync(ALL_LANES, x, step));
    return x;
}

// The sum over a block, in every thread. `scratch` holds 32 floats; the block's size is a multiple of 32.
DEVICE float block_sum(float x, float* scratch) {
    x = warp_sum(x);
    __syncthreads();
    if (lane_index() == 0) scratch[warp_index()] = x;
    __syncthreads();
    float sum = 0.0f;
    for (u32 w = 0; w < blockDim.x / 32; ++w) sum += scratch[w];
    return sum;
}

#define NEGATIVE_INFINITY __int_as_float(0xff800000)
#define NOT_A_NUMBER __int_as_float(0x7fffffff)

// Calls `$(name, type)` for the types that kernels compute in.
#define FOR_EACH_FLOAT(define) define(f32, float) define(bf16, bf16) define(f16, f16)
