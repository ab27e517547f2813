// What becomes of the sums of gemm_hopper.cuh: alpha, bias, function and residual on their way to memory.
//
// Results leave by the copy engine, in pieces of 64 rows and 64 columns that lie in shared memory as its tensor map says (swizzle of 128 bytes). A
// warpgroup has room for two: while the engine reads one, the other is filled; the last ones of a tile leave while tensor cores work on the next.
// The residual comes by the engine, too, into the piece that its results replace: whole rows of 128 bytes, four sectors each, where threads that
// read what they hold would ask for halves of sectors, 16 times for each piece instead of four ldmatrix; and the first two pieces' are asked for
// while tensor cores work, so that they are there when the sums are. Eight rows of a fragment lie in eight different groups of banks: neither
// ldmatrix nor stmatrix waits for banks.
//
// Where the engine cannot (rows that are no multiples of 16 bytes, a residual that repeats rows) or where sums leave as they are (parts of the depth,
// f32, which `gemm_finish` adds up), threads store from rows of f32 in the same place: by 16 bytes where that is possible.
#pragma once
#include "wgmma.cuh"

// The 128 threads of a warpgroup of consumers, with a barrier of their own.
struct Warpgroup {
    static constexpr int THREADS = 128;
    static DEVICE u32 index() { return threadIdx.x % 128; }
    static DEVICE void sync() { asm volatile("bar.sync %0, 128;" ::"r"(threadIdx.x / 128) : "memory"); }
};

// Where the 64 rows of a warpgroup go, of a tile COLUMNS wide.
struct HopperTarget {
    u32 m0, n0, batch, split;
    u32 pieces;  // those that are not all outside
};

template <class T, int COLUMNS> struct HopperResults {
    static constexpr int PIECE = 64 * 64 * 2, BYTES = 2 * PIECE;
    // Of f32: 64 rows of 32, four floats between rows so that columns lie in different banks.
    static constexpr int PART = 32, PITCH = PART + 4;
    static_assert(64 * PITCH * 4 <= BYTES, "in the place of pieces");
    using Sums = float[COLUMNS / 2];

    const HopperParameters& h;
    u32 pieces, barriers;  // two each
    u32 before = 0;        // pieces of earlier tiles

    DEVICE HopperResults(const HopperParameters& h, u32 pieces, u32 barriers) : h(h), pieces(pieces), barriers(barriers) {}

    // The thread that speaks to the copy engine for all: waits for its groups are its own.
    static DEVICE bool leads() { return Warpgroup::index() == 0; }
    DEVICE bool adds() const { return h.p.by_engine && h.p.epilogue.residual; }
    DEVICE u32 place(u32 piece) const { return pieces + (before + piece) % 2 * PIECE; }
    DEVICE u32 arrived(u32 piece) const { return barriers + (before + piece) % 2 * 8; }

    static DEVICE HopperTarget target(const Parameters& p, const Place& at, u32 group) {
        const u32 m0 = at.m0 + group * 64;
        const u32 pieces = m0 < p.epilogue.rows ? min((u32)COLUMNS / 64, (p.epilogue.columns - at.n0 + 63) / 64) : 0;
        return {m0, at.n0, at.batch, at.split, pieces};
    }

    DEVICE void ask(const HopperTarget& to, u32 piece) const {
        barrier_arrive_expecting(arrived(piece), PIECE);
        copy_tile(place(piece), h.residual, to.n0 + piece * 64, to.m0, h.p.residual_batched ? to.batch : 0, arrived(piece));
    }
    // Asks for the residual of a tile's first two pieces, as soon as the engine has read what is there.
    DEVICE void begin(const HopperTarget& to) const {
        if (adds() && leads()) {
            await_reads<0>();
#pragma unroll 1
            for (u32 piece = 0; piece < min(to.pieces, 2u); ++piece) ask(to, piece);
        }
        __syncwarp();
    }

    DEVICE void write(const HopperTarget& to, const Sums& sums) {
        if (h.p.by_engine) {
            write_pieces(to, sums);
        } else if (to.pieces > 0) {
            write_vectors(to, sums);
        }
    }
    DEVICE void end() const {
        if (leads()) await_reads<0>();
    }

    DEVICE void write_pieces(const HopperTarget& to, const Sums& sums) {
#pragma unroll 1
        for (u32 piece = 0; piece < to.pieces; ++piece) {
            float x[32];
            take(sums, piece, x);
            finish(h.p.epilogue, to.n0 + piece * 64, x);
            // The piece before has been read: others learn of that at the barrier, before they write there.
            if (leads()) {
                await_reads<0>();
                if (adds() && piece > 0 && piece + 1 < to.pieces) ask(to, piece + 1);
            }
            __syncwarp();
            put(place(piece), adds(), arrived(piece), (before + piece) / 2 % 2, x);
            fence_copies();
            Warpgroup::sync();
            if (leads()) {
                store_piece(h.y, to.n0 + piece * 64, to.m0, to.batch, place(piece));
                commit_stores();
            }
            __syncwarp();
        }
        before += to.pieces;
    }

    // Registers have no addresses: all sums stand here, and those of one piece are taken.
    static DEVICE void take(const Sums& sums, u32 piece, float (&x)[32]) {
#pragma unroll
        for (int i = 0; i < COLUMNS / 2; ++i) {
            if (i < 32 || i / 32 == piece) x[i % 32] = sums[i];
        }
    }

    static DEVICE void finish(const Epilogue& e, u32 n0, float (&x)[32]) {
        if (e.bias || e.function != NONE || e.alpha != 1.0f) {
#pragma unroll
            for (int i = 0; i < 32; i += 4) {
                const u32 column = n0 + i * 2 + lane_index() % 4 * 2;
                Pack<T, 2> bias = {};
                if (e.bias && column < e.columns) bias = load_pack<T, 2>(static_cast<const T*>(e.bias) + column);
#pragma unroll
                for (int v = 0; v < 4; ++v) x[i + v] = e.alpha * x[i + v] + to_float(bias.x[v % 2]);
            }
        }
        if (e.function != NONE) {
            // Four at a time, so that one need not wait for the other; and then all move on, so that the function's code is there once.
#pragma unroll 1
            for (int i = 0; i < 32; i += 4) {
                float four[4] = {x[0], x[1], x[2], x[3]};
                apply_each(e.function, four);
#pragma unroll
                for (int v = 0; v < 28; ++v) x[v] = x[v + 4];
#pragma unroll
                for (int v = 0; v < 4; ++v) x[28 + v] = four[v];
            }
        }
    }

    // Rounds the numbers of this thread, and puts them where they belong, upon the residual's if there is one.
    static DEVICE void put(u32 place, bool adds, u32 arrived, u32 parity, float (&x)[32]) {
        const u32 lane = lane_index(), row = threadIdx.x % 128 / 32 * 16 + lane % 16, chunk = lane / 16 ^ lane % 8;
        if (adds) barrier_wait(arrived, parity);
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            const u32 at = place + row * 128 + ((i * 2 ^ chunk) << 4);
            u32 words[4];
            if (adds) load_matrices(at, words);
#pragma unroll
            for (int w = 0; w < 4; ++w) {
                float low = x[i * 8 + w * 2], high = x[i * 8 + w * 2 + 1];
                if (adds) {
                    const Pack<T, 2> add = *reinterpret_cast<const Pack<T, 2>*>(&words[w]);
                    low += to_float(add.x[0]);
                    high += to_float(add.x[1]);
                }
                words[w] = pack_two<T>(low, high);
            }
            store_matrices(at, words);
        }
    }

    // 32 columns at a time, through rows of f32.
    DEVICE void write_vectors(const HopperTarget& to, const Sums& sums) const {
        const Parameters& p = h.p;
        extern __shared__ __align__(1024) unsigned char tiles[];
        float* out = reinterpret_cast<float*>(tiles + (pieces - shared_address(tiles)));
        const u32 lane = lane_index(), row = threadIdx.x % 128 / 32 * 16 + lane / 4;
        const i64 size = (i64)p.epilogue.rows * p.epilogue.columns;
        i64 offset[3];
        locate(p.batch, to.batch, offset);
#pragma unroll 1
        for (u32 part = 0; part < COLUMNS / PART; ++part) {
            const u32 n0 = to.n0 + part * PART;
            if (n0 >= p.epilogue.columns) break;
            Warpgroup::sync();
            // As above.
#pragma unroll
            for (int i = 0; i < COLUMNS / 2; i += 2) {
                if (i / (PART / 2) == part) {
                    const int inside = i % (PART / 2);
                    float* at = out + (row + inside / 2 % 2 * 8) * PITCH + inside / 4 * 8 + lane % 4 * 2;
                    *reinterpret_cast<float2*>(at) = make_float2(sums[i], sums[i + 1]);
                }
            }
            Warpgroup::sync();
            if (p.splits > 1) {
                float* partial = p.partial + ((i64)to.split * p.batches + to.batch) * size;
                store_partial_by<64, PART, PITCH, Warpgroup>(partial, out, to.m0, n0, p.epilogue.rows, p.epilogue.columns);
            } else {
                store_tile_by<T, 64, PART, PITCH, Warpgroup>(p.epilogue, out, to.m0, n0, offset[2], to.batch * size);
            }
        }
    }
};
