// Attention of half types on Hopper, for heads of 64 to 128 columns that the copy engine can read: attention_mma.cuh in tiles of warpgroups.
//
// A block has 128 queries of one sequence. One warpgroup asks the copy engine for 128 keys and values after the other, STAGES ahead; two others have
// 64 queries each: products of queries and keys from shared memory, weights and sums in registers. Weights enter the product with the values as two half
// numbers each, as in attention_mma.cuh.
#pragma once
#include "wgmma.cuh"

struct HopperParameters {
    TensorMap q, k, v;  // columns, rows, heads, other axis, batch in tiles of 64 x 128
    Parameters p;
    u32 heads, others;
    u32 unused[6];
};
static_assert(sizeof(HopperParameters) == 3 * 128 + sizeof(Parameters) + 32, "no gaps");

#define HOPPER_KERNEL extern "C" __global__ void __launch_bounds__(384, 1)

extern __shared__ __align__(1024) unsigned char tiles[];

template <class T, int WIDTH> struct HopperAttention {
    static constexpr int ROWS = 128, STAGES = 2;
    // 128 rows of 64 columns; wider heads have two of them.
    static constexpr int BOX = ROWS * 128, BOXES = (WIDTH + 63) / 64, TILE = BOXES * BOX;
    static constexpr int STEPS = (WIDTH + 15) / 16;

    static DEVICE u32 queries() { return shared_address(tiles); }
    static DEVICE u32 keys(u32 stage) { return queries() + TILE * (1 + 2 * stage); }
    static DEVICE u32 full(u32 stage) { return keys(STAGES) + stage * 8; }
    static DEVICE u32 empty(u32 stage) { return full(STAGES + stage); }
    static DEVICE u32 ready() { return empty(STAGES); }

    struct Place {
        u32 m0, sequence, head, other, batch;
    };
    static DEVICE Place place(const HopperParameters& h) {
        const u32 tiles_m = (h.p.queries + ROWS - 1) / ROWS, sequence = blockIdx.x / tiles_m;
        return {blockIdx.x % tiles_m * ROWS, sequence, sequence % h.heads, sequence / h.heads % h.others, sequence / h.heads / h.others};
    }

    static DEVICE void copy(u32 to, const TensorMap& map, u32 row, const Place& at, u32 barrier) {
#pragma unroll
        for (int box = 0; box < BOXES; ++box) copy_head_tile(to + box * BOX, map, box * 64, row, at.head, at.other, at.batch, barrier);
    }

    static DEVICE void produce(const HopperParameters& h) {
        const Place at = place(h);
        barrier_arrive_expecting(ready(), TILE);
        copy(queries(), h.q, at.m0, at, ready());
        u32 stage = 0, parity = 1;
#pragma unroll 1
        for (u32 n0 = 0; n0 < h.p.keys; n0 += ROWS) {
            barrier_wait(empty(stage), parity);
            barrier_arrive_expecting(full(stage), 2 * TILE);
            copy(keys(stage), h.k, n0, at, full(stage));
            copy(keys(stage) + TILE, h.v, n0, at, full(stage));
            if (++stage == STAGES) stage = 0, parity ^= 1;
        }
    }

    // The column of score i of a thread; of i mod 4, two belong to row lane / 4 and two to the row eight further.
    static DEVICE u32 column(int i) { return i / 4 * 8 + lane_index() % 4 * 2 + i % 2; }

    // As `weigh` of attention.cu.
    static DEVICE void weigh(const Parameters& p, u32 n0, float (&scores)[ROWS / 2], float (&largest)[2], float (&total)[2], float (&sums)[WIDTH / 2]) {
#pragma unroll
        for (int r = 0; r < 2; ++r) {
            float high = largest[r], sum = 0.0f;
#pragma unroll
            for (int i = 0; i < ROWS / 2; ++i) {
                if (i / 2 % 2 != r) continue;
                scores[i] = n0 + column(i) < p.keys ? scores[i] * p.scale : NEGATIVE_INFINITY;
                high = fmaxf(high, scores[i]);
            }
            high = quad_max(high);
            const float shrink = largest[r] == high ? 1.0f : fast_exp(largest[r] - high);
#pragma unroll
            for (int i = 0; i < ROWS / 2; ++i) {
                if (i / 2 % 2 != r) continue;
                scores[i] = n0 + column(i) < p.keys ? fast_exp(scores[i] - high) : 0.0f;
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

    // sums += weights * values, 16 keys at a time.
    static DEVICE void add_weighted(const float (&weights)[ROWS / 2], u32 values, float (&sums)[WIDTH / 2]) {
        u32 left[ROWS / 16][4], rest[ROWS / 16][4];
#pragma unroll
        for (int step = 0; step < ROWS / 16; ++step) {
#pragma unroll
            for (int v = 0; v < 4; ++v) {
                left[step][v] = pack_two<T>(weights[8 * step + 2 * v], weights[8 * step + 2 * v + 1]);
                rest[step][v] = pack_rest<T>(weights[8 * step + 2 * v], weights[8 * step + 2 * v + 1]);
            }
        }
        pin(sums);
#pragma unroll
        for (int step = 0; step < ROWS / 16; ++step) {
            pin(left[step]);
            pin(rest[step]);
        }
        fence_products();
#pragma unroll
        for (int step = 0; step < ROWS / 16; ++step) {
            const u64 b = across_descriptor(values + step * 16 * 128, BOX);
            Weighted<T, WIDTH>::multiply_add(sums, left[step], b);
            Weighted<T, WIDTH>::multiply_add(sums, rest[step], b);
        }
        commit_products();
        await_products<0>();
        pin(sums);
    }

    static DEVICE void consume(const HopperParameters& h) {
        const Parameters& p = h.p;
        const Place at = place(h);
        const u32 group = threadIdx.x / 128 - 1;
        float largest[2] = {NEGATIVE_INFINITY, NEGATIVE_INFINITY}, total[2] = {0.0f, 0.0f}, sums[WIDTH / 2];
#pragma unroll
        for (int i = 0; i < WIDTH / 2; ++i) sums[i] = 0.0f;
        barrier_wait(ready(), 0);
        u32 stage = 0, parity = 0;
#pragma unroll 1
        for (u32 n0 = 0; n0 < p.keys; n0 += ROWS) {
            barrier_wait(full(stage), parity);
            float scores[ROWS / 2];
#pragma unroll
            for (int i = 0; i < ROWS / 2; ++i) scores[i] = 0.0f;
            pin(scores);
            fence_products();
#pragma unroll
            for (int step = 0; step < STEPS; ++step) {
                const u32 from = step / 4 * BOX + step % 4 * 32;
                Products<T, ROWS>::multiply_add(scores, tile_descriptor(queries() + group * 64 * 128 + from), tile_descriptor(keys(stage) + from), step > 0);
            }
            commit_products();
            await_products<0>();
            pin(scores);
            weigh(p, n0, scores, largest, total, sums);
            add_weighted(scores, keys(stage) + TILE, sums);
            if (lane_index() == 0) barrier_arrive(empty(stage));
            if (++stage == STAGES) stage = 0, parity ^= 1;
        }
        write(p, at, at.m0 + threadIdx.x % 128 / 32 * 16 + group * 64 + lane_index() / 4, largest, total, sums);
    }

    static DEVICE void write(const Parameters& p, const Place& place, u32 row, const float (&largest)[2], const float (&total)[2], const float (&sums)[WIDTH / 2]) {
        i64 at[5];
        locate(p.nest, place.sequence, at);
#pragma unroll
        for (int r = 0; r < 2; ++r) {
            const u32 m = row + 8 * r;
            if (m >= p.queries) continue;
            if (p.lse && lane_index() % 4 == 0) p.lse[at[4] + m * p.row[4]] = largest[r] + logf(total[r]);
            T* y = static_cast<T*>(p.y) + at[3] + m * p.row[3];
            const float share = 1.0f / total[r];
#pragma unroll
            for (int i = 2 * r; i < WIDTH / 2; i += 4) {
                // Columns come in pairs, and so do widths.
                if (column(i) < p.value_width) *reinterpret_cast<u32*>(y + column(i)) = pack_two<T>(sums[i] * share, sums[i + 1] * share);
            }
        }
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
        __syncthreads();
        if (threadIdx.x < 128) {
            fewer_registers<40>();
            if (threadIdx.x == 0) produce(h);
        } else {
            more_registers<232>();
            consume(h);
        }
    }
};

#define HOPPER_WIDTH(name, type, width) \
    HOPPER_KERNEL attention_##name##_hopper_##width(const __grid_constant__ HopperParameters h) { HopperAttention<type, width>::run(h); }
#define HOPPER(name, type)        \
    HOPPER_WIDTH(name, type, 64)  \
    HOPPER_WIDTH(name, type, 80)  \
    HOPPER_WIDTH(name, type, 88)  \
    HOPPER_WIDTH(name, type, 128)
HOPPER(bf16, bf16)
HOPPER(f16, f16)
