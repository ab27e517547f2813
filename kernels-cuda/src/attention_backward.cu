// With P = exp(scale * q * k^T - lse) and D = sum of gradient * out for each query: dv = P^T * gradient, dS = P o (gradient * v^T - D),
// dq = scale * dS * k, dk = scale * dS^T * q (Dao et al., FlashAttention, section 3.1).
//
// `_delta` leaves D. `_dq` has 64 queries a block and goes through the keys, `_dkv` has 64 keys and goes through the queries: scores are computed
// twice, and every gradient is summed by one block in one order, without atomics. As in attention.cu, half types with heads of up to 64 columns run on
// tensor cores, others on ordinary ones with 64 columns a block. On Hopper, heads that the copy engine can read go by attention_backward_hopper.cuh.
//
// Also for compute_90a.
#include "attention.cuh"
#include "attention_short.cuh"

enum Operand { Q, K, V, OUT, LSE, GRADIENT, DQ, DK, DV, OPERANDS };

struct Parameters {
    void* q;
    void* k;
    void* v;
    void* out;
    const float* lse;
    void* gradient;
    void* dq;
    void* dk;
    void* dv;
    float* delta;         // [sequences, queries]; statistics in attention_backward_hopper.cuh
    Nest<OPERANDS> nest;  // of sequences
    i64 row[OPERANDS];    // from token to token
    i64 channel[OPERANDS];
    u32 queries;
    u32 keys;
    u32 width;
    u32 value_width;
    u32 query_tiles;
    u32 key_tiles;
    u32 query_chunks;  // of the columns of dq
    u32 key_chunks;    // of the columns of dk and dv
    u32 sequences;
    float scale;
    u32 type;
    u32 packed;  // sequences of a tile, for short ones
    u32 wide[OPERANDS + 1];  // whether an operand can be read by 16 bytes; one more for an even number
};

DEVICE Sequence sequence(const Parameters& p, void* base, const i64 (&at)[OPERANDS], int n, u32 rows, u32 width) {
    return {base, at[n], p.row[n], p.channel[n], rows, width, p.type};
}

// The operands of the scores and of their slopes, of one sequence.
struct Sequences {
    Sequence q, k, v, gradient;
};
DEVICE Sequences sequences(const Parameters& p, const i64 (&at)[OPERANDS]) {
    return {sequence(p, p.q, at, Q, p.queries, p.width), sequence(p, p.k, at, K, p.keys, p.width),
            sequence(p, p.v, at, V, p.keys, p.value_width), sequence(p, p.gradient, at, GRADIENT, p.queries, p.value_width)};
}

// lse and D of a query of sequence `index`; beyond the last, zeros that nothing uses.
struct Statistics {
    float lse, delta;
};
DEVICE Statistics statistics_of(const Parameters& p, const i64 (&at)[OPERANDS], u32 index, u32 query) {
    if (query >= p.queries) return {0.0f, 0.0f};
    return {p.lse[at[LSE] + query * p.row[LSE]], p.delta[(u64)index * p.queries + query]};
}

// A warp for each query.
DEVICE void delta(const Parameters& p) {
    const u32 task = blockIdx.x * 8 + warp_index();
    if (task >= p.sequences * p.queries) return;
    i64 at[OPERANDS];
    locate(p.nest, task / p.queries, at);
    const Sequence out = sequence(p, p.out, at, OUT, p.queries, p.value_width);
    const Sequence gradient = sequence(p, p.gradient, at, GRADIENT, p.queries, p.value_width);
    const u32 row = task % p.queries;
    float sum = 0.0f;
    for (u32 c = lane_index(); c < p.value_width; c += 32) {
        sum += out.at(row, c) * gradient.at(row, c);
    }
    sum = warp_sum(sum);
    if (lane_index() == 0) p.delta[task] = sum;
}

DEVICE void dq(const Parameters& p) {
    __shared__ Tiles shared;
    const u32 m0 = blockIdx.x % p.query_tiles * TILE, c0 = blockIdx.x / p.query_tiles % p.query_chunks * TILE;
    const u32 index = blockIdx.x / p.query_tiles / p.query_chunks;
    i64 at[OPERANDS];
    locate(p.nest, index, at);
    const auto [q, k, v, gradient] = sequences(p, at);
    Statistics query[OWN];
    float sums[OWN][OWN];
    clear(sums);
#pragma unroll
    for (int i = 0; i < OWN; ++i) query[i] = statistics_of(p, at, index, m0 + own_row(i));
#pragma unroll 1
    for (u32 n0 = 0; n0 < p.keys; n0 += TILE) {
        float scores[OWN][OWN], slopes[OWN][OWN];
        multiply(q, m0, k, n0, shared, scores);
        multiply(gradient, m0, v, n0, shared, slopes);
#pragma unroll
        for (int i = 0; i < OWN; ++i) {
#pragma unroll
            for (int j = 0; j < OWN; ++j) {
                const bool inside = m0 + own_row(i) < p.queries && n0 + own_column(j) < p.keys;
                const float weight = inside ? fast_exp(scores[i][j] * p.scale - query[i].lse) : 0.0f;
                shared.weights[own_row(i)][own_column(j)] = weight * (slopes[i][j] - query[i].delta);
            }
        }
        add_weighted(k, n0, c0, shared, sums);
    }
    store_rows(sequence(p, p.dq, at, DQ, p.queries, p.width), m0, c0, shared, sums, p.scale);
}

DEVICE void dkv(const Parameters& p) {
    __shared__ Tiles shared;
    const u32 m0 = blockIdx.x % p.key_tiles * TILE, c0 = blockIdx.x / p.key_tiles % p.key_chunks * TILE;
    const u32 index = blockIdx.x / p.key_tiles / p.key_chunks;
    i64 at[OPERANDS];
    locate(p.nest, index, at);
    const auto [q, k, v, gradient] = sequences(p, at);
    float key_sums[OWN][OWN], value_sums[OWN][OWN];
    clear(key_sums);
    clear(value_sums);
#pragma unroll 1
    for (u32 n0 = 0; n0 < p.queries; n0 += TILE) {
        float weights[OWN][OWN], slopes[OWN][OWN], delta[OWN];
        multiply(k, m0, q, n0, shared, weights);
        multiply(v, m0, gradient, n0, shared, slopes);
#pragma unroll
        for (int j = 0; j < OWN; ++j) {
            const u32 query = n0 + own_column(j);
            const Statistics found = statistics_of(p, at, index, query);
            delta[j] = found.delta;
#pragma unroll
            for (int i = 0; i < OWN; ++i) {
                const bool inside = m0 + own_row(i) < p.keys && query < p.queries;
                weights[i][j] = inside ? fast_exp(weights[i][j] * p.scale - found.lse) : 0.0f;
                shared.weights[own_row(i)][own_column(j)] = weights[i][j];
            }
        }
        add_weighted(gradient, n0, c0, shared, value_sums);
#pragma unroll
        for (int i = 0; i < OWN; ++i) {
#pragma unroll
            for (int j = 0; j < OWN; ++j) shared.weights[own_row(i)][own_column(j)] = weights[i][j] * (slopes[i][j] - delta[j]);
        }
        add_weighted(q, n0, c0, shared, key_sums);
    }
    store_rows(sequence(p, p.dk, at, DK, p.keys, p.width), m0, c0, shared, key_sums, p.scale);
    store_rows(sequence(p, p.dv, at, DV, p.keys, p.value_width), m0, c0, shared, value_sums, 1.0f);
}

KERNEL attention_backward_delta(PARAMETERS p) { delta(p); }
KERNEL attention_backward_dq(PARAMETERS p) { dq(p); }
ROOMY_KERNEL attention_backward_dkv(PARAMETERS p) { dkv(p); }

// ---- on tensor cores ----

extern __shared__ float4 dynamic_shared[];

DEVICE TiledMatrix<Bits> operand(const Parameters& p, const void* base, const i64 (&at)[OPERANDS], int n, u32 rows, u32 width) {
    return head(base, at[n], p.row[n], p.channel[n], rows, width, p.wide[n]);
}

// What a block reads: two heads of its own rows, and two that it goes through.
struct Heads {
    TiledMatrix<Bits> own[2], other[2];
};

// Calls step(n0, stage, own, other) for each tile of the `count` rows that the block goes through: the shared addresses of the tiles. `also` fetches what
// else belongs to a stage. Fetching runs a tile ahead of computing in one loop, so that its code is there once.
template <class Also, class Step> DEVICE void go_through(const Heads& heads, u32 m0, u32 count, const Also& also, const Step& step) {
    const u32 own = shared_address(dynamic_shared);
    fill_head(own, heads.own[0], m0);
    fill_head(own + HEAD_TILE, heads.own[1], m0);
#pragma unroll 1
    for (u32 n0 = 0, stage = 0; n0 < count + KEYS; n0 += KEYS, stage ^= 1) {
        const u32 next = own + HEAD_TILE * (2 + 2 * stage), here = own + HEAD_TILE * (2 + 2 * (stage ^ 1));
        if (n0 < count) {
            fill_head(next, heads.other[0], n0);
            fill_head(next + HEAD_TILE, heads.other[1], n0);
            also(n0, stage);
        }
        commit_copies();
        if (n0 == 0) continue;
        await_copies<1>();
        __syncthreads();
        step(n0 - KEYS, stage ^ 1, own, here);
        __syncthreads();
    }
    // Where there was nothing to go through, nobody has waited for anybody yet.
    await_copies<0>();
    __syncthreads();
}

// The two products of this warp's own rows with a tile of the others.
DEVICE void multiply_heads(u32 type, u32 own, u32 here, Fragments& first, Fragments& second) {
    clear(first);
    clear(second);
    multiply_rows(type, own, warp_index() * 16, here, first);
    multiply_rows(type, own + HEAD_TILE, warp_index() * 16, here + HEAD_TILE, second);
}

KERNEL attention_backward_dq_half(PARAMETERS p) {
    const u32 m0 = blockIdx.x % p.query_tiles * KEYS, index = blockIdx.x / p.query_tiles;
    i64 at[OPERANDS];
    locate(p.nest, index, at);
    Heads heads;
    heads.own[0] = operand(p, p.q, at, Q, p.queries, p.width);
    heads.own[1] = operand(p, p.gradient, at, GRADIENT, p.queries, p.value_width);
    heads.other[0] = operand(p, p.k, at, K, p.keys, p.width);
    heads.other[1] = operand(p, p.v, at, V, p.keys, p.value_width);
    const Statistics query[2] = {statistics_of(p, at, index, m0 + fragment_row(0)), statistics_of(p, at, index, m0 + fragment_row(1))};
    Fragments sums;
    clear(sums);
    go_through(heads, m0, p.keys, [](u32, u32) {}, [&](u32 n0, u32, u32 own, u32 here) {
        Fragments weights, slopes;
        multiply_heads(p.type, own, here, weights, slopes);
#pragma unroll
        for (int r = 0; r < 2; ++r) {
#pragma unroll
            for (int i = 0; i < 16; ++i) {
                const bool inside = m0 + fragment_row(r) < p.queries && n0 + fragment_column(i) < p.keys;
                float& weight = element(weights, r, i);
                weight = inside ? fast_exp(weight * p.scale - query[r].lse) * (element(slopes, r, i) - query[r].delta) : 0.0f;
            }
        }
        add_weighted_rows(p.type, weights, here, sums);
    });
    const float factor[2] = {p.scale, p.scale};
    store_fragments(p.type, p.dq, at[DQ], p.row[DQ], p.queries, p.width, m0, sums, factor, reinterpret_cast<float*>(dynamic_shared));
}

KERNEL attention_backward_dkv_half(PARAMETERS p) {
    __shared__ float lse[2][KEYS], delta[2][KEYS];
    const u32 m0 = blockIdx.x % p.key_tiles * KEYS, index = blockIdx.x / p.key_tiles;
    i64 at[OPERANDS];
    locate(p.nest, index, at);
    Heads heads;
    heads.own[0] = operand(p, p.k, at, K, p.keys, p.width);
    heads.own[1] = operand(p, p.v, at, V, p.keys, p.value_width);
    heads.other[0] = operand(p, p.q, at, Q, p.queries, p.width);
    heads.other[1] = operand(p, p.gradient, at, GRADIENT, p.queries, p.value_width);
    const auto statistics = [&](u32 n0, u32 stage) {
        if (threadIdx.x >= KEYS) return;
        const Statistics found = statistics_of(p, at, index, n0 + threadIdx.x);
        lse[stage][threadIdx.x] = found.lse;
        delta[stage][threadIdx.x] = found.delta;
    };
    Fragments key_sums, value_sums;
    clear(key_sums);
    clear(value_sums);
    go_through(heads, m0, p.queries, statistics, [&](u32 n0, u32 stage, u32 own, u32 here) {
        Fragments weights, slopes;
        multiply_heads(p.type, own, here, weights, slopes);
#pragma unroll
        for (int r = 0; r < 2; ++r) {
#pragma unroll
            for (int i = 0; i < 16; ++i) {
                const u32 query = fragment_column(i);
                const bool inside = m0 + fragment_row(r) < p.keys && n0 + query < p.queries;
                float& weight = element(weights, r, i);
                weight = inside ? fast_exp(weight * p.scale - lse[stage][query]) : 0.0f;
                element(slopes, r, i) = weight * (element(slopes, r, i) - delta[stage][query]);
            }
        }
        add_weighted_rows(p.type, weights, here + HEAD_TILE, value_sums);
        add_weighted_rows(p.type, slopes, here, key_sums);
    });
    const float factor[2] = {p.scale, p.scale}, one[2] = {1.0f, 1.0f};
    store_fragments(p.type, p.dk, at[DK], p.row[DK], p.keys, p.width, m0, key_sums, factor, reinterpret_cast<float*>(dynamic_shared));
    store_fragments(p.type, p.dv, at[DV], p.row[DV], p.keys, p.value_width, m0, value_sums, one, reinterpret_cast<float*>(dynamic_shared));
}

// ---- short sequences ----

// The product of row `row` of two tiles, by two threads: of 32 columns each.
DEVICE float row_product(u32 type, u32 a, u32 b, u32 row) {
    float sum = 0.0f;
#pragma unroll
    for (u32 chunk = threadIdx.x % 2 * 4, end = chunk + 4; chunk < end; ++chunk) {
        const auto x = load_chunk(a + head_offset(row, chunk)), y = load_chunk(b + head_offset(row, chunk));
#pragma unroll
        for (int i = 0; i < 8; ++i) sum = fmaf(half_as(type, x.x[i]), half_as(type, y.x[i]), sum);
    }
    return sum + __shfl_xor_sync(ALL_LANES, sum, 1);
}

// A tile has all that its sequences need, and leaves all three gradients at once.
ROOMY_KERNEL attention_backward_short(PARAMETERS p) {
    __shared__ i64 places[PACKED][OPERANDS];
    __shared__ float lse[KEYS], deltas[KEYS];
    const u32 first = blockIdx.x * p.packed;
    const Packing packing = {min(p.packed, p.sequences - first), p.queries, p.keys}, turned = packing.turned();
    if (threadIdx.x < packing.count) {
        i64 at[OPERANDS];
        locate(p.nest, first + threadIdx.x, at);
#pragma unroll
        for (int n = 0; n < OPERANDS; ++n) places[threadIdx.x][n] = at[n];
    }
    __syncthreads();
    const i64 start[OPERANDS] = {};
    const u32 queries = shared_address(dynamic_shared), gradients = queries + HEAD_TILE, keys = gradients + HEAD_TILE, values = keys + HEAD_TILE;
    // Where results are on their way out later.
    const u32 outs = values + HEAD_TILE;
    float* staged = reinterpret_cast<float*>(dynamic_shared) + 4 * HEAD_TILE / 4;
    packing.fill<OPERANDS>(queries, operand(p, p.q, start, Q, p.queries, p.width), &places[0][Q]);
    packing.fill<OPERANDS>(gradients, operand(p, p.gradient, start, GRADIENT, p.queries, p.value_width), &places[0][GRADIENT]);
    packing.fill<OPERANDS>(outs, operand(p, p.out, start, OUT, p.queries, p.value_width), &places[0][OUT]);
    turned.fill<OPERANDS>(keys, operand(p, p.k, start, K, p.keys, p.width), &places[0][K]);
    turned.fill<OPERANDS>(values, operand(p, p.v, start, V, p.keys, p.value_width), &places[0][V]);
    commit_copies();
    if (threadIdx.x < KEYS) {
        const u32 sequence = threadIdx.x / p.queries, query = threadIdx.x - sequence * p.queries;
        lse[threadIdx.x] = sequence < packing.count ? p.lse[places[sequence][LSE] + query * p.row[LSE]] : 0.0f;
    }
    await_copies<0>();
    __syncthreads();
    const float delta = row_product(p.type, outs, gradients, threadIdx.x / 2);
    if (threadIdx.x % 2 == 0) deltas[threadIdx.x / 2] = delta;
    __syncthreads();
    const float scale[2] = {p.scale, p.scale}, one[2] = {1.0f, 1.0f};
    const u32 row = warp_index() * 16;
    Fragments weights, slopes, sums;
    clear(weights);
    clear(slopes);
    clear(sums);
    Blocks blocks = packing.blocks();
    multiply_rows(p.type, queries, row, keys, weights, blocks);
    multiply_rows(p.type, gradients, row, values, slopes, blocks);
#pragma unroll
    for (int r = 0; r < 2; ++r) {
        const Blocks own = packing.own(r);
        const Statistics query = {lse[fragment_row(r)], deltas[fragment_row(r)]};
#pragma unroll
        for (int i = 0; i < 16; ++i) {
            float& weight = element(weights, r, i);
            weight = own.has(fragment_column(i)) ? fast_exp(weight * p.scale - query.lse) * (element(slopes, r, i) - query.delta) : 0.0f;
        }
    }
    add_weighted_rows(p.type, weights, keys, sums, blocks);
    packing.store<OPERANDS>(p.type, p.dq, &places[0][DQ], p.row[DQ], p.width, sums, scale, staged);

    Fragments value_sums;
    clear(weights);
    clear(slopes);
    clear(sums);
    clear(value_sums);
    blocks = turned.blocks();
    multiply_rows(p.type, keys, row, queries, weights, blocks);
    multiply_rows(p.type, values, row, gradients, slopes, blocks);
#pragma unroll
    for (int r = 0; r < 2; ++r) {
        const Blocks own = turned.own(r);
#pragma unroll
        for (int i = 0; i < 16; ++i) {
            const u32 query = fragment_column(i);
            float& weight = element(weights, r, i);
            weight = own.has(query) ? fast_exp(weight * p.scale - lse[query]) : 0.0f;
            element(slopes, r, i) = weight * (element(slopes, r, i) - deltas[query]);
        }
    }
    add_weighted_rows(p.type, weights, gradients, value_sums, blocks);
    add_weighted_rows(p.type, slopes, queries, sums, blocks);
    turned.store<OPERANDS>(p.type, p.dk, &places[0][DK], p.row[DK], p.width, sums, scale, staged);
    turned.store<OPERANDS>(p.type, p.dv, &places[0][DV], p.row[DV], p.value_width, value_sums, one, staged);
}

#ifdef __CUDA_ARCH_FEAT_SM90_ALL
#include "attention_backward_hopper.cuh"
#endif
