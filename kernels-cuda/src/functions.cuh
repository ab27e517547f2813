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

template <int N, class F> DEVICE void replace(float (&numbers)[N], const F& f) {
#pragma unroll
    for (int i = 0; i < N; ++i) numbers[i] = f(numbers[i]);
}
// Each of N numbers by its f: side by side, so that one need not wait for the other. Cases that need an exponential or a sigmoid share it: inlined
// once, this is half as much code.
template <int N> DEVICE void apply_each(u32 function, float (&numbers)[N]) {
    switch (function) {
        case NONE: return;
        case RELU: return replace(numbers, [](float x) { return x != x || x > 0.0f ? x : 0.0f; });
        case GELU_ERF: return replace(numbers, [](float x) { return x * 0.5f * erfcf(-x * SQRT_HALF); });
        case TANH: return replace(numbers, [](float x) { return tanhf(x); });
        case LOG: return replace(numbers, [](float x) { return logf(x); });
        case SQRT: return replace(numbers, [](float x) { return sqrtf(x); });
        case NEG: return replace(numbers, [](float x) { return -x; });
    }
    replace(numbers, [=](float x) {
        const float u = function == GELU_TANH ? gelu_argument(x) : function == GELU_QUICK ? 1.702f * x : x;
        const float power = expf(function == EXP ? x : -u);
        if (function == EXP) return power;
        const float s = 1.0f / (1.0f + power);
        return function == SIGMOID ? s : x * s;
    });
}

DEVICE float apply(u32 function, float x) {
    float number[1] = {x};
    apply_each(function, number);
    return number[0];
}

// As `apply`. For x*s(u(x)) with s the sigmoid; 1 - s(u) = s(-u) without cancellation. The rise vanishes faster than x and the slope grow.
DEVICE float derivative(u32 function, float x) {
    switch (function) {
        case NONE: return 1.0f;
        case RELU: return x != x ? x : (x > 0.0f ? 1.0f : 0.0f);
        case LOG: return 1.0f / x;
        case SQRT: return 0.5f / sqrtf(x);
        case NEG: return -1.0f;
    }
    if (function == GELU_ERF || function == EXP) {
        const float power = expf(function == EXP ? x : -0.5f * x * x);
        if (function == EXP) return power;
        if (isinf(x)) return x > 0.0f ? 1.0f : 0.0f;
        return 0.5f * erfcf(-x * SQRT_HALF) + (power == 0.0f ? 0.0f : x * 0.39894228040143268f * power);
    }
    float u = x, slope = 1.0f;
    if (function == GELU_TANH) {
        u = gelu_argument(x);
        slope = GELU_SLOPE * (1.0f + 3.0f * GELU_CUBE * x * x);
    } else if (function == GELU_QUICK) {
        u = 1.702f * x;
        slope = 1.702f;
    } else if (function == TANH) {
        u = 2.0f * x;
    }
    const float s = sigmoid(u), rise = s * sigmoid(-u);
    if (function == SIGMOID) return rise;
    if (function == TANH) return 4.0f * rise;
    return s + (rise == 0.0f ? 0.0f : x * rise * slope);
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
