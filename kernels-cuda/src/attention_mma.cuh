// Attention of half types on tensor cores, for heads of at most 64 columns.
//
// Four warps with 16 queries each go through the keys 64 at a time; cp.async fetches the next keys and values meanwhile. Scores, weights and sums stay
// in registers: what mma.sync leaves of the scores is just what it wants of the weights (Dao, FlashAttention-2, section 3). Weights enter the product
// with the values as two half numbers each, the second what the rounding of the first has left: the result is as good as with weights in f32.
//
// bf16 and f16 share a kernel, which branches around the sixteen products of a step and nowhere else.
#pragma once
#include "mma.cuh"

constexpr int HEAD = 64, KEYS = 64, MMA_THREADS = 128;
constexpr u32 HEAD_TILE = KEYS * HEAD * 2;  // bytes

// Where chunk `chunk` of 8 columns of row `row` lies in a tile, in bytes: eight rows of an ldmatrix lie in eight groups of banks.
DEVICE u32 head_offset(u32 row, u32 chunk) { return row * HEAD * 2 + ((chunk ^ (row & 7)) << 4); }

// Elements before anyone asks what they are.
typedef unsigned short Bits;

// Rows `row` apart of one head, `width` columns `channel` apart.
DEVICE TiledMatrix<Bits> head(const void* base, i64 start, i64 row, i64 channel, u32 rows, u32 width, bool wide) {
    TiledMatrix<Bits> head;
    head.base = static_cast<const Bits*>(base) + start;
    head.row_stride = row;
    head.depth_stride = channel;
    head.rows = rows;
    head.depth = width;
    head.wide = wide;
    head.across = false;
    return head;
}

// Rows row0 .. row0 + 63 of a head; zeros outside.
DEVICE void fill_head(u32 to, const TiledMatrix<Bits>& source, u32 row0) {
#pragma unroll 1
    for (u32 c = threadIdx.x; c < KEYS * HEAD / 8; c += MMA_THREADS) {
        const u32 row = c / (HEAD / 8), chunk = c % (HEAD / 8);
        source.place(to + head_offset(row, chunk), row0 + row, chunk * 8);
    }
}

// What is left of two numbers that were packed.
template <class T> DEVICE u32 pack_rest(float low, float high) {
    return pack_two<T>(low - to_float(from_float<T>(low)), high - to_float(from_float<T>(high)));
}

// Over the four lanes that share a row.
DEVICE float quad_sum(float x) {
    x += __shfl_xor_sync(ALL_LANES, x, 1);
    return x + __shfl_xor_sync(ALL_LANES, x, 2);
}
DEVICE float quad_max(float x) {
    x = fmaxf(x, __shfl_xor_sync(ALL_LANES, x, 1));
    return fmaxf(x, __shfl_xor_sync(ALL_LANES, x, 2));
}

// A tile of 16 x 64 as mma.sync leaves it: columns 8 j + 2 (lane mod 4) + {0, 1} of rows lane / 4 (v = 0, 1) and lane / 4 + 8 (v = 2, 3).
typedef float Fragments[8][4];

DEVICE void clear(Fragments& x) {
#pragma unroll
    for (int j = 0; j < 8; ++j) {
#pragma unroll
        for (int v = 0; v < 4; ++v) x[j][v] = 0.0f;
    }
}

// The row and the column of element i of half r in the 16 x 64 fragments of a warp.
DEVICE u32 fragment_row(int r) { return warp_index() * 16 + lane_index() / 4 + 8 * r; }
DEVICE u32 fragment_column(int i) { return i / 2 * 8 + lane_index() % 4 * 2 + i % 2; }
DEVICE float& element(Fragments& x, int r, int i) { return x[i / 2][2 * r + i % 2]; }

// The fragments, times `factor`, row by row in shared memory that nobody uses any more: so that neighbours are stored by neighbours.
constexpr u32 FRAGMENT_PITCH = HEAD + 4;
DEVICE void stage_fragments(Fragments& sums, const float (&factor)[2], float* shared) {
#pragma unroll
    for (int r = 0; r < 2; ++r) {
#pragma unroll
        for (int i = 0; i < 16; ++i) shared[fragment_row(r) * FRAGMENT_PITCH + fragment_column(i)] = element(sums, r, i) * factor[r];
    }
    __syncthreads();
}

// Stores the fragments of 64 rows from m0 on, times `factor`, in rows of `width` that are `row` apart.
DEVICE void store_fragments(u32 type, void* to, i64 start, i64 row, u32 rows, u32 width, u32 m0, Fragments& sums, const float (&factor)[2], float* shared) {
    stage_fragments(sums, factor, shared);
    const u32 c = threadIdx.x % HEAD;
#pragma unroll 1
    for (u32 r = threadIdx.x / HEAD; r < KEYS && m0 + r < rows; r += MMA_THREADS / HEAD) {
        if (c < width) store_as(type, to, start + (m0 + r) * row + c, shared[r * FRAGMENT_PITCH + c]);
    }
    __syncthreads();
}

// A range, of blocks of 16 rows or of rows.
struct Blocks {
    u32 begin, end;
    DEVICE bool has(u32 i) const { return begin <= i && i < end; }
};
constexpr u32 BLOCKS = KEYS / 16;

// The products of a step: of 16 columns of the left operand and 16 rows of the right one, whose fragments are `y`.
template <class T> DEVICE void multiply_step(const u32 (&x)[4], const u32 (&y)[4][4], Fragments& sums, const Blocks& blocks = {0, BLOCKS}) {
#pragma unroll
    for (int j = 0; j < 8; ++j) {
        if (blocks.has(j / 2)) multiply_add<T>(sums[j], x, y[j / 2][j % 2 * 2], y[j / 2][j % 2 * 2 + 1]);
    }
}

// scores += 16 rows from `row` on of the tile at `a` times these of the rows of the tile at `b`.
DEVICE void multiply_rows(u32 type, u32 a, u32 row, u32 b, Fragments& scores, const Blocks& blocks = {0, BLOCKS}) {
    const u32 lane = lane_index();
#pragma unroll 1
    for (int step = 0; step < HEAD / 16; ++step) {
        u32 x[4], y[4][4];
        load_matrices(a + head_offset(row + lane % 16, step * 2 + lane / 16), x);
#pragma unroll
        for (int j = 0; j < BLOCKS; ++j) {
            if (blocks.has(j)) load_matrices(b + head_offset(j * 16 + lane % 8 + lane / 16 * 8, step * 2 + (lane / 8 & 1)), y[j]);
        }
        if (type == BF16) {
            multiply_step<bf16>(x, y, scores, blocks);
        } else {
            multiply_step<f16>(x, y, scores, blocks);
        }
    }
}

template <class T> DEVICE void weighted_step(const float (&left)[4], const float (&right)[4], const u32 (&y)[4][4], Fragments& sums) {
    const u32 x[4] = {pack_two<T>(left[0], left[1]), pack_two<T>(left[2], left[3]), pack_two<T>(right[0], right[1]), pack_two<T>(right[2], right[3])};
    const u32 rest[4] = {pack_rest<T>(left[0], left[1]), pack_rest<T>(left[2], left[3]), pack_rest<T>(right[0], right[1]), pack_rest<T>(right[2], right[3])};
    multiply_step<T>(x, y, sums);
    multiply_step<T>(rest, y, sums);
}

// sums += weights times the tile at `x`, whose rows are the weights' columns, these of them.
DEVICE void add_weighted_rows(u32 type, const Fragments& weights, u32 x, Fragments& sums, const Blocks& blocks = {0, BLOCKS}) {
    const u32 lane = lane_index();
#pragma unroll
    for (int step = 0; step < BLOCKS; ++step) {
        if (!blocks.has(step)) continue;
        u32 y[4][4];
#pragma unroll
        for (int j = 0; j < 4; ++j) load_matrices_transposed(x + head_offset(step * 16 + lane % 16, j * 2 + lane / 16), y[j]);
        if (type == BF16) {
            weighted_step<bf16>(weights[2 * step], weights[2 * step + 1], y, sums);
        } else {
            weighted_step<f16>(weights[2 * step], weights[2 * step + 1], y, sums);
        }
    }
}
