// Attention of half types on Hopper, for heads of 64 to 128 columns that the copy engine can read: attention_mma.cuh in tiles of warpgroups.
//
// A block has 128 queries of one sequence. One warpgroup asks the copy engine for 128 keys and values after the other, STAGES ahead; two others have
// 64 queries each: products of queries and keys from shared memory, weights and sums in registers.
#pragma once
#include "attention_tiles_hopper.cuh"

struct HopperParameters {
    TensorMap q, k, v;  // columns, rows, heads, other axis, batch in tiles of 64 x 128
    Parameters p;
    u32 heads, others;
    u32 unused[6];
};
static_assert(sizeof(HopperParameters) == 3 * 128 + sizeof(Parameters) + 32, "no gaps");

template <class T, int WIDTH> struct HopperAttention {
    using Head = HeadTiles<T, WIDTH>;
    static constexpr int ROWS = 128, STAGES = 2, TILE = Head::bytes(ROWS);

    static DEVICE u32 queries() { return shared_address(tiles); }
    static DEVICE u32 keys(u32 stage) { return queries() + TILE * (1 + 2 * stage); }
    static DEVICE u32 full(u32 stage) { return keys(STAGES) + stage * 8; }
    static DEVICE u32 empty(u32 stage) { return full(STAGES + stage); }
    static DEVICE u32 ready() { return empty(STAGES); }

    static DEVICE HeadPlace place(const HopperParameters& h) {
        const u32 tiles_m = (h.p.queries + ROWS - 1) / ROWS;
        return head_place(blockIdx.x % tiles_m * ROWS, blockIdx.x / tiles_m, h.heads, h.others);
    }

    static DEVICE void produce(const HopperParameters& h) {
        const HeadPlace at = place(h);
        barrier_arrive_expecting(ready(), TILE);
        Head::template copy<ROWS, ROWS>(queries(), h.q, at.row, at, ready());
        u32 stage = 0, parity = 1;
#pragma unroll 1
        for (u32 n0 = 0; n0 < h.p.keys; n0 += ROWS) {
            barrier_wait(empty(stage), parity);
            barrier_arrive_expecting(full(stage), 2 * TILE);
            Head::template copy<ROWS, ROWS>(keys(stage), h.k, n0, at, full(stage));
            Head::template copy<ROWS, ROWS>(keys(stage) + TILE, h.v, n0, at, full(stage));
            if (++stage == STAGES) stage = 0, parity ^= 1;
        }
    }

    // As `weigh` of attention.cu.
    static DEVICE void weigh(const Parameters& p, u32 n0, float (&scores)[ROWS / 2], float (&largest)[2], float (&total)[2], float (&sums)[WIDTH / 2]) {
#pragma unroll
        for (int r = 0; r < 2; ++r) {
            float high = largest[r], sum = 0.0f;
#pragma unroll
            for (int i = 0; i < ROWS / 2; ++i) {
                if (i / 2 % 2 != r) continue;
                scores[i] = n0 + sum_column(i) < p.keys ? scores[i] * p.scale : NEGATIVE_INFINITY;
                high = fmaxf(high, scores[i]);
            }
            high = quad_max(high);
            const float shrink = largest[r] == high ? 1.0f : fast_exp(largest[r] - high);
#pragma unroll
            for (int i = 0; i < ROWS / 2; ++i) {
                if (i / 2 % 2 != r) continue;
                scores[i] = n0 + sum_column(i) < p.keys ? fast_exp(scores[i] - high) : 0.0f;
                sum += scores[i];
            }
#pragma unroll
            for (int i = 0; i < WIDTH / 2; ++i) {
                if (i / 2 % 2 == r) sums[i] *= shrink;
            }
            total[r] = total[r] * shrink + quad_sum(sum);
            largest[r] = high;
        }
    }

    static DEVICE void consume(const HopperParameters& h) {
        const Parameters& p = h.p;
        const HeadPlace at = place(h);
        const u32 group = threadIdx.x / 128 - 1;
        float largest[2] = {NEGATIVE_INFINITY, NEGATIVE_INFINITY}, total[2] = {0.0f, 0.0f}, sums[WIDTH / 2];
        clear(sums);
        barrier_wait(ready(), 0);
        u32 stage = 0, parity = 0;
#pragma unroll 1
        for (u32 n0 = 0; n0 < p.keys; n0 += ROWS) {
            barrier_wait(full(stage), parity);
            float scores[ROWS / 2];
            clear(scores);
            pin(scores);
            fence_products();
            Head::template multiply<ROWS, ROWS>(queries(), group * 64, keys(stage), scores);
            await_products<0>();
            pin(scores);
            weigh(p, n0, scores, largest, total, sums);
            const Halves<T, ROWS> weights(scores);
            pin(sums);
            fence_products();
            Head::add_weighted(weights, keys(stage) + TILE, sums);
            await_products<0>();
            pin(sums);
            if (lane_index() == 0) barrier_arrive(empty(stage));
            if (++stage == STAGES) stage = 0, parity ^= 1;
        }
        write(p, at, at.row + group * 64 + sum_row(), largest, total, sums);
    }

    static DEVICE void write(const Parameters& p, const HeadPlace& place, u32 row, const float (&largest)[2], const float (&total)[2], const float (&sums)[WIDTH / 2]) {
        i64 at[5];
        locate(p.nest, place.sequence, at);
#pragma unroll
        for (int r = 0; r < 2; ++r) {
            const u32 m = row + 8 * r;
            if (p.lse && m < p.queries && lane_index() % 4 == 0) p.lse[at[4] + m * p.row[4]] = largest[r] + logf(total[r]);
        }
        const float shares[2] = {1.0f / total[0], 1.0f / total[1]};
        Head::store(static_cast<T*>(p.y) + at[3], p.row[3], row, p.queries, p.value_width, sums, shares);
    }

    static DEVICE void run(const HopperParameters& h) {
        if (threadIdx.x == 0) {
            for (u32 stage = 0; stage < STAGES; ++stage) {
                barrier_init(full(stage), 1);
                barrier_init(empty(stage), 8);  // the warps of the consumers
            }
            barrier_init(ready(), 1);
            publish_barriers();
        }
        share_out([&] { produce(h); }, [&] { consume(h); });
    }
};

#define HOPPER(type, width) \
    HOPPER_KERNEL attention_##type##_hopper_##width(const __grid_constant__ HopperParameters h) { HopperAttention<type, width>::run(h); }
HOPPER_WIDTHS(HOPPER)
