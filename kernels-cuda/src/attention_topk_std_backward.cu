// Back through the kept rows of temporal attention with topK_std pooling: dv = W^T * gradient, dW = gradient * v^T, then back through each softmax, and
// to q (rows that were dropped get 0) and k. W = A or softmax(A) of the kept rows.
//
// As in attention_topk_std.cu, a block has one sequence; it sums every gradient over the kept rows in their order.
#include "attention_rows.cuh"

enum Operand { Q, K, V, KEPT, GRADIENT, DQ, DK, DV, OPERANDS };

struct Parameters {
    void* q;
    void* k;
    void* v;
    const i32* kept;
    void* gradient;
    void* dq;
    void* dk;
    void* dv;
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

KERNEL attention_topk_std_backward(PARAMETERS p) {
    float* weights = shared;                          // [keep, frames]: W
    float* slopes = weights + p.keep * p.frames;      // [keep, frames]: dS
    float* scratch = slopes + p.keep * p.frames;      // [warps, frames]: A
    u32* slots = reinterpret_cast<u32*>(scratch + 8 * p.frames);
    i64 at[OPERANDS];
    locate(p.nest, blockIdx.x, at);
    const Rows q = {p.q, at[Q], p.row[Q], p.channel[Q], p.type}, k = {p.k, at[K], p.row[K], p.channel[K], p.type};
    const Rows v = {p.v, at[V], p.row[V], p.channel[V], p.type};
    const Rows gradient = {p.gradient, at[GRADIENT], p.row[GRADIENT], p.channel[GRADIENT], p.type};
#pragma unroll 1
    for (u32 slot = threadIdx.x; slot < p.keep; slot += 256) {
        slots[slot] = (u32)min(max(p.kept[at[KEPT] + slot * p.row[KEPT]], 0), (i32)p.frames - 1);
    }
    __syncthreads();
#pragma unroll 1
    for (u32 slot = warp_index(); slot < p.keep; slot += 8) {
        float* first = scratch + warp_index() * p.frames;
        float* weight = weights + slot * p.frames;
        float* slope = slopes + slot * p.frames;
#pragma unroll 1
        for (u32 j = lane_index(); j < p.frames; j += 32) {
            first[j] = p.scale * dot(q, slots[slot], k, j, p.width);
            slope[j] = dot(gradient, slot, v, j, p.value_width);
        }
        __syncwarp();
        softmax_row(first, first, p.frames);
        if (p.renormalize) {
            softmax_row(first, weight, p.frames);
            softmax_row_backward(weight, slope, slope, p.frames);
        } else {
#pragma unroll 1
            for (u32 j = lane_index(); j < p.frames; j += 32) weight[j] = first[j];
        }
        softmax_row_backward(first, slope, slope, p.frames);
    }
    __syncthreads();
#pragma unroll 1
    for (u32 e = threadIdx.x; e < p.frames * p.value_width; e += 256) {
        const u32 j = e / p.value_width, c = e % p.value_width;
        float sum = 0.0f;
#pragma unroll 1
        for (u32 slot = 0; slot < p.keep; ++slot) sum += weights[slot * p.frames + j] * gradient.at(slot, c);
        store_as(p.type, p.dv, at[DV] + j * p.row[DV] + c, sum);
    }
#pragma unroll 1
    for (u32 e = threadIdx.x; e < p.frames * p.width; e += 256) {
        const u32 j = e / p.width, c = e % p.width;
        float key = 0.0f, query = 0.0f;
#pragma unroll 1
        for (u32 slot = 0; slot < p.keep; ++slot) {
            key += slopes[slot * p.frames + j] * q.at(slots[slot], c);
            if (slots[slot] != j) continue;
#pragma unroll 1
            for (u32 i = 0; i < p.frames; ++i) query += slopes[slot * p.frames + i] * k.at(i, c);
        }
        store_as(p.type, p.dk, at[DK] + j * p.row[DK] + c, p.scale * key);
        store_as(p.type, p.dq, at[DQ] + j * p.row[DQ] + c, p.scale * query);
    }
}
