// dweight[i, j, k, c] = sum of gradient[b, t, h, w, c] * x[b, t + i - p0, h + j - p1, w + k - p2, c], zero outside; operands have any strides, dweight is
// contiguous. The gradient for x is a convolution of the other gradient with the flipped weight: conv3d_depthwise.cu does it.
//
// Memory-bound if both operands are read once. 32 neighbouring channels by 8 rows (b, t, h) of threads go along w with the sums of all taps in registers;
// a column of x stays there for the taps of a row, and the other rows come out of the cache. Each segment of the rows leaves a partial sum, and `_finish`
// adds them in order. Kernels that are neither 3 x 3 x 3 (`_3`) nor 3 x 1 x 1 (`_1`) take one tap at a time.
#include "divisor.cuh"

struct Parameters {
    const void* x;
    const void* gradient;
    float* partial;  // [segments, taps, channels]
    void* dweight;
    i64 stride[5];
    i64 gradient_stride[5];
    Divisor kernel[3];
    Divisor result[2];  // T', H'
    u32 size[3];        // of x
    i32 start[3];
    u32 width;     // W'
    u32 rows;      // B * T' * H'
    u32 channels;
    u32 segments;
    u32 groups;    // of 32 channels
    u32 taps;
    u32 unused;
};

template <class T, int KT, int KH, int KW> struct Row {
    static constexpr int LINES = KT * KH;

    // Adds the products of one row of the gradient to sums[line of the kernel][k].
    static DEVICE void add(const Parameters& p, const T* gradient, const T* x, u32 inside, i32 column, float (&sums)[LINES][KW]) {
        float window[LINES][KW];
#pragma unroll
        for (int line = 0; line < LINES; ++line) {
#pragma unroll
            for (int k = 0; k < KW; ++k) window[line][k] = 0.0f;
        }
        // The column that comes in is the last that the taps of a position reach; the first KW - 1 come before any position is complete.
#pragma unroll 1
        for (i32 w = 1 - KW; w < (i32)p.width; ++w, ++column) {
            const bool there = (u32)column < p.size[2];
            const float g = w >= 0 ? to_float(gradient[w * p.gradient_stride[3]]) : 0.0f;
#pragma unroll
            for (int line = 0; line < LINES; ++line) {
#pragma unroll
                for (int k = 0; k + 1 < KW; ++k) window[line][k] = window[line][k + 1];
                const T* from = x + line / KH * p.stride[1] + line % KH * p.stride[2] + column * p.stride[3];
                window[line][KW - 1] = there && (inside >> line & 1) ? to_float(*from) : 0.0f;
#pragma unroll
                for (int k = 0; k < KW; ++k) sums[line][k] = fmaf(g, window[line][k], sums[line][k]);
            }
        }
    }
};

// A block sums one segment of the rows for 32 channels and the KT x KH x KW taps from `first` on.
template <class T, int KT, int KH, int KW> DEVICE void partial_sums(const Parameters& p) {
    constexpr int LINES = KT * KH;
    __shared__ float shared[8][LINES * KW][32];
    u32 block = blockIdx.x;
    const u32 channel = block % p.groups * 32 + lane_index();
    block /= p.groups;
    const u32 segment = block % p.segments, first = block / p.segments;
    u32 tap = first;
    const i32 k = split(tap, p.kernel[2]), j = split(tap, p.kernel[1]), i = tap;
    float sums[LINES][KW];
#pragma unroll
    for (int line = 0; line < LINES; ++line) {
#pragma unroll
        for (int k = 0; k < KW; ++k) sums[line][k] = 0.0f;
    }
    if (channel < p.channels) {
#pragma unroll 1
        for (u32 row = segment * 8 + warp_index(); row < p.rows; row += 8 * p.segments) {
            u32 b = row;
            const u32 h = split(b, p.result[1]), t = split(b, p.result[0]);
            const i32 s = (i32)t + i + p.start[0], r = (i32)h + j + p.start[1];
            u32 inside = 0;
#pragma unroll
            for (int line = 0; line < LINES; ++line) {
                if ((u32)(s + line / KH) < p.size[0] && (u32)(r + line % KH) < p.size[1]) inside |= 1u << line;
            }
            const T* gradient = static_cast<const T*>(p.gradient) + b * p.gradient_stride[0] + t * p.gradient_stride[1] + h * p.gradient_stride[2];
            const T* x = static_cast<const T*>(p.x) + b * p.stride[0] + s * p.stride[1] + r * p.stride[2];
            Row<T, KT, KH, KW>::add(p, gradient + channel * p.gradient_stride[4], x + channel * p.stride[4], inside, k + p.start[2], sums);
        }
    }
#pragma unroll
    for (int line = 0; line < LINES; ++line) {
#pragma unroll
        for (int k = 0; k < KW; ++k) shared[warp_index()][line * KW + k][lane_index()] = sums[line][k];
    }
    __syncthreads();
    for (u32 n = warp_index(); n < LINES * KW && channel < p.channels; n += 8) {
        float sum = 0.0f;
        for (u32 row = 0; row < 8; ++row) sum += shared[row][n][lane_index()];
        p.partial[((i64)segment * p.taps + first + n) * p.channels + channel] = sum;
    }
}

template <class T> DEVICE void finish(const Parameters& p) {
    const u32 index = thread_index(), count = p.taps * p.channels;
    if (index >= count) return;
    float sum = 0.0f;
    for (u32 s = 0; s < p.segments; ++s) sum += p.partial[(i64)s * count + index];
    static_cast<T*>(p.dweight)[index] = from_float<T>(sum);
}

#define DEFINE(name, type)                                                                        \
    KERNEL conv3d_depthwise_backward_##name(PARAMETERS p) { partial_sums<type, 1, 1, 1>(p); }     \
    KERNEL conv3d_depthwise_backward_##name##_1(PARAMETERS p) { partial_sums<type, 3, 1, 1>(p); } \
    KERNEL conv3d_depthwise_backward_##name##_3(PARAMETERS p) { partial_sums<type, 3, 3, 3>(p); } \
    KERNEL conv3d_depthwise_backward_finish_##name(PARAMETERS p) { finish<type>(p); }
FOR_EACH_FLOAT(DEFINE)
