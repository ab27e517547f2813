// Tiles of bf16 and f16 on tensor cores, with sums in f32.
//
// mma.sync m16n8k16 reads fragments that ldmatrix deals out of shared memory; cp.async fills the next tiles meanwhile, three ahead. 32 elements of depth
// make rows of 64 bytes; their 16-byte chunks are permuted so that the eight rows of an ldmatrix lie in eight different groups of banks.
#pragma once
#include "product.cuh"

// ---- PTX ----

DEVICE u32 shared_address(const void* at) { return (u32)__cvta_generic_to_shared(at); }

// 16 bytes to shared memory; those beyond the first `bytes` are zeros and are not read.
DEVICE void copy_async(u32 to, const void* from, u32 bytes) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(bytes) : "memory");
}
DEVICE void commit_copies() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int PENDING> DEVICE void await_copies() { asm volatile("cp.async.wait_group %0;" ::"n"(PENDING) : "memory"); }

// 16 bytes to shared memory, out of registers.
DEVICE void store_chunk(u32 to, uint4 bits) {
    asm volatile("st.shared.v4.u32 [%0], {%1, %2, %3, %4};" ::"r"(to), "r"(bits.x), "r"(bits.y), "r"(bits.z), "r"(bits.w) : "memory");
}

DEVICE Pack<unsigned short, 8> load_chunk(u32 from) {
    uint4 bits;
    asm volatile("ld.shared.v4.u32 {%0, %1, %2, %3}, [%4];" : "=r"(bits.x), "=r"(bits.y), "=r"(bits.z), "=r"(bits.w) : "r"(from) : "memory");
    return *reinterpret_cast<Pack<unsigned short, 8>*>(&bits);
}

DEVICE void load_matrices(u32 from, u32 (&r)[4]) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];" : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(from) : "memory");
}
DEVICE void load_matrices_transposed(u32 from, u32 (&r)[4]) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];" : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(from) : "memory");
}

template <class T> DEVICE void multiply_add(float (&c)[4], const u32 (&a)[4], u32 b0, u32 b1);
template <> DEVICE void multiply_add<bf16>(float (&c)[4], const u32 (&a)[4], u32 b0, u32 b1) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3]) : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
template <> DEVICE void multiply_add<f16>(float (&c)[4], const u32 (&a)[4], u32 b0, u32 b1) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3]) : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

template <class T> DEVICE u32 pack_two(float low, float high) {
    Pack<T, 2> two;
    two.x[0] = from_float<T>(low);
    two.x[1] = from_float<T>(high);
    return *reinterpret_cast<u32*>(&two);
}

// ---- tiles ----

constexpr int MMA_DEPTH = 32, MMA_STAGES = 4;

// Where chunk `chunk` of row `row` lies in a tile of rows of 32 elements, in bytes.
DEVICE u32 along_offset(u32 row, u32 chunk) { return row * 64 + ((chunk ^ (row >> 1 & 3)) << 4); }
// Where chunk `chunk` of the rows at depth `k` lies in a tile that is stored across, ROWS elements for each k.
template <int ROWS> DEVICE u32 across_offset(u32 k, u32 chunk) { return k * ROWS * 2 + ((chunk ^ (k & 7)) << 4); }

// How a tile is stored: rows along k, or k along rows, or as the source's `across` says, which costs a branch and saves a kernel.
constexpr int ALONG = 0, ACROSS = 1, EITHER = 2;
template <int LAYOUT, class Source> DEVICE bool is_across(const Source& source) {
    if constexpr (LAYOUT == EITHER) return source.across;
    return LAYOUT == ACROSS;
}

// Fills a tile of ROWS x 32 at `to` with chunks of 8 that the source places: neighbours along rows where it is stored across, else along k.
template <int ROWS, int THREADS, int LAYOUT, class Source> DEVICE void fill(u32 to, const Source& source, u32 row0, u32 k0) {
    // Not unrolled: placing may be much code.
    if constexpr (LAYOUT != ALONG) {
        if (is_across<LAYOUT>(source)) {
#pragma unroll 1
            for (u32 c = threadIdx.x; c < ROWS * 4; c += THREADS) {
                const u32 d = c / (ROWS / 8), chunk = c % (ROWS / 8);
                source.place_across(to + across_offset<ROWS>(d, chunk), row0 + chunk * 8, k0 + d);
            }
            return;
        }
    }
    if constexpr (LAYOUT != ACROSS) {
#pragma unroll 1
        for (u32 c = threadIdx.x; c < ROWS * 4; c += THREADS) {
            const u32 r = c / 4, chunk = c % 4;
            source.place(to + along_offset(r, chunk), row0 + r, k0 + chunk * 8);
        }
    }
}

// A matrix that fills tiles: with cp.async where it is wide, else element by element.
template <class T> struct TiledMatrix : Matrix<T> {
    DEVICE void place(u32 to, u32 row, u32 k) const {
        if (this->wide) {
            const u32 there = row < this->rows && k < this->depth ? min(this->depth - k, 8u) * 2 : 0;
            copy_async(to, there ? this->base + row * this->row_stride + k : this->base, there);
        } else {
            place_chunk<T>(*this, to, row, k);
        }
    }
    DEVICE void place_across(u32 to, u32 row, u32 k) const {
        const u32 there = k < this->depth && row < this->rows ? min(this->rows - row, 8u) * 2 : 0;
        const void* from = there ? this->base + row * this->row_stride + k * this->depth_stride : this->base;
        copy_async(to, from, there);
    }
    template <class U, class Source> static DEVICE void place_chunk(const Source& source, u32 to, u32 row, u32 k) {
        U held[8];
        source.template chunk<8>(row, k, held);
        store_chunk(to, *reinterpret_cast<const uint4*>(held));
    }
};

// ROWS x COLUMNS results by WARPS_M x WARPS_N warps.
template <class T, int ROWS, int COLUMNS, int WARPS_M, int WARPS_N, int LAYOUT_A, int LAYOUT_B> struct Mma {
    static constexpr int THREADS = 32 * WARPS_M * WARPS_N, PITCH = COLUMNS + 8;
    static constexpr int WARP_ROWS = ROWS / WARPS_M, WARP_COLUMNS = COLUMNS / WARPS_N;
    static constexpr int FRAGMENTS_M = WARP_ROWS / 16, FRAGMENTS_N = WARP_COLUMNS / 8;
    static constexpr int AHEAD = MMA_STAGES - 1;
    static constexpr int STAGE = (ROWS + COLUMNS) * MMA_DEPTH * 2;
    static constexpr int SHARED = STAGE * MMA_STAGES > ROWS * PITCH * 4 ? STAGE * MMA_STAGES : ROWS * PITCH * 4;

    // The fragments of 16 rows from `row` on at depth `step * 16`.
    template <int TILE_ROWS> static DEVICE void load_a(bool across, u32 tile, u32 row, int step, u32 (&r)[4]) {
        const u32 lane = lane_index();
        if (across) {
            load_matrices_transposed(tile + across_offset<TILE_ROWS>(step * 16 + lane % 8 + lane / 16 * 8, row / 8 + (lane / 8 & 1)), r);
        } else {
            load_matrices(tile + along_offset(row + lane % 16, step * 2 + lane / 16), r);
        }
    }
    // Those of 16 columns: r[0], r[1] for the first eight, r[2], r[3] for the others.
    template <int TILE_ROWS> static DEVICE void load_b(bool across, u32 tile, u32 row, int step, u32 (&r)[4]) {
        const u32 lane = lane_index();
        if (across) {
            load_matrices_transposed(tile + across_offset<TILE_ROWS>(step * 16 + lane % 16, row / 8 + lane / 16), r);
        } else {
            load_matrices(tile + along_offset(row + lane % 8 + lane / 16 * 8, step * 2 + (lane / 8 & 1)), r);
        }
    }

    // Leaves the sums in `shared`, row by row.
    template <class A, class B> static DEVICE void product(const A& a, const B& b, u32 m0, u32 n0, u32 k0, u32 k1, float* shared) {
        const u32 base = shared_address(shared);
        const u32 warp_m = warp_index() / WARPS_N * WARP_ROWS, warp_n = warp_index() % WARPS_N * WARP_COLUMNS;
        const u32 tiles = k1 > k0 ? (k1 - k0 + MMA_DEPTH - 1) / MMA_DEPTH : 0;
        float sums[FRAGMENTS_M][FRAGMENTS_N][4];
#pragma unroll
        for (int i = 0; i < FRAGMENTS_M; ++i) {
#pragma unroll
            for (int j = 0; j < FRAGMENTS_N; ++j) {
#pragma unroll
                for (int v = 0; v < 4; ++v) sums[i][j][v] = 0.0f;
            }
        }
        // Filling runs three tiles ahead of multiplying in one loop, so that the code of `fill` is there once.
#pragma unroll 1
        for (u32 ahead = 0; ahead < tiles + AHEAD; ++ahead) {
            if (ahead >= AHEAD) {
                await_copies<AHEAD - 1>();
                // The tile is there for everyone, and everyone is done with the one before, whose place the next takes.
                __syncthreads();
            }
            if (ahead < tiles) {
                const u32 to = base + ahead % MMA_STAGES * STAGE, k = k0 + ahead * MMA_DEPTH;
                fill<ROWS, THREADS, LAYOUT_A>(to, a, m0, k);
                fill<COLUMNS, THREADS, LAYOUT_B>(to + ROWS * MMA_DEPTH * 2, b, n0, k);
            }
            // A group for each tile, also where there is none, so that counting groups counts tiles.
            commit_copies();
            if (ahead < AHEAD) continue;
            const u32 tile = ahead - AHEAD;
            const u32 tile_a = base + tile % MMA_STAGES * STAGE, tile_b = tile_a + ROWS * MMA_DEPTH * 2;
#pragma unroll
            for (int step = 0; step < MMA_DEPTH / 16; ++step) {
                u32 fragments_a[FRAGMENTS_M][4], fragments_b[FRAGMENTS_N / 2][4];
#pragma unroll
                for (int i = 0; i < FRAGMENTS_M; ++i) load_a<ROWS>(is_across<LAYOUT_A>(a), tile_a, warp_m + i * 16, step, fragments_a[i]);
#pragma unroll
                for (int j = 0; j < FRAGMENTS_N / 2; ++j) load_b<COLUMNS>(is_across<LAYOUT_B>(b), tile_b, warp_n + j * 16, step, fragments_b[j]);
#pragma unroll
                for (int i = 0; i < FRAGMENTS_M; ++i) {
#pragma unroll
                    for (int j = 0; j < FRAGMENTS_N; ++j) {
                        multiply_add<T>(sums[i][j], fragments_a[i], fragments_b[j / 2][j % 2 * 2], fragments_b[j / 2][j % 2 * 2 + 1]);
                    }
                }
            }
        }
        await_copies<0>();
        __syncthreads();
        const u32 row = warp_m + lane_index() / 4, column = warp_n + lane_index() % 4 * 2;
#pragma unroll
        for (int i = 0; i < FRAGMENTS_M; ++i) {
#pragma unroll
            for (int j = 0; j < FRAGMENTS_N; ++j) {
                float* at = shared + (row + i * 16) * PITCH + column + j * 8;
                *reinterpret_cast<float2*>(at) = make_float2(sums[i][j][0], sums[i][j][1]);
                *reinterpret_cast<float2*>(at + 8 * PITCH) = make_float2(sums[i][j][2], sums[i][j][3]);
            }
        }
        __syncthreads();
    }
};
