// With P = exp(scale * q * k^T - lse) and D = sum of gradient * out for each query: dv = P^T * gradient, dS = P o (gradient * v^T - D),
// dq = scale * dS * k, dk = scale * dS^T * q (Dao et al., FlashAttention, section 3.1).
//
// `_delta` leaves D. `_dq` has 64 queries a block and goes through the keys, `_dkv` has 64 keys and goes through the queries: scores are computed
// twice, and every gradient is summed by one block in one order, without atomics. As in attention.cu, 64 columns a block, and products in f32.
#include "attention.cuh"

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
    float* delta;         // [sequences, queries]
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
    u32 unused;
};

DEVICE Sequence sequence(const Parameters& p, void* base, const i64 (&at)[OPERANDS], int n, u32 rows, u32 width) {
    return {base, at[n], p.row[n], p.channel[n], rows, width, p.type};
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
    const Sequence q = sequence(p, p.q, at, Q, p.queries, p.width), k = sequence(p, p.k, at, K, p.keys, p.width);
    const Sequence v = sequence(p, p.v, at, V, p.keys, p.value_width);
    const Sequence gradient = sequence(p, p.gradient, at, GRADIENT, p.queries, p.value_width);
    float lse[OWN], delta[OWN], sums[OWN][OWN];
    clear(sums);
#pragma unroll
    for (int i = 0; i < OWN; ++i) {
        const u32 row = m0 + own_row(i);
        lse[i] = row < p.queries ? p.lse[at[LSE] + row * p.row[LSE]] : 0.0f;
        delta[i] = row < p.queries ? p.delta[(u64)index * p.queries + row] : 0.0f;
    }
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
                const float weight = inside ? fast_exp(scores[i][j] * p.scale - lse[i]) : 0.0f;
                shared.weights[own_row(i)][own_column(j)] = weight * (slopes[i][j] - delta[i]);
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
    const Sequence q = sequence(p, p.q, at, Q, p.queries, p.width), k = sequence(p, p.k, at, K, p.keys, p.width);
    const Sequence v = sequence(p, p.v, at, V, p.keys, p.value_width);
    const Sequence gradient = sequence(p, p.gradient, at, GRADIENT, p.queries, p.value_width);
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
            const float lse = query < p.queries ? p.lse[at[LSE] + query * p.row[LSE]] : 0.0f;
            delta[j] = query < p.queries ? p.delta[(u64)index * p.queries + query] : 0.0f;
#pragma unroll
            for (int i = 0; i < OWN; ++i) {
                const bool inside = m0 + own_row(i) < p.keys && query < p.queries;
                weights[i][j] = inside ? fast_exp(weights[i][j] * p.scale - lse) : 0.0f;
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
KERNEL attention_backward_dkv(PARAMETERS p) { dkv(p); }
