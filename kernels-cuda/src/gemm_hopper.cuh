// The products of half types on Hopper: gemm.cu for what the copy engine can read.
//
// Operands lie along the depth or across it (the products of gradients: views that are transposed), as the copy engine finds them: tensor cores read both.
//
// Tiles of 256 columns come in pairs, one below the other, of two blocks of a cluster that share the operand of their columns: each asks for half of it and has
// it sent to both. A step of 64 in depth takes tensor cores 1024 cycles, and asks the cache for 48 KB for each multiprocessor; in pairs, for 32. Tiles of 128 columns
// are for products that have too few of them.
//
// A block stays on its multiprocessor and goes from tile to tile. One warpgroup asks the copy engine for tiles of both operands, STAGES ahead; two
// others multiply 64 rows each and write them (gemm_results_hopper.cuh), while the copies for the next tile are under way. The tiles of one part of
// the depth come in the order of `place`, so that blocks that run at the same time share operands in the cache.
#pragma once
#include "wgmma.cuh"

struct HopperParameters {
    TensorMap x, weight;    // [batches or 1, rows, depth] in tiles of rows x 64; across, [batches or 1, depth, rows] in tiles of 64 x 64
    TensorMap y, residual;  // [batches, rows, columns] and [batches or 1, rows, columns] in tiles of 64 x 64, where `by_engine`
    Parameters p;
};
static_assert(sizeof(HopperParameters) == 4 * 128 + sizeof(Parameters), "no gaps");

#include "gemm_results_hopper.cuh"

#define CLUSTER_128
#define CLUSTER_256 __cluster_dims__(2, 1, 1)
#define HOPPER_KERNEL(columns) extern "C" __global__ void CLUSTER_##columns __launch_bounds__(384, 1)

extern __shared__ __align__(1024) unsigned char tiles[];

// One operand: LINES rows of a tile.
template <int LINES, int LAYOUT> struct HopperOperand {
    static constexpr int DEPTH = 64, PIECE = 64 * DEPTH * 2, BYTES = LINES * DEPTH * 2;

    // Asks for part `part` of PARTS, for all blocks of a cluster of PARTS.
    template <int PARTS> static DEVICE void copy(u32 part, u32 to, const TensorMap& map, u32 k, u32 row, u32 matrix, u32 barrier) {
        constexpr int ROWS = LINES / PARTS;
        to += part * (BYTES / PARTS);
        row += part * ROWS;
        if constexpr (LAYOUT == ALONG) {
            copy_one<PARTS>(to, map, k, row, matrix, barrier);
        } else {
#pragma unroll
            for (int piece = 0; piece < ROWS / 64; ++piece) copy_one<PARTS>(to + piece * PIECE, map, row + piece * 64, k, matrix, barrier);
        }
    }
    template <int BLOCKS> static DEVICE void copy_one(u32 to, const TensorMap& map, u32 x, u32 y, u32 matrix, u32 barrier) {
        if constexpr (BLOCKS == 1) {
            copy_tile(to, map, x, y, matrix, barrier);
        } else {
            copy_tile_to((1 << BLOCKS) - 1, to, map, x, y, matrix, barrier);
        }
    }
    // From a multiple of 64 rows on, which lie PIECE bytes further either way.
    static DEVICE u64 descriptor(u32 tile, u32 row) {
        const u32 from = tile + row / 64 * PIECE;
        return LAYOUT == ALONG ? tile_descriptor(from) : across_descriptor(from, PIECE);
    }
    // What 16 elements further along the depth add to it.
    static constexpr u32 STEP = LAYOUT == ALONG ? 2 : 128;
};

template <class T, int COLUMNS, int LAYOUT_X, int LAYOUT_WEIGHT> struct HopperGemm {
    static constexpr int ROWS = 128, DEPTH = 64, STAGES = 4, CLUSTER = COLUMNS / 128;
    using X = HopperOperand<ROWS, LAYOUT_X>;
    using Weight = HopperOperand<COLUMNS, LAYOUT_WEIGHT>;
    static constexpr int A = X::BYTES, STAGE = A + Weight::BYTES;
    using Results = HopperResults<T, COLUMNS>;

    // Behind the stages what leaves, of two warpgroups, and all barriers.
    static DEVICE u32 leaving(u32 group) { return shared_address(tiles) + STAGES * STAGE + group * Results::BYTES; }
    static DEVICE u32 full(u32 stage) { return leaving(2) + stage * 8; }
    static DEVICE u32 empty(u32 stage) { return full(STAGES + stage); }
    static DEVICE u32 arrived(u32 group) { return full(2 * STAGES + 2 * group); }

    // A place among the stages, and the parity of the time that it is there.
    struct Turn {
        u32 stage = 0, parity = 0;
        DEVICE void next() {
            if (++stage == STAGES) {
                stage = 0;
                parity ^= 1;
            }
        }
    };

    // The first tile or pair of a block, and how many further its next one is.
    static DEVICE u32 first() { return blockIdx.x / CLUSTER; }
    static DEVICE u32 further() { return gridDim.x / CLUSTER; }
    static DEVICE u32 rank() { return blockIdx.x % CLUSTER; }
    static DEVICE Place own(const Parameters& p, u32 tile) {
        Place at = place<ROWS * CLUSTER, COLUMNS>(p, tile);
        at.m0 += rank() * ROWS;
        return at;
    }
    // Of one warp, at the barriers of all blocks that send to this one.
    static DEVICE void free(u32 stage) {
        if constexpr (CLUSTER == 1) {
            if (lane_index() == 0) barrier_arrive(empty(stage));
        } else {
            if (lane_index() < CLUSTER) barrier_arrive_at(empty(stage), lane_index());
        }
    }
    static DEVICE void sync() {
        if constexpr (CLUSTER == 1) {
            __syncthreads();
        } else {
            sync_cluster();
        }
    }

    static DEVICE u32 steps(const Parameters& p, const Place& at) {
        const u32 k0 = at.split * p.split_depth, k1 = min(p.depth, k0 + p.split_depth);
        return (k1 - k0 + DEPTH - 1) / DEPTH;
    }

    static DEVICE void produce(const HopperParameters& h) {
        Turn turn;
#pragma unroll 1
        for (u32 tile = first(); tile < h.p.tiles; tile += further()) {
            const Place at = own(h.p, tile);
            const u32 count = steps(h.p, at), k0 = at.split * h.p.split_depth;
#pragma unroll 1
            for (u32 step = 0; step < count; ++step, turn.next()) {
                barrier_wait(empty(turn.stage), turn.parity ^ 1);
                const u32 barrier = full(turn.stage), to = shared_address(tiles) + turn.stage * STAGE, k = k0 + step * DEPTH;
                barrier_arrive_expecting(barrier, STAGE);
                X::template copy<1>(0, to, h.x, k, at.m0, h.p.x_batched ? at.batch : 0, barrier);
                Weight::template copy<CLUSTER>(rank(), to + A, h.weight, k, at.n0, h.p.weight_batched ? at.batch : 0, barrier);
            }
        }
    }

    static DEVICE void consume(const HopperParameters& h) {
        const Parameters& p = h.p;
        const u32 group = threadIdx.x / 128 - 1;
        Results results(h, leaving(group), arrived(group));
        float sums[COLUMNS / 2];
#pragma unroll
        for (int i = 0; i < COLUMNS / 2; ++i) sums[i] = 0.0f;
        Turn turn;
#pragma unroll 1
        for (u32 tile = first(); tile < p.tiles; tile += further()) {
            const Place at = own(p, tile);
            const HopperTarget to = Results::target(p, at, group);
            const u32 count = steps(p, at);
            u32 before = 0;
#pragma unroll 1
            for (u32 step = 0; step < count; ++step, turn.next()) {
                barrier_wait(full(turn.stage), turn.parity);
                const u32 stage = shared_address(tiles) + turn.stage * STAGE;
                const u64 a = X::descriptor(stage, group * 64), b = Weight::descriptor(stage + A, 0);
                fence_products();
#pragma unroll
                for (int k = 0; k < DEPTH / 16; ++k) {
                    Products<T, COLUMNS>::template multiply_add<LAYOUT_X, LAYOUT_WEIGHT>(sums, a + X::STEP * k, b + Weight::STEP * k, k > 0 || step > 0);
                }
                commit_products();
                // While tensor cores have something to do.
                if (step == 0) results.begin(to);
                // The products of the step before are done: its place is free.
                await_products<1>();
                if (step > 0) free(before);
                before = turn.stage;
            }
            await_products<0>();
            pin(sums);
            free(before);
            results.write(to, sums);
        }
        results.end();
    }

    static DEVICE void run(const HopperParameters& h) {
        if (threadIdx.x == 0) {
            for (u32 stage = 0; stage < STAGES; ++stage) {
                barrier_init(full(stage), 1);
                barrier_init(empty(stage), 8 * CLUSTER);  // the warps of the consumers
            }
            for (u32 piece = 0; piece < 4; ++piece) barrier_init(arrived(0) + piece * 8, 1);
            publish_barriers();
        }
        sync();
        if (threadIdx.x < 128) {
            fewer_registers<40>();
            if (threadIdx.x == 0) produce(h);
        } else {
            more_registers<232>();
            consume(h);
        }
        // Shared memory goes with the block, and the other one may still arrive there.
        if constexpr (CLUSTER > 1) sync_cluster();
    }
};

#define HOPPER_KERNEL_OF(type, columns, suffix, layout_x, layout_weight) \
    HOPPER_KERNEL(columns) gemm_##type##_hopper_##columns##suffix(const __grid_constant__ HopperParameters h) { HopperGemm<type, columns, layout_x, layout_weight>::run(h); }
#define HOPPER_LAYOUTS(type, columns)                              \
    HOPPER_KERNEL_OF(type, columns, , ALONG, ALONG)                \
    HOPPER_KERNEL_OF(type, columns, _across_x, ACROSS, ALONG)      \
    HOPPER_KERNEL_OF(type, columns, _across_weight, ALONG, ACROSS) \
    HOPPER_KERNEL_OF(type, columns, _across, ACROSS, ACROSS)
HOPPER_LAYOUTS(bf16, 128)
HOPPER_LAYOUTS(bf16, 256)
HOPPER_LAYOUTS(f16, 128)
HOPPER_LAYOUTS(f16, 256)
