// The gradient of attention of half types on Hopper, for heads of 64 to 128 columns that the copy engine can read: attention_backward.cu in tiles of
// warpgroups.
//
// A block has 128 rows of one sequence, queries for dq, keys for dk and dv; one warpgroup asks the copy engine for tiles of the other side, two others have
// 64 rows each. Scores and slopes are products from shared memory, what they become are factors in registers, and the same tiles serve as rows and across.
// Both sides compute them: seven products and three more for the rounding of weights, where one pass over the keys would have five and three. That one
// would add each tile of dq to memory in f32 once for each 128 keys, in an order that blocks have to wait for; a quarter more of products waits for nobody.
//
// `_statistics` leaves what a query contributes to each of its scores: 64 logarithms in base 2, then 64 of D, for each 64 queries. Queries beyond the last
// have zeros, as all of their rows are zeros.
#pragma once
#include "attention_few.cuh"
#include "attention_tiles_hopper.cuh"

struct HopperParameters {
    TensorMap q, k, v, gradient;  // columns, rows, heads, other axis, batch in tiles of 64 x 64
    Parameters p;
    u32 heads, others;
    u32 unused[6];
};
static_assert(sizeof(HopperParameters) == 4 * 128 + sizeof(Parameters) + 32, "no gaps");

constexpr float LOG2_E = 1.4426950408889634f;
// Rows of a block, and of a tile that the copy engine moves.
constexpr u32 ROWS = 128, BOX = 64;

DEVICE u32 blocks_of(u32 rows) { return (rows + ROWS - 1) / ROWS; }
// The statistics of 64 queries from `query` on.
DEVICE float* statistics(const Parameters& p, u32 sequence, u32 query) {
    return p.delta + 2 * ((u64)sequence * blocks_of(p.queries) * ROWS + query);
}

// Sixteen lanes a query.
KERNEL attention_backward_hopper_statistics(PARAMETERS p) {
    const u32 rows = blocks_of(p.queries) * ROWS, task = blockIdx.x * 16 + threadIdx.x / 16, sequence = task / rows, query = task % rows;
    if (sequence >= p.sequences) return;
    i64 at[OPERANDS];
    locate(p.nest, sequence, at);
    const u32 c = threadIdx.x % 16 * COLUMNS, width = query < p.queries ? p.value_width : 0;
    float out[COLUMNS], gradient[COLUMNS], sum = 0.0f;
    load_eight(p.type, p.out, at[OUT] + query * p.row[OUT], p.channel[OUT], c, width, p.wide[OUT], out);
    load_eight(p.type, p.gradient, at[GRADIENT] + query * p.row[GRADIENT], p.channel[GRADIENT], c, width, p.wide[GRADIENT], gradient);
#pragma unroll
    for (int i = 0; i < COLUMNS; ++i) sum = fmaf(out[i], gradient[i], sum);
#pragma unroll
    for (int step = 8; step > 0; step >>= 1) sum += __shfl_xor_sync(ALL_LANES, sum, step);
    if (threadIdx.x % 16 != 0) return;
    float* to = statistics(p, sequence, query / BOX * BOX) + query % BOX;
    to[0] = query < p.queries ? p.lse[at[LSE] + query * p.row[LSE]] * LOG2_E : 0.0f;
    to[BOX] = sum;
}

// The bytes of one side: two tiles of a block's own rows, stages of two of the other side with `extra` bytes each.
template <class T, int WIDTH, int STEP, int EXTRA> struct HopperSide {
    using Head = HeadTiles<T, WIDTH>;
    static constexpr int STAGES = 256 / STEP, OWN = Head::bytes(ROWS), OTHER = Head::bytes(STEP);

    static DEVICE u32 own() { return shared_address(tiles); }
    static DEVICE u32 other(u32 stage) { return own() + 2 * OWN + stage * 2 * OTHER; }
    static DEVICE u32 extra(u32 stage) { return other(STAGES) + stage * EXTRA; }
    static DEVICE u32 full(u32 stage) { return extra(STAGES) + stage * 8; }
    static DEVICE u32 empty(u32 stage) { return full(STAGES + stage); }
    static DEVICE u32 ready() { return empty(STAGES); }

    static DEVICE void init_barriers() {
        if (threadIdx.x != 0) return;
        for (u32 stage = 0; stage < STAGES; ++stage) {
            barrier_init(full(stage), 1);
            barrier_init(empty(stage), 8);  // the warps of the consumers
        }
        barrier_init(ready(), 1);
        publish_barriers();
    }

    // Tiles of `mine` at the block's rows, then all of the `count` rows of `others`, with what `also(row, to, barrier)` asks for.
    template <class Also>
    static DEVICE void produce(const TensorMap& mine0, const TensorMap& mine1, const TensorMap& other0, const TensorMap& other1, const HeadPlace& at, u32 count, const Also& also) {
        barrier_arrive_expecting(ready(), 2 * OWN);
        Head::template copy<ROWS, BOX>(own(), mine0, at.row, at, ready());
        Head::template copy<ROWS, BOX>(own() + OWN, mine1, at.row, at, ready());
        u32 stage = 0, parity = 1;
#pragma unroll 1
        for (u32 n0 = 0; n0 < count; n0 += STEP) {
            barrier_wait(empty(stage), parity);
            barrier_arrive_expecting(full(stage), 2 * OTHER + EXTRA);
            Head::template copy<STEP, BOX>(other(stage), other0, n0, at, full(stage));
            Head::template copy<STEP, BOX>(other(stage) + OTHER, other1, n0, at, full(stage));
            also(n0, extra(stage), full(stage));
            if (++stage == STAGES) stage = 0, parity ^= 1;
        }
    }

    // Calls step(n0, stage, scores, slopes) for each tile: scores are there, slopes on their way.
    template <class Step> static DEVICE void consume(u32 count, const Step& step) {
        const u32 first = (threadIdx.x / 128 - 1) * 64;
        barrier_wait(ready(), 0);
        u32 stage = 0, parity = 0;
#pragma unroll 1
        for (u32 n0 = 0; n0 < count; n0 += STEP) {
            barrier_wait(full(stage), parity);
            float scores[STEP / 2], slopes[STEP / 2];
            clear(scores);
            clear(slopes);
            pin(scores);
            pin(slopes);
            fence_products();
            Head::template multiply<ROWS, STEP>(own(), first, other(stage), scores);
            Head::template multiply<ROWS, STEP>(own() + OWN, first, other(stage) + OTHER, slopes);
            await_products<1>();
            pin(scores);
            step(n0, stage, scores, slopes);
            if (lane_index() == 0) barrier_arrive(empty(stage));
            if (++stage == STAGES) stage = 0, parity ^= 1;
        }
    }
};

template <class T, int WIDTH> struct HopperQueries {
    static constexpr int STEP = 128;
    using Side = HopperSide<T, WIDTH, STEP, 0>;
    using Head = typename Side::Head;

    static DEVICE void consume(const HopperParameters& h, const HeadPlace& at) {
        const Parameters& p = h.p;
        const u32 row = at.row + (threadIdx.x / 128 - 1) * 64 + sum_row();
        const float* known = statistics(p, at.sequence, row / BOX * BOX) + row % BOX;
        const float lse[2] = {known[0], known[8]}, delta[2] = {known[BOX], known[BOX + 8]}, factor = p.scale * LOG2_E;
        float sums[WIDTH / 2];
        clear(sums);
        Side::consume(p.keys, [&](u32 n0, u32 stage, float(&scores)[STEP / 2], float(&slopes)[STEP / 2]) {
#pragma unroll
            for (int i = 0; i < STEP / 2; ++i) {
                scores[i] = n0 + sum_column(i) < p.keys ? fast_exp2(fmaf(scores[i], factor, -lse[i / 2 % 2])) : 0.0f;
            }
            await_products<0>();
            pin(slopes);
#pragma unroll
            for (int i = 0; i < STEP / 2; ++i) slopes[i] = scores[i] * (slopes[i] - delta[i / 2 % 2]);
            const Halves<T, STEP> weights(slopes);
            pin(sums);
            fence_products();
            Head::add_weighted(weights, Side::other(stage), sums);
            await_products<0>();
            pin(sums);
        });
        i64 to[OPERANDS];
        locate(p.nest, at.sequence, to);
        const float scale[2] = {p.scale, p.scale};
        Head::store(static_cast<T*>(p.dq) + to[DQ], p.row[DQ], row, p.queries, p.width, sums, scale);
    }

    static DEVICE void run(const HopperParameters& h) {
        const u32 blocks = blocks_of(h.p.queries);
        const HeadPlace at = head_place(blockIdx.x % blocks * ROWS, blockIdx.x / blocks, h.heads, h.others);
        Side::init_barriers();
        share_out([&] { Side::produce(h.q, h.gradient, h.k, h.v, at, h.p.keys, [](u32, u32, u32) {}); }, [&] { consume(h, at); });
    }
};

template <class T, int WIDTH> struct HopperKeys {
    // Sums of keys and of values leave registers for two tiles of 64 queries.
    static constexpr int STEP = 64;
    using Side = HopperSide<T, WIDTH, STEP, STEP * 8>;
    using Head = typename Side::Head;

    static DEVICE void consume(const HopperParameters& h, const HeadPlace& at) {
        const Parameters& p = h.p;
        const float factor = p.scale * LOG2_E;
        float key_sums[WIDTH / 2], value_sums[WIDTH / 2];
        clear(key_sums);
        clear(value_sums);
        Side::consume(p.queries, [&](u32, u32 stage, float(&scores)[STEP / 2], float(&slopes)[STEP / 2]) {
            const float* known = reinterpret_cast<const float*>(tiles + (Side::extra(stage) - Side::own()));
#pragma unroll
            for (int i = 0; i < STEP / 2; i += 4) {
                const float2 lse = *reinterpret_cast<const float2*>(known + sum_column(i));
#pragma unroll
                for (int j = i; j < i + 4; ++j) scores[j] = fast_exp2(fmaf(scores[j], factor, -(j % 2 ? lse.y : lse.x)));
            }
            await_products<0>();
            pin(slopes);
#pragma unroll
            for (int i = 0; i < STEP / 2; i += 4) {
                const float2 delta = *reinterpret_cast<const float2*>(known + BOX + sum_column(i));
#pragma unroll
                for (int j = i; j < i + 4; ++j) slopes[j] = scores[j] * (slopes[j] - (j % 2 ? delta.y : delta.x));
            }
            const Halves<T, STEP> weights(scores);
            pin(value_sums);
            fence_products();
            Head::add_weighted(weights, Side::other(stage) + Side::OTHER, value_sums);
            const Halves<T, STEP> slope_weights(slopes);
            pin(key_sums);
            fence_products();
            Head::add_weighted(slope_weights, Side::other(stage), key_sums);
            await_products<0>();
            pin(value_sums);
            pin(key_sums);
        });
        i64 to[OPERANDS];
        locate(p.nest, at.sequence, to);
        const u32 row = at.row + (threadIdx.x / 128 - 1) * 64 + sum_row();
        const float scale[2] = {p.scale, p.scale}, one[2] = {1.0f, 1.0f};
        Head::store(static_cast<T*>(p.dk) + to[DK], p.row[DK], row, p.keys, p.width, key_sums, scale);
        Head::store(static_cast<T*>(p.dv) + to[DV], p.row[DV], row, p.keys, p.value_width, value_sums, one);
    }

    static DEVICE void run(const HopperParameters& h) {
        const u32 blocks = blocks_of(h.p.keys);
        const HeadPlace at = head_place(blockIdx.x % blocks * ROWS, blockIdx.x / blocks, h.heads, h.others);
        const auto also = [&](u32 n0, u32 to, u32 barrier) { copy_bytes(to, statistics(h.p, at.sequence, n0), STEP * 8, barrier); };
        Side::init_barriers();
        share_out([&] { Side::produce(h.k, h.v, h.q, h.gradient, at, h.p.queries, also); }, [&] { consume(h, at); });
    }
};

#define HOPPER(type, width) \
    HOPPER_KERNEL attention_backward_dq_##type##_hopper_##width(const __grid_constant__ HopperParameters h) { HopperQueries<type, width>::run(h); } \
    HOPPER_KERNEL attention_backward_dkv_##type##_hopper_##width(const __grid_constant__ HopperParameters h) { HopperKeys<type, width>::run(h); }
HOPPER_WIDTHS(HOPPER)
