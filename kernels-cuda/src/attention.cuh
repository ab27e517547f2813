// Attention along a sequence: 64 x 64 products of two operands' rows, and sums of rows that are weighted by such a tile. What attention and its gradient
// are made of; the scores of a tile live in registers and shared memory and nowhere else.
//
// 16 x 16 threads: thread (ty, tx) has rows 4 ty .. 4 ty + 3 and columns 4 tx .. 4 tx + 3 of every tile, so that a row lies in one half of a warp.
#pragma once
#include "common.cuh"

constexpr int TILE = 64, PITCH = TILE + 4, DEPTH = 16, OWN = 4;

// The rows of one head along its sequence; zeros outside.
struct Sequence {
    void* base;
    i64 start;
    i64 row;
    i64 channel;
    u32 rows;
    u32 width;
    u32 type;

    DEVICE float at(u32 r, u32 c) const { return load_as(type, base, start + r * row + c * channel); }
    // Four elements of column c, of rows STEP apart from r on, to every TO-th place from `to` on.
    template <int STEP, int TO> DEVICE void load(u32 r, u32 c, float* to) const {
        const i64 from = start + r * row + c * channel, step = STEP * row;
        const u32 end = c < width ? rows : 0;
        if (type == F32) {
#pragma unroll
            for (int i = 0; i < 4; ++i) to[i * TO] = r + i * STEP < end ? static_cast<const float*>(base)[from + i * step] : 0.0f;
        } else {
#pragma unroll
            for (int i = 0; i < 4; ++i) {
                to[i * TO] = half_as(type, r + i * STEP < end ? static_cast<const unsigned short*>(base)[from + i * step] : (unsigned short)0);
            }
        }
    }
};

struct Tiles {
    float a[DEPTH][PITCH];
    float b[DEPTH][PITCH];
    float weights[TILE][PITCH];
};

DEVICE u32 own_row(int i) { return threadIdx.x / 16 * OWN + i; }
DEVICE u32 own_column(int j) { return threadIdx.x % 16 * OWN + j; }

// Over the 16 threads that share a row; every one has the same bits.
DEVICE float row_sum(float x) {
#pragma unroll
    for (int step = 8; step > 0; step >>= 1) x += __shfl_xor_sync(ALL_LANES, x, step);
    return x;
}
DEVICE float row_max(float x) {
#pragma unroll
    for (int step = 8; step > 0; step >>= 1) x = fmaxf(x, __shfl_xor_sync(ALL_LANES, x, step));
    return x;
}

DEVICE void clear(float (&sums)[OWN][OWN]) {
#pragma unroll
    for (int i = 0; i < OWN; ++i) {
#pragma unroll
        for (int j = 0; j < OWN; ++j) sums[i][j] = 0.0f;
    }
}

DEVICE void outer_product(const float (&x)[OWN], const float4 y, float (&sums)[OWN][OWN]) {
#pragma unroll
    for (int i = 0; i < OWN; ++i) {
        sums[i][0] = fmaf(x[i], y.x, sums[i][0]);
        sums[i][1] = fmaf(x[i], y.y, sums[i][1]);
        sums[i][2] = fmaf(x[i], y.z, sums[i][2]);
        sums[i][3] = fmaf(x[i], y.w, sums[i][3]);
    }
}

// products[i][j] = row a0 + own_row(i) of a times row b0 + own_column(j) of b.
DEVICE void multiply(const Sequence& a, u32 a0, const Sequence& b, u32 b0, Tiles& shared, float (&products)[OWN][OWN]) {
    clear(products);
#pragma unroll 1
    for (u32 c0 = 0; c0 < a.width; c0 += DEPTH) {
        const u32 r = threadIdx.x / DEPTH, c = threadIdx.x % DEPTH;
        a.load<256 / DEPTH, 256 / DEPTH>(a0 + r, c0 + c, &shared.a[c][r]);
        b.load<256 / DEPTH, 256 / DEPTH>(b0 + r, c0 + c, &shared.b[c][r]);
        __syncthreads();
#pragma unroll 2
        for (int d = 0; d < DEPTH; ++d) {
            float x[OWN];
            *reinterpret_cast<float4*>(x) = *reinterpret_cast<const float4*>(&shared.a[d][own_row(0)]);
            outer_product(x, *reinterpret_cast<const float4*>(&shared.b[d][own_column(0)]), products);
        }
        __syncthreads();
    }
}

// sums[i][j] += sum over k of weights[own_row(i)][k] times column c0 + own_column(j) of row x0 + k of x.
DEVICE void add_weighted(const Sequence& x, u32 x0, u32 c0, Tiles& shared, float (&sums)[OWN][OWN]) {
    const u32 rows = min((u32)TILE, x.rows - x0);
#pragma unroll 1
    for (u32 k0 = 0; k0 < rows; k0 += DEPTH) {
        const u32 r = threadIdx.x / TILE, c = threadIdx.x % TILE;
        x.load<256 / TILE, 256 / TILE * PITCH>(x0 + k0 + r, c0 + c, &shared.a[r][c]);
        __syncthreads();
#pragma unroll 2
        for (int k = 0; k < DEPTH; ++k) {
            float weights[OWN];
#pragma unroll
            for (int i = 0; i < OWN; ++i) weights[i] = shared.weights[own_row(i)][k0 + k];
            outer_product(weights, *reinterpret_cast<const float4*>(&shared.a[k][own_column(0)]), sums);
        }
        __syncthreads();
    }
}

// Stores the sums of a tile, times `factor`, from row m0 and column c0 on; through shared memory, so that neighbours are stored by neighbours.
DEVICE void store_rows(const Sequence& to, u32 m0, u32 c0, Tiles& shared, const float (&sums)[OWN][OWN], float factor) {
#pragma unroll
    for (int i = 0; i < OWN; ++i) {
#pragma unroll
        for (int j = 0; j < OWN; ++j) shared.weights[own_row(i)][own_column(j)] = sums[i][j] * factor;
    }
    __syncthreads();
    const u32 c = threadIdx.x % TILE;
#pragma unroll 1
    for (u32 r = threadIdx.x / TILE; r < TILE && m0 + r < to.rows; r += 256 / TILE) {
        if (c0 + c < to.width) store_as(to.type, to.base, to.start + (m0 + r) * to.row + c0 + c, shared.weights[r][c]);
    }
    __syncthreads();
}
