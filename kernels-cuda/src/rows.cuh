// Rows of the last dimension, one warp each, and sums over rows for each column: what normalisations, softmax and losses share.
#pragma once
#include "common.cuh"

constexpr u32 WARPS = 8;  // rows of a block of 256 threads

// ---- along rows ----

// Neighbours of 16 bytes.
template <class T> constexpr int NEIGHBOURS = 16 / sizeof(T);

// A lane takes so many neighbours, then those 32 times as far: in this order whether memory lets it move them at once (`wide`) or not.
//
// Calls f(column, a, b) for this lane's elements of two rows, and stores what it returns in `to`, if there is one. `b` may be null: then it is all zeros.
template <class T, class F>
DEVICE void map_rows(const T* a, i64 a_stride, const T* b, i64 b_stride, u32 columns, bool wide, T* to, const F& f) {
    constexpr int V = NEIGHBOURS<T>;
    for (u32 c = lane_index() * V; c < columns; c += 32 * V) {
        if (wide) {
            const Pack<T, V> x = load_pack<T, V>(a + c);
            Pack<T, V> y = {};
            if (b) y = load_pack<T, V>(b + c);
            Pack<T, V> out;
#pragma unroll
            for (int v = 0; v < V; ++v) out.x[v] = from_float<T>(f(c + v, to_float(x.x[v]), to_float(y.x[v])));
            if (to) store_pack<T, V>(to + c, out);
        } else {
#pragma unroll 1
            for (u32 v = 0; v < V && c + v < columns; ++v) {
                const float value = f(c + v, to_float(a[(c + v) * a_stride]), b ? to_float(b[(c + v) * b_stride]) : 0.0f);
                if (to) to[c + v] = from_float<T>(value);
            }
        }
    }
}

// Calls f(column, a, b), which returns nothing.
template <class T, class F> DEVICE void each_in_rows(const T* a, i64 a_stride, const T* b, i64 b_stride, u32 columns, bool wide, const F& f) {
    map_rows(a, a_stride, b, b_stride, columns, wide, static_cast<T*>(nullptr), [&](u32 c, float x, float y) {
        f(c, x, y);
        return 0.0f;
    });
}

// The same for one row: f(column, value).
template <class T, class F> DEVICE void each_in_row(const T* row, i64 stride, u32 columns, bool wide, const F& f) {
    each_in_rows(row, stride, static_cast<const T*>(nullptr), 0, columns, wide, [&](u32 c, float x, float) { f(c, x); });
}
template <class T, class F> DEVICE void map_row(const T* row, i64 stride, u32 columns, bool wide, T* to, const F& f) {
    map_rows(row, stride, static_cast<const T*>(nullptr), 0, columns, wide, to, [&](u32 c, float x, float) { return f(c, x); });
}

// The factors of V channels from channel c on, or `otherwise` where there are none. They lie as they were allocated, c is a multiple of V.
template <class T, int V> DEVICE Pack<T, V> load_or(const void* factors, u32 c, float otherwise) {
    if (factors) return load_pack<T, V>(static_cast<const T*>(factors) + c);
    Pack<T, V> out;
#pragma unroll
    for (int v = 0; v < V; ++v) out.x[v] = from_float<T>(otherwise);
    return out;
}

// ---- sums over rows ----

// A sum that keeps what each addition rounds away (Knuth, TAOCP 4.2.2): of a hundred thousand rows it is as good as of ten.
struct Sum {
    float high = 0.0f, low = 0.0f;

    DEVICE void operator+=(float x) {
        const float sum = high + x, added = sum - high;
        low += (high - (sum - added)) + (x - added);
        high = sum;
    }
    // Infinities leave NaN in the low part, and are right in the high one.
    DEVICE float value() const {
        const float sum = high + low;
        return sum == sum ? sum : high;
    }
};

// 32 columns by 8 rows of threads sum one segment of the rows: partial[segment, k, column] for K sums that f(row, column, sums) adds to.
template <int K, class F> DEVICE void column_sums(u32 rows, u32 columns, u32 segments, float* partial, const F& f) {
    __shared__ float shared[8][K][32];
    const u32 groups = (columns + 31) / 32;
    const u32 segment = blockIdx.x / groups, column = blockIdx.x % groups * 32 + threadIdx.x % 32, lane = threadIdx.x / 32;
    Sum sums[K];
    if (column < columns) {
        for (u32 row = segment * 8 + lane; row < rows; row += 8 * segments) f(row, column, sums);
    }
#pragma unroll
    for (int k = 0; k < K; ++k) shared[lane][k][threadIdx.x % 32] = sums[k].value();
    __syncthreads();
    if (lane < K && column < columns) {
        Sum sum;
#pragma unroll 1
        for (u32 r = 0; r < 8; ++r) sum += shared[r][lane][threadIdx.x % 32];
        partial[((i64)segment * K + lane) * columns + column] = sum.value();
    }
}

// Sum k of a column over the segments.
template <int K> DEVICE float column_total(const float* partial, u32 segments, u32 columns, int k, u32 column) {
    Sum sum;
#pragma unroll 1
    for (u32 s = 0; s < segments; ++s) sum += partial[((i64)s * K + k) * columns + column];
    return sum.value();
}
