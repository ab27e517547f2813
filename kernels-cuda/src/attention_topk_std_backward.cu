// Back through the kept rows of temporal attention with topK_std pooling: dv = W^T * gradient, dW = gradient * v^T, then back through each softmax, and
// to q (rows that were dropped get 0) and k. W = A or softmax(A) of the kept rows.
//
// As in attention_topk_std.cu a block has one sequence, and never all its scores. A warp has a frame at a time: its slopes, and from these dq, need their row
// alone. dk and dv need columns: what every softmax of a row took and gave is kept, a few numbers a slot, and a tile of columns of weights and slopes is
// computed from it once more. Every gradient is summed over the kept rows in their order.
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
    Pooling pooling;
};

extern __shared__ float shared[];

// A kept row's softmaxes, and the sums of weights times gradients that go back through them.
struct Slot {
    Softmax first, second;
    float first_sum, second_sum;
};

// What the threads of a block share of one sequence.
struct Sequence {
    Rows q, k, v, gradient;
    Slot* slots;
    u32* frame;  // of each slot
};

// slopes = the gradient of row `slot`'s scores, by one warp; `row` is scratch.
DEVICE void slopes_of(const Pooling& p, const Sequence& x, u32 slot, float* row, float* slopes) {
    Slot found;
    found.first = attend(p, x.q, x.frame[slot], x.k, row);
#pragma unroll 1
    for (u32 j = lane_index(); j < p.frames; j += 32) slopes[j] = dot(x.gradient, slot, x.v, j, p.value_width);
    found.second = softmax_of(row, p.frames);
    found.second_sum = p.renormalize ? softmax_row_backward(row, found.second, slopes, p.frames) : 0.0f;
    found.first_sum = softmax_row_backward(row, [](float y) { return y; }, slopes, p.frames);
    if (lane_index() == 0) x.slots[slot] = found;
}

// Weight and slope of row `slot` and column `j`, as `slopes_of` has found them.
DEVICE void again(const Pooling& p, const Sequence& x, u32 slot, u32 j, float& weight, float& slope) {
    const Slot& kept = x.slots[slot];
    const float a = kept.first(score(p, x.q, x.frame[slot], x.k, j));
    const float given = dot(x.gradient, slot, x.v, j, p.value_width);
    weight = p.renormalize ? kept.second(a) : a;
    slope = a * ((p.renormalize ? weight * (given - kept.second_sum) : given) - kept.first_sum);
}

KERNEL attention_topk_std_backward(PARAMETERS p) {
    const Pooling& pooling = p.pooling;
    const u32 frames = pooling.frames, keep = pooling.keep, tile = pooling.tile;
    float* row = shared + warp_index() * 3 * frames;  // [warps, 3, frames]: A, dS, and its sum over the slots of a frame
    float* slopes = row + frames;
    float* total = slopes + frames;
    float* weight_tile = shared + WARPS * 3 * frames;  // [keep, tile]: W
    float* slope_tile = weight_tile + keep * tile;     // [keep, tile]: dS
    Slot* slots = reinterpret_cast<Slot*>(slope_tile + keep * tile);
    u32* frame = reinterpret_cast<u32*>(slots + keep);
    i64 at[OPERANDS];
    locate(p.nest, blockIdx.x, at);
    const auto rows = [&](void* base, Operand i) { return Rows{base, at[i], p.row[i], p.channel[i], pooling.type}; };
    const Sequence x = {rows(p.q, Q), rows(p.k, K), rows(p.v, V), rows(p.gradient, GRADIENT), slots, frame};
#pragma unroll 1
    for (u32 slot = threadIdx.x; slot < keep; slot += 256) {
        frame[slot] = (u32)min(max(p.kept[at[KEPT] + slot * p.row[KEPT]], 0), (i32)frames - 1);
    }
    __syncthreads();
#pragma unroll 1
    for (u32 i = warp_index(); i < frames; i += WARPS) {
#pragma unroll 1
        for (u32 j = lane_index(); j < frames; j += 32) total[j] = 0.0f;
#pragma unroll 1
        for (u32 slot = 0; slot < keep; ++slot) {
            if (frame[slot] != i) continue;
            slopes_of(pooling, x, slot, row, slopes);
#pragma unroll 1
            for (u32 j = lane_index(); j < frames; j += 32) total[j] += slopes[j];
        }
        __syncwarp();
#pragma unroll 1
        for (u32 c = lane_index(); c < pooling.width; c += 32) {
            store_as(pooling.type, p.dq, at[DQ] + i * p.row[DQ] + c, pooling.scale * weighted(total, 1, x.k, frames, c));
        }
        __syncwarp();
    }
    __syncthreads();
#pragma unroll 1
    for (u32 start = 0; start < frames; start += tile) {
        const u32 columns = min(tile, frames - start);
#pragma unroll 1
        for (u32 e = threadIdx.x; e < keep * columns; e += 256) {
            const u32 slot = e / columns, j = e % columns;
            again(pooling, x, slot, start + j, weight_tile[slot * tile + j], slope_tile[slot * tile + j]);
        }
        __syncthreads();
#pragma unroll 1
        for (u32 e = threadIdx.x; e < columns * pooling.value_width; e += 256) {
            const u32 j = e / pooling.value_width, c = e % pooling.value_width;
            store_as(pooling.type, p.dv, at[DV] + (start + j) * p.row[DV] + c, weighted(weight_tile + j, tile, x.gradient, keep, c));
        }
#pragma unroll 1
        for (u32 e = threadIdx.x; e < columns * pooling.width; e += 256) {
            const u32 j = e / pooling.width, c = e % pooling.width;
            float sum = 0.0f;
#pragma unroll 1
            for (u32 slot = 0; slot < keep; ++slot) sum += slope_tile[slot * tile + j] * x.q.at(frame[slot], c);
            store_as(pooling.type, p.dk, at[DK] + (start + j) * p.row[DK] + c, pooling.scale * sum);
        }
        __syncthreads();
    }
}
