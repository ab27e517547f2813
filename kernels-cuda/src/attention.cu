// y = softmax(scale * q * k^T) * v along one axis of a grid of tokens, for every head; operands have any strides, y is contiguous.
//
// A block has 64 queries and goes through the keys 64 at a time with a running maximum and sum (Dao et al., FlashAttention): the scores never reach
// memory. It has 64 columns of the values; wider heads take several blocks, each with all the scores. Products are f32 for every
// element type.
#include "attention.cuh"

struct Parameters {
    void* q;
    void* k;
    void* v;
    void* y;
    float* lse;     // or null
    Nest<5> nest;   // of sequences: q, k, v, y, lse
    i64 row[5];     // from token to token
    i64 channel[5];
    u32 queries;
    u32 keys;
    u32 width;
    u32 value_width;
    u32 tiles;      // of queries
    u32 chunks;     // of value columns
    float scale;
    u32 type;
};

DEVICE Sequence sequence(const Parameters& p, void* base, const i64 (&at)[5], int n, u32 rows, u32 width) {
    return {base, at[n], p.row[n], p.channel[n], rows, width, p.type};
}

// Scores to weights of the tile of keys from n0 on; what was summed so far shrinks as the largest score grows.
DEVICE void weigh(const Parameters& p, u32 n0, float (&scores)[OWN][OWN], Tiles& shared, float (&largest)[OWN], float (&total)[OWN], float (&sums)[OWN][OWN]) {
#pragma unroll
    for (int i = 0; i < OWN; ++i) {
        float high = largest[i], sum = 0.0f;
#pragma unroll
        for (int j = 0; j < OWN; ++j) {
            scores[i][j] = n0 + own_column(j) < p.keys ? scores[i][j] * p.scale : NEGATIVE_INFINITY;
            high = fmaxf(high, scores[i][j]);
        }
        high = row_max(high);
        const float shrink = largest[i] == high ? 1.0f : expf(largest[i] - high);
#pragma unroll
        for (int j = 0; j < OWN; ++j) {
            const float weight = n0 + own_column(j) < p.keys ? expf(scores[i][j] - high) : 0.0f;
            shared.weights[own_row(i)][own_column(j)] = weight;
            sum += weight;
            sums[i][j] *= shrink;
        }
        total[i] = total[i] * shrink + row_sum(sum);
        largest[i] = high;
    }
}

DEVICE void attention_tile(const Parameters& p) {
    __shared__ Tiles shared;
    const u32 m0 = blockIdx.x % p.tiles * TILE, c0 = blockIdx.x / p.tiles % p.chunks * TILE;
    i64 at[5];
    locate(p.nest, blockIdx.x / p.tiles / p.chunks, at);
    const Sequence q = sequence(p, p.q, at, 0, p.queries, p.width), k = sequence(p, p.k, at, 1, p.keys, p.width);
    const Sequence v = sequence(p, p.v, at, 2, p.keys, p.value_width);
    float largest[OWN], total[OWN], sums[OWN][OWN];
#pragma unroll
    for (int i = 0; i < OWN; ++i) {
        largest[i] = NEGATIVE_INFINITY;
        total[i] = 0.0f;
    }
    clear(sums);
#pragma unroll 1
    for (u32 n0 = 0; n0 < p.keys; n0 += TILE) {
        float scores[OWN][OWN];
        multiply(q, m0, k, n0, shared, scores);
        weigh(p, n0, scores, shared, largest, total, sums);
        add_weighted(v, n0, c0, shared, sums);
    }
#pragma unroll
    for (int i = 0; i < OWN; ++i) {
        // Of no keys the sum is 0.
#pragma unroll
        for (int j = 0; j < OWN; ++j) sums[i][j] = p.keys ? sums[i][j] / total[i] : 0.0f;
        const u32 row = m0 + own_row(i);
        if (p.lse && c0 == 0 && own_column(0) == 0 && row < p.queries) {
            p.lse[at[4] + row * p.row[4]] = p.keys ? largest[i] + logf(total[i]) : NEGATIVE_INFINITY;
        }
    }
    store_rows(sequence(p, p.y, at, 3, p.queries, p.value_width), m0, c0, shared, sums, 1.0f);
}

KERNEL attention(PARAMETERS p) { attention_tile(p); }
