// Attention of short sequences on tensor cores, for heads of at most 64 columns: time steps over each other, windows of tokens.
//
// A tile of 64 rows holds as many sequences as fit; a warp multiplies its 16 rows with those of their own sequences alone, 16 at a time, and weighs by 0 what
// is another's. A token moves 8 bytes of queries, keys, values and results for each column, and takes 192 multiply-adds at most; an H100 multiplies 140
// for each byte that it moves, an A100 75, and these are 24. So memory decides, and products of four warps at once (wgmma), whose 64 rows would go through all 64, gain
// nothing: one kernel serves all chips. What costs is a tile for each sequence, or keys and values read anew for each query.
#pragma once
#include "attention_mma.cuh"

// Sequences of a tile, at most.
constexpr u32 PACKED = 16;

// Two sides of a tile: `count` sequences of `length` rows, and of `other` rows of what they are multiplied with.
struct Packing {
    u32 count, length, other;

    // The blocks of 16 rows of the other side that belong to this warp's rows.
    DEVICE Blocks blocks() const {
        const u32 first = warp_index() * 16 / length, last = min((warp_index() * 16 + 15) / length, count - 1);
        if (first >= count) return {0, 0};
        return {first * other / 16, ((last + 1) * other + 15) / 16};
    }
    // The rows of the other side that belong to the row of half r of a thread's fragments.
    DEVICE Blocks own(int r) const {
        const u32 sequence = fragment_row(r) / length;
        return sequence < count ? Blocks{sequence * other, (sequence + 1) * other} : Blocks{0, 0};
    }
    DEVICE Packing turned() const { return {count, other, length}; }

    // The rows of `head` of all sequences, which begin at every N-th place from `places` on; zeros beyond.
    template <int N> DEVICE void fill(u32 to, const TiledMatrix<Bits>& head, const i64* places) const {
#pragma unroll 1
        for (u32 c = threadIdx.x; c < KEYS * HEAD / 8; c += MMA_THREADS) {
            const u32 row = c / (HEAD / 8), chunk = c % (HEAD / 8), sequence = row / length;
            TiledMatrix<Bits> source = head;
            if (sequence < count) source.base += places[sequence * N];
            if (sequence >= count) source.rows = 0;
            source.place(to + head_offset(row, chunk), row - sequence * length, chunk * 8);
        }
    }

    // As `store_fragments`, of all sequences.
    template <int N> DEVICE void store(u32 type, void* to, const i64* places, i64 row_stride, u32 width, Fragments& sums, const float (&factor)[2], float* shared) const {
        stage_fragments(sums, factor, shared);
        const u32 c = threadIdx.x % HEAD;
#pragma unroll 1
        for (u32 r = threadIdx.x / HEAD; r < count * length; r += MMA_THREADS / HEAD) {
            const u32 sequence = r / length;
            if (c < width) store_as(type, to, places[sequence * N] + (r - sequence * length) * row_stride + c, shared[r * FRAGMENT_PITCH + c]);
        }
        __syncthreads();
    }
};
