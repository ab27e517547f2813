// y = residual + bias[c] + sum of weight[i, j, k, c] * x[b, t + i + s0, h + j + s1, w + k + s2, c], zero outside, s = -padding. x and residual have any
// strides, weight, bias and y are contiguous. `flipped` reads the weight from its end: the gradient for x is that convolution of the gradient for y.
//
// Memory-bound if x is read once: a thread computes 4 neighbours along w of 16 bytes of channels, so that each column that it reads serves up to three of
// them from registers (`_3`: kernels three wide, the positional encoding; `_1`: one wide, the temporal ones); the other rows come out of the cache, where
// neighbouring threads have left them. Other kernels and views take an element for each thread.
#include "divisor.cuh"

struct Parameters {
    const void* x;
    const void* weight;
    const void* bias;
    const void* residual;
    void* y;
    i64 stride[5];
    i64 residual_stride[5];
    Divisor threads[4];  // along T', H', W' and C
    u32 size[3];         // of x
    u32 kernel[3];
    i32 start[3];
    u32 width;  // W'
    u32 channels;
    u32 count;
    u32 flipped;
    u32 unused;
};

template <int V> struct Floats {
    float x[V];
};
template <class T, int V> DEVICE Floats<V> load_floats(const T* from) {
    const Pack<T, V> pack = load_pack<T, V>(from);
    Floats<V> out;
#pragma unroll
    for (int v = 0; v < V; ++v) out.x[v] = to_float(pack.x[v]);
    return out;
}

template <class T, int V> DEVICE Floats<V> weight_of(const Parameters& p, u32 tap, u32 c) {
    const u32 taps = p.kernel[0] * p.kernel[1] * p.kernel[2];
    const u32 at = p.flipped ? taps - 1 - tap : tap;
    return load_floats<T, V>(static_cast<const T*>(p.weight) + (i64)at * p.channels + c);
}

// Adds one row of the kernel, KW wide, to R neighbouring sums; `row` is the row of x at the first of their columns, `column`.
template <class T, int V, int KW, int R> DEVICE void add_row(const Parameters& p, Floats<V> (&sums)[R], const T* row, i32 column, u32 tap, u32 c) {
    Floats<V> weight[KW];
#pragma unroll
    for (int k = 0; k < KW; ++k) weight[k] = weight_of<T, V>(p, tap + k, c);
#pragma unroll
    for (int q = 0; q < R + KW - 1; ++q) {
        // Columns before the first wrap around to beyond the end.
        if ((u32)(column + q) >= p.size[2]) continue;
        const Floats<V> x = load_floats<T, V>(row + q * p.stride[3]);
#pragma unroll
        for (int k = 0; k < KW; ++k) {
            if (q - k < 0 || q - k >= R) continue;
#pragma unroll
            for (int v = 0; v < V; ++v) sums[q - k].x[v] = fmaf(weight[k].x[v], x.x[v], sums[q - k].x[v]);
        }
    }
}

template <class T, int V, int KW, int R> DEVICE void depthwise(const Parameters& p) {
    const u32 index = thread_index();
    if (index >= p.count) return;
    u32 line = index;
    const u32 c = split(line, p.threads[3]) * V, w = split(line, p.threads[2]) * R;
    u32 b = line;
    const u32 h = split(b, p.threads[1]), t = split(b, p.threads[0]);
    const i32 column = (i32)w + p.start[2];
    const T* x = static_cast<const T*>(p.x) + b * p.stride[0] + column * p.stride[3] + c * p.stride[4];
    Floats<V> sums[R];
#pragma unroll
    for (int r = 0; r < R; ++r) {
#pragma unroll
        for (int v = 0; v < V; ++v) sums[r].x[v] = 0.0f;
    }
    u32 tap = 0;
#pragma unroll 1
    for (u32 i = 0; i < p.kernel[0]; ++i) {
        const i32 s = (i32)(t + i) + p.start[0];
#pragma unroll 1
        for (u32 j = 0; j < p.kernel[1]; ++j, tap += p.kernel[2]) {
            const i32 r = (i32)(h + j) + p.start[1];
            if ((u32)s >= p.size[0] || (u32)r >= p.size[1]) continue;
            const T* row = x + s * p.stride[1] + r * p.stride[2];
            if constexpr (KW != 0) {
                add_row<T, V, KW, R>(p, sums, row, column, tap, c);
            } else {
#pragma unroll 1
                for (u32 k = 0; k < p.kernel[2]; ++k) add_row<T, V, 1, R>(p, sums, row + k * p.stride[3], column + (i32)k, tap + k, c);
            }
        }
    }
    Floats<V> bias = {};
    if (p.bias) bias = load_floats<T, V>(static_cast<const T*>(p.bias) + c);
    const i64 beside = b * p.residual_stride[0] + t * p.residual_stride[1] + h * p.residual_stride[2] + c * p.residual_stride[4];
    const T* residual = static_cast<const T*>(p.residual) + beside + w * p.residual_stride[3];
    T* y = static_cast<T*>(p.y) + ((i64)line * p.width + w) * p.channels + c;
#pragma unroll
    for (int r = 0; r < R; ++r) {
        if (w + r >= p.width) break;
        Floats<V> more = {};
        if (p.residual) more = load_floats<T, V>(residual + r * p.residual_stride[3]);
        Pack<T, V> out;
#pragma unroll
        for (int v = 0; v < V; ++v) out.x[v] = from_float<T>(sums[r].x[v] + bias.x[v] + more.x[v]);
        store_pack<T, V>(y + (i64)r * p.channels, out);
    }
}

#define DEFINE(name, type)                                                                     \
    KERNEL conv3d_depthwise_##name(PARAMETERS p) { depthwise<type, 1, 0, 1>(p); }              \
    KERNEL conv3d_depthwise_##name##_1(PARAMETERS p) { depthwise<type, 16 / sizeof(type), 1, 4>(p); } \
    KERNEL conv3d_depthwise_##name##_3(PARAMETERS p) { depthwise<type, 16 / sizeof(type), 3, 4>(p); }
FOR_EACH_FLOAT(DEFINE)
