// What attention and its gradient share on Hopper: tiles of heads, the products of two of them, and sums of rows that are weighted by what such a product
// has become.
//
// Weights enter their product as two half numbers each, as in attention_mma.cuh.
#pragma once
#include "attention_mma.cuh"
#include "wgmma.cuh"

#define HOPPER_KERNEL extern "C" __global__ void __launch_bounds__(384, 1)

extern __shared__ __align__(1024) unsigned char tiles[];

DEVICE float fast_exp2(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

// A head among the sequences, and the row that a block begins with.
struct HeadPlace {
    u32 row, sequence, head, other, batch;
};
DEVICE HeadPlace head_place(u32 row, u32 sequence, u32 heads, u32 others) {
    return {row, sequence, sequence % heads, sequence / heads % others, sequence / heads / others};
}

// What a thread holds of 64 rows: of the warpgroup's, row `sum_row() + 8 r` in the sums i with i / 2 mod 2 == r, of column `sum_column(i)`.
DEVICE u32 sum_row() { return threadIdx.x % 128 / 32 * 16 + lane_index() / 4; }
DEVICE u32 sum_column(int i) { return i / 4 * 8 + lane_index() % 4 * 2 + i % 2; }

template <int N> DEVICE void clear(float (&x)[N]) {
#pragma unroll
    for (int i = 0; i < N; ++i) x[i] = 0.0f;
}

// Weights of 64 rows and N columns as half numbers, and what their rounding has left.
template <class T, int N> struct Halves {
    u32 left[N / 16][4], rest[N / 16][4];

    DEVICE Halves(const float (&weights)[N / 2]) {
#pragma unroll
        for (int step = 0; step < N / 16; ++step) {
#pragma unroll
            for (int v = 0; v < 4; ++v) {
                left[step][v] = pack_two<T>(weights[8 * step + 2 * v], weights[8 * step + 2 * v + 1]);
                rest[step][v] = pack_rest<T>(weights[8 * step + 2 * v], weights[8 * step + 2 * v + 1]);
            }
            pin(left[step]);
            pin(rest[step]);
        }
    }
};

// Heads of up to WIDTH columns: a tile is pieces of 64 columns, one after the other, whose rows have 128 bytes.
template <class T, int WIDTH> struct HeadTiles {
    static constexpr int PIECES = (WIDTH + 63) / 64, STEPS = (WIDTH + 15) / 16;
    static constexpr __device__ int bytes(int rows) { return PIECES * rows * 128; }

    // Asks for ROWS rows from `row` on, BOX at a time.
    template <int ROWS, int BOX> static DEVICE void copy(u32 to, const TensorMap& map, u32 row, const HeadPlace& at, u32 barrier) {
#pragma unroll
        for (int piece = 0; piece < PIECES; ++piece) {
#pragma unroll
            for (int r = 0; r < ROWS; r += BOX) {
                copy_head_tile(to + (piece * ROWS + r) * 128, map, piece * 64, row + r, at.head, at.other, at.batch, barrier);
            }
        }
    }

    // products = 64 rows from `first` on of a tile of ROWS at `a` times all N of a tile at `b`: asked for, and not waited for.
    template <int ROWS, int N> static DEVICE void multiply(u32 a, u32 first, u32 b, float (&products)[N / 2]) {
#pragma unroll
        for (int step = 0; step < STEPS; ++step) {
            const u32 piece = step / 4 * 128, inside = step % 4 * 32;
            const u64 left = tile_descriptor(a + piece * ROWS + first * 128 + inside), right = tile_descriptor(b + piece * N + inside);
            Products<T, N>::multiply_add(products, left, right, step > 0);
        }
        commit_products();
    }

    // sums += weights times the N rows of the tile at `values`: asked for, and not waited for.
    template <int N> static DEVICE void add_weighted(const Halves<T, N>& weights, u32 values, float (&sums)[WIDTH / 2]) {
#pragma unroll
        for (int step = 0; step < N / 16; ++step) {
            const u64 rows = across_descriptor(values + step * 16 * 128, N * 128);
            Weighted<T, WIDTH>::multiply_add(sums, weights.left[step], rows);
            Weighted<T, WIDTH>::multiply_add(sums, weights.rest[step], rows);
        }
        commit_products();
    }

    // Stores rows of the sums, times a factor for each half, in rows that are `row_stride` apart. Columns come in pairs, and so do widths.
    static DEVICE void store(T* to, i64 row_stride, u32 row, u32 rows, u32 width, const float (&sums)[WIDTH / 2], const float (&factor)[2]) {
#pragma unroll
        for (int r = 0; r < 2; ++r) {
            const u32 m = row + 8 * r;
            if (m >= rows) continue;
#pragma unroll
            for (int i = 2 * r; i < WIDTH / 2; i += 4) {
                const u32 column = sum_column(i);
                if (column < width) *reinterpret_cast<u32*>(to + m * row_stride + column) = pack_two<T>(sums[i] * factor[r], sums[i + 1] * factor[r]);
            }
        }
    }
};

// Two warpgroups compute what a third asks the copy engine for: `produce` by one thread, `consume` by 256.
template <class Produce, class Consume> DEVICE void share_out(const Produce& produce, const Consume& consume) {
    __syncthreads();
    if (threadIdx.x < 128) {
        fewer_registers<40>();
        if (threadIdx.x == 0) produce();
    } else {
        more_registers<232>();
        consume();
    }
}

#define HOPPER_WIDTHS(define) \
    define(bf16, 64) define(bf16, 80) define(bf16, 88) define(bf16, 128) define(f16, 64) define(f16, 80) define(f16, 88) define(f16, 128)
