// Temporal attention that keeps the `keep` rows of A = softmax(scale * q * k^T) with the largest standard deviation (VidTr, section 3.3): y = A' * v,
// A' = A or softmax(A) of the kept rows, in order of time; also which rows these are, and all deviations.
//
// Frames are few: a block has one sequence and all its scores in shared memory, a warp for each row. Which rows stay is found by counting, for each
// row, the rows before it in the order.
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
    u32 frames;
    u32 width;
    u32 value_width;
    u32 keep;
    u32 renormalize;
    float scale;
    u32 type;
    u32 unused;
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

KERNEL attention_topk_std(PARAMETERS p) {
    float* std = shared + p.frames * p.frames;
    u32* kept = reinterpret_cast<u32*>(std + p.frames);  // by frame: whether; then by slot: which
    u32* slots = kept + p.frames;
    i64 at[OPERANDS];
    locate(p.nest, blockIdx.x, at);
    const Rows q = {p.q, at[Q], p.row[Q], p.channel[Q], p.type}, k = {p.k, at[K], p.row[K], p.channel[K], p.type};
    const Rows v = {p.v, at[V], p.row[V], p.channel[V], p.type};
#pragma unroll 1
    for (u32 i = warp_index(); i < p.frames; i += 8) {
        float* row = shared + i * p.frames;
#pragma unroll 1
        for (u32 j = lane_index(); j < p.frames; j += 32) row[j] = p.scale * dot(q, i, k, j, p.width);
        __syncwarp();
        softmax_row(row, row, p.frames);
        const float spread = deviation(row, p.frames);
        if (lane_index() == 0) {
            std[i] = spread;
            p.std[at[STD] + i * p.row[STD]] = spread;
        }
    }
    __syncthreads();
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
        if (!kept[i]) continue;
        slots[slot] = i;
        p.kept[at[KEPT] + slot * p.row[KEPT]] = (i32)i;
    }
    __syncthreads();
    if (p.renormalize) {
#pragma unroll 1
        for (u32 slot = warp_index(); slot < p.keep; slot += 8) softmax_row(shared + slots[slot] * p.frames, shared + slots[slot] * p.frames, p.frames);
        __syncthreads();
    }
#pragma unroll 1
    for (u32 e = threadIdx.x; e < p.keep * p.value_width; e += 256) {
        const u32 slot = e / p.value_width, c = e % p.value_width;
        float sum = 0.0f;
#pragma unroll 1
        for (u32 j = 0; j < p.frames; ++j) sum += shared[slots[slot] * p.frames + j] * v.at(j, c);
        store_as(p.type, p.y, at[Y] + slot * p.row[Y] + c, sum);
    }
}
