// Temporal attention that keeps the `keep` rows of A = softmax(scale * q * k^T) with the largest standard deviation (VidTr, section 3.3): y = A' * v,
// A' = A or softmax(A) of the kept rows, in order of time; also which rows these are, and all deviations.
//
// A block has one sequence, a warp one row at a time in shared memory: a deviation needs its row alone, and the rows that stay are computed once more, so that
// no clip is too long for its scores (44 bytes a frame). Which rows stay is found by counting, for each row, the rows before it in the order.
#include "attention_rows.cuh"

enum Operand { Q, K, V, Y, KEPT, STD, OPERANDS };

struct Parameters {
    void* q;
    void* k;
    void* v;
    void* y;
    i32* kept;
    float* std;
    Nest<OPERANDS> nest;  // of sequences
    i64 row[OPERANDS];
    i64 channel[OPERANDS];
    Pooling pooling;
};

extern __shared__ float shared[];

// Floats in the order that f64's total order gives them: larger numbers are larger integers, NaN is the largest.
DEVICE i32 ordered(float x) {
    const i32 bits = __float_as_int(x);
    return bits ^ (i32)((u32)(bits >> 31) >> 1);
}

// The unbiased standard deviation of a row, in every lane.
DEVICE float deviation(const float* row, u32 n) {
    float sum = 0.0f, squares = 0.0f;
#pragma unroll 1
    for (u32 i = lane_index(); i < n; i += 32) sum += row[i];
    const float mean = warp_sum(sum) / (float)n;
#pragma unroll 1
    for (u32 i = lane_index(); i < n; i += 32) squares += (row[i] - mean) * (row[i] - mean);
    return sqrtf(warp_sum(squares) / (float)(n - 1));
}

// slots = the `keep` frames that come first in the order of deviations, in order of time.
DEVICE void choose(const Pooling& p, const float* std, u32* kept, u32* slots) {
#pragma unroll 1
    for (u32 i = threadIdx.x; i < p.frames; i += 256) {
        u32 before = 0;
#pragma unroll 1
        for (u32 j = 0; j < p.frames; ++j) before += ordered(std[j]) > ordered(std[i]) || (ordered(std[j]) == ordered(std[i]) && j < i);
        kept[i] = before < p.keep;
    }
    __syncthreads();
#pragma unroll 1
    for (u32 i = threadIdx.x; i < p.frames; i += 256) {
        u32 slot = 0;
#pragma unroll 1
        for (u32 j = 0; j < i; ++j) slot += kept[j];
        if (kept[i]) slots[slot] = i;
    }
    __syncthreads();
}

KERNEL attention_topk_std(PARAMETERS p) {
    const Pooling& pooling = p.pooling;
    const u32 frames = pooling.frames;
    float* row = shared + warp_index() * frames;
    float* std = shared + WARPS * frames;
    u32* kept = reinterpret_cast<u32*>(std + frames);  // by frame: whether
    u32* slots = kept + frames;                        // by slot: which
    i64 at[OPERANDS];
    locate(p.nest, blockIdx.x, at);
    const Rows q = {p.q, at[Q], p.row[Q], p.channel[Q], pooling.type}, k = {p.k, at[K], p.row[K], p.channel[K], pooling.type};
    const Rows v = {p.v, at[V], p.row[V], p.channel[V], pooling.type};
#pragma unroll 1
    for (u32 i = warp_index(); i < frames; i += WARPS) {
        attend(pooling, q, i, k, row);
        const float spread = deviation(row, frames);
        if (lane_index() == 0) {
            std[i] = spread;
            p.std[at[STD] + i * p.row[STD]] = spread;
        }
    }
    __syncthreads();
    choose(pooling, std, kept, slots);
#pragma unroll 1
    for (u32 slot = warp_index(); slot < pooling.keep; slot += WARPS) {
        attend(pooling, q, slots[slot], k, row);
        if (pooling.renormalize) softmax_row(row, frames);
        __syncwarp();
#pragma unroll 1
        for (u32 c = lane_index(); c < pooling.value_width; c += 32) {
            store_as(pooling.type, p.y, at[Y] + slot * p.row[Y] + c, weighted(row, 1, v, frames, c));
        }
        if (lane_index() == 0) p.kept[at[KEPT] + slot * p.row[KEPT]] = (i32)slots[slot];
        __syncwarp();
    }
}
