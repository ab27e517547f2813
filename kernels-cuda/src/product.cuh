// Matrix products out of tiles: what gemm and the convolutions share.
//
// A product is C[m, n] = sum over k of A[m, k] * B[n, k]. Operands are values with one method, `chunk(row, k, out)`, which gives V neighbours along
// k, zeros outside: a strided matrix, or the patches of a video that were never laid out. Sums run over k in order.
#pragma once
#include "functions.cuh"

// ---- what becomes of a product: y = residual + f(alpha * C + bias), rounded once ----

struct Epilogue {
    const void* bias;      // [columns] or null
    const void* residual;  // [period, columns] or null; row m adds row m mod period
    void* y;               // [rows, columns], contiguous
    i64 residual_row;
    i64 residual_column;
    u32 rows;
    u32 columns;
    u32 period;
    float alpha;
    u32 function;
    u32 wide;  // whether y and residual can be moved by 16 bytes
};

template <class T> DEVICE float activated(const Epilogue& e, u32 column, float sum) {
    const float bias = e.bias ? to_float(static_cast<const T*>(e.bias)[column]) : 0.0f;
    return apply(e.function, e.alpha * sum + bias);
}

template <class T> DEVICE float residual_at(const Epilogue& e, i64 offset, u32 row, u32 column) {
    if (!e.residual) return 0.0f;
    return to_float(static_cast<const T*>(e.residual)[offset + (row % e.period) * e.residual_row + column * e.residual_column]);
}

// The threads that write a tile together.
template <int COUNT> struct WholeBlock {
    enum : int { THREADS = COUNT };
    static DEVICE u32 index() { return threadIdx.x; }
    static DEVICE void sync() { __syncthreads(); }
};

// A tile of sums in shared memory, ROWS x COLUMNS with `PITCH` floats from row to row, to y. The function is applied in a loop of its own so that its
// code is there once, not once for each of a thread's sums.
template <class T, int ROWS, int COLUMNS, int PITCH, class Team>
DEVICE void store_tile_by(const Epilogue& e, float* tile, u32 m0, u32 n0, i64 residual_offset, i64 y_offset) {
    if (e.function != NONE || e.bias || e.alpha != 1.0f) {
#pragma unroll 1
        for (u32 i = Team::index(); i < ROWS * COLUMNS; i += Team::THREADS) {
            const u32 row = i / COLUMNS, column = i % COLUMNS;
            float* at = tile + row * PITCH + column;
            if (n0 + column < e.columns) *at = activated<T>(e, n0 + column, *at);
        }
        Team::sync();
    }
    T* y = static_cast<T*>(e.y) + y_offset;
    if (e.wide) {
        constexpr int V = 16 / sizeof(T);
#pragma unroll 1
        for (u32 i = Team::index(); i < ROWS * COLUMNS / V; i += Team::THREADS) {
            const u32 row = i / (COLUMNS / V), column = i % (COLUMNS / V) * V;
            const u32 m = m0 + row, n = n0 + column;
            if (m >= e.rows || n >= e.columns) continue;
            Pack<T, V> out, add = {};
            if (e.residual) {
                add = load_pack<T, V>(static_cast<const T*>(e.residual) + residual_offset + (m % e.period) * e.residual_row + n);
            }
#pragma unroll
            for (int v = 0; v < V; ++v) {
                const float value = tile[row * PITCH + column + v];
                out.x[v] = from_float<T>(e.residual ? value + to_float(add.x[v]) : value);
            }
            store_pack<T, V>(y + (i64)m * e.columns + n, out);
        }
    } else {
#pragma unroll 1
        for (u32 i = Team::index(); i < ROWS * COLUMNS; i += Team::THREADS) {
            const u32 row = i / COLUMNS, column = i % COLUMNS;
            const u32 m = m0 + row, n = n0 + column;
            if (m >= e.rows || n >= e.columns) continue;
            y[(i64)m * e.columns + n] = from_float<T>(tile[row * PITCH + column] + residual_at<T>(e, residual_offset, m, n));
        }
    }
}

template <class T, int ROWS, int COLUMNS, int PITCH, int THREADS>
DEVICE void store_tile(const Epilogue& e, float* tile, u32 m0, u32 n0, i64 residual_offset, i64 y_offset) {
    store_tile_by<T, ROWS, COLUMNS, PITCH, WholeBlock<THREADS>>(e, tile, m0, n0, residual_offset, y_offset);
}

// The same sums as they are, for a product that is split along k: `finish` adds them up.
template <int ROWS, int COLUMNS, int PITCH, class Team>
DEVICE void store_partial_by(float* to, const float* tile, u32 m0, u32 n0, u32 rows, u32 columns) {
#pragma unroll 1
    for (u32 i = Team::index(); i < ROWS * COLUMNS; i += Team::THREADS) {
        const u32 m = m0 + i / COLUMNS, n = n0 + i % COLUMNS;
        if (m < rows && n < columns) to[(i64)m * columns + n] = tile[i / COLUMNS * PITCH + i % COLUMNS];
    }
}

template <int ROWS, int COLUMNS, int PITCH, int THREADS>
DEVICE void store_partial(float* to, const float* tile, u32 m0, u32 n0, u32 rows, u32 columns) {
    store_partial_by<ROWS, COLUMNS, PITCH, WholeBlock<THREADS>>(to, tile, m0, n0, rows, columns);
}

// ---- operands ----

// A strided matrix. `wide`: neighbours along k are neighbours in memory and 16 bytes of them are aligned. `across`: neighbours along rows are.
template <class T> struct Matrix {
    const T* base;
    i64 row_stride;
    i64 depth_stride;
    u32 rows;
    u32 depth;
    bool wide;
    bool across;

    template <int V> DEVICE void chunk(u32 row, u32 k, T (&out)[V]) const {
        const T* from = base + row * row_stride + k * depth_stride;
        if (wide && row < rows && k + V <= depth) {
            *reinterpret_cast<Pack<T, V>*>(out) = load_pack<T, V>(from);
            return;
        }
#pragma unroll
        for (int v = 0; v < V; ++v) out[v] = row < rows && k + v < depth ? from[v * depth_stride] : T{};
    }
};

// ---- tiles of f32 without tensor cores ----

// 16 x 16 threads with S x S sums each: 64 x 64 results for small products, 128 x 128 for large ones, where each number that is read from shared
// memory serves eight multiply-adds. Sums of four neighbours, so that shared memory is read 16 bytes at a time without bank conflicts.
template <int S> struct Simt {
    static constexpr int TILE = 16 * S, DEPTH = 16, PITCH = TILE + 4, THREADS = 256;
    static constexpr int CHUNKS = TILE * DEPTH / 4 / THREADS;
    static constexpr int SHARED = TILE * PITCH * 4;  // the sums; the operands need less

    template <class Source> static DEVICE void fetch(const Source& source, u32 row0, u32 k, float (&held)[CHUNKS][4]) {
#pragma unroll
        for (int i = 0; i < CHUNKS; ++i) source.template chunk<4>(row0 + row_of(source.across, i), k + depth_of(source.across, i), held[i]);
    }
    // Threads go along whatever lies side by side in memory.
    static DEVICE u32 row_of(bool across, int i) {
        const u32 c = threadIdx.x + i * THREADS;
        return across ? c % TILE : c / (DEPTH / 4);
    }
    static DEVICE u32 depth_of(bool across, int i) {
        const u32 c = threadIdx.x + i * THREADS;
        return (across ? c / TILE : c % (DEPTH / 4)) * 4;
    }
    static DEVICE void put(bool across, float* tile, const float (&held)[CHUNKS][4]) {
#pragma unroll
        for (int i = 0; i < CHUNKS; ++i) {
#pragma unroll
            for (int v = 0; v < 4; ++v) tile[(depth_of(across, i) + v) * PITCH + row_of(across, i)] = held[i][v];
        }
    }
    // Row (column) i of this thread's sums: groups of four, 64 apart.
    static DEVICE u32 place(u32 thread, int i) { return thread * 4 + i / 4 * 64 + i % 4; }

    // Leaves the sums in `shared`, row by row.
    template <class A, class B> static DEVICE void product(const A& a, const B& b, u32 m0, u32 n0, u32 k0, u32 k1, float* shared) {
        float* as = shared;
        float* bs = shared + DEPTH * PITCH;
        const u32 tx = threadIdx.x % 16, ty = threadIdx.x / 16;
        float sums[S][S], held_a[CHUNKS][4], held_b[CHUNKS][4];
#pragma unroll
        for (int i = 0; i < S; ++i) {
#pragma unroll
            for (int j = 0; j < S; ++j) sums[i][j] = 0.0f;
        }
        // Filling and multiplying share one loop, a step apart, so that the code that fetches is there once.
#pragma unroll 1
        for (u32 k = k0; k < k1 + DEPTH; k += DEPTH) {
            if (k > k0) {
                put(a.across, as, held_a);
                put(b.across, bs, held_b);
                __syncthreads();
            }
            if (k < k1) {
                fetch(a, m0, k, held_a);
                fetch(b, n0, k, held_b);
            }
            if (k == k0) continue;
#pragma unroll 4
            for (int d = 0; d < DEPTH; ++d) {
                float x[S], w[S];
#pragma unroll
                for (int g = 0; g < S; g += 4) {
                    *reinterpret_cast<float4*>(x + g) = *reinterpret_cast<const float4*>(as + d * PITCH + place(ty, g));
                    *reinterpret_cast<float4*>(w + g) = *reinterpret_cast<const float4*>(bs + d * PITCH + place(tx, g));
                }
#pragma unroll
                for (int i = 0; i < S; ++i) {
#pragma unroll
                    for (int j = 0; j < S; ++j) sums[i][j] = fmaf(x[i], w[j], sums[i][j]);
                }
            }
            __syncthreads();
        }
#pragma unroll
        for (int i = 0; i < S; ++i) {
#pragma unroll
            for (int g = 0; g < S; g += 4) {
                *reinterpret_cast<float4*>(shared + place(ty, i) * PITCH + place(tx, g)) = make_float4(sums[i][g], sums[i][g + 1], sums[i][g + 2], sums[i][g + 3]);
            }
        }
        __syncthreads();
    }
};
