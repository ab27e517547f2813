// The functions of one number: what unary applies, and what a gemm's epilogue can. Accurate to a few units in the last place.
#pragma once
#include "common.cuh"

// In the order of `Function` in the launcher.
enum Function : u32 { NONE, RELU, GELU_ERF, GELU_TANH, GELU_QUICK, SIGMOID, TANH, SILU, EXP, LOG, SQRT, NEG };

DEVICE float sigmoid(float x) { return 1.0f / (1.0f + expf(-x)); }

constexpr float SQRT_HALF = 0.70710678118654752f;
constexpr float GELU_SLOPE = 1.5957691216057308f;  // 2 * sqrt(2 / pi)
constexpr float GELU_CUBE = 0.044715f;

DEVICE float gelu_argument(float x) { return GELU_SLOPE * (x + GELU_CUBE * x * x * x); }

DEVICE float apply(u32 function, float x) {
    switch (function) {
        case RELU: return x != x || x > 0.0f ? x : 0.0f;
        case GELU_ERF: return x * 0.5f * erfcf(-x * SQRT_HALF);
        case GELU_TANH: return x * sigmoid(gelu_argument(x));
        case GELU_QUICK: return x * sigmoid(1.702f * x);
        case SIGMOID: return sigmoid(x);
        case TANH: return tanhf(x);
        case SILU: return x * sigmoid(x);
        case EXP: return expf(x);
        case LOG: return logf(x);
        case SQRT: return sqrtf(x);
        case NEG: return -x;
        default: return x;
    }
}

// d/dx x*s(u(x)) with s the sigmoid; 1 - s(u) = s(-u) without cancellation. The rise vanishes faster than x and the slope grow.
DEVICE float gated(float x, float u, float slope) {
    const float s = sigmoid(u), rise = s * sigmoid(-u);
    return s + (rise == 0.0f ? 0.0f : x * rise * slope);
}

DEVICE float derivative(u32 function, float x) {
    switch (function) {
        case RELU: return x != x ? x : (x > 0.0f ? 1.0f : 0.0f);
        case GELU_ERF: {
            if (isinf(x)) return x > 0.0f ? 1.0f : 0.0f;
            const float density = 0.39894228040143268f * expf(-0.5f * x * x);
            return 0.5f * erfcf(-x * SQRT_HALF) + (density == 0.0f ? 0.0f : x * density);
        }
        case GELU_TANH: return gated(x, gelu_argument(x), GELU_SLOPE * (1.0f + 3.0f * GELU_CUBE * x * x));
        case GELU_QUICK: return gated(x, 1.702f * x, 1.702f);
        case SIGMOID: return sigmoid(x) * sigmoid(-x);
        case TANH: return 4.0f * sigmoid(2.0f * x) * sigmoid(-2.0f * x);
        case SILU: return gated(x, x, 1.0f);
        case EXP: return expf(x);
        case LOG: return 1.0f / x;
        case SQRT: return 0.5f / sqrtf(x);
        case NEG: return -1.0f;
        default: return 1.0f;
    }
}

// Replaces each of V numbers by f(number) in a loop, so that the code of f is there once: registers cannot be indexed, but a thread's own column of
// shared memory can.
template <class T, int V, class F> DEVICE void each_once(Pack<T, V>& pack, const F& f) {
    if constexpr (V == 1) {
        pack.x[0] = from_float<T>(f(to_float(pack.x[0])));
    } else {
        __shared__ T numbers[V][256];
#pragma unroll
        for (int v = 0; v < V; ++v) numbers[v][threadIdx.x] = pack.x[v];
#pragma unroll 1
        for (int v = 0; v < V; ++v) {
            T* at = &numbers[v][threadIdx.x];
            *at = from_float<T>(f(to_float(*at)));
        }
#pragma unroll
        for (int v = 0; v < V; ++v) pack.x[v] = numbers[v][threadIdx.x];
    }
}
