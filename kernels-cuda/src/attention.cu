// y = softmax(scale * q * k^T) * v along one axis of a grid of tokens, for every head; operands have any strides, y is contiguous.
//
// A block has 64 queries and goes through the keys 64 at a time with a running maximum and sum (Dao et al., FlashAttention): the scores never reach
// memory. Half types with heads of up to 64 columns run on tensor cores (`attention_half`; attention_mma.cuh), f32 and wider heads on
// ordinary ones (`attention`; attention.cuh), where a block has 64 columns of the values and wider heads take several, each with all the scores. Few queries
// have a warp each (`attention_few`; attention_few.cuh), short sequences share tiles (`attention_short`; attention_short.cuh). On Hopper, heads that the copy engine can read go by attention_hopper.cuh.
//
// Also for compute_90a.
#include "attention.cuh"
#include "attention_few.cuh"
#include "attention_short.cuh"

struct Parameters {
    void* q;
    void* k;
    void* v;
    void* y;
    float* lse;     // or null
    float* partial; // of few queries with several segments of keys: [sequences, queries, segments, LEFT]
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
    u32 wide[3];    // whether q, k, v can be read by 16 bytes
    u32 segments;   // of the keys, for few queries; sequences of a tile, for short ones
    u32 segment_keys;
    u32 tasks;      // sequences * queries
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
        const float shrink = largest[i] == high ? 1.0f : fast_exp(largest[i] - high);
#pragma unroll
        for (int j = 0; j < OWN; ++j) {
            const float weight = n0 + own_column(j) < p.keys ? fast_exp(scores[i][j] - high) : 0.0f;
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

// ---- on tensor cores ----

extern __shared__ float4 dynamic_shared[];

DEVICE TiledMatrix<Bits> operand(const Parameters& p, const void* base, const i64 (&at)[5], int n, u32 rows, u32 width) {
    return head(base, at[n], p.row[n], p.channel[n], rows, width, p.wide[n]);
}

// As `weigh`, of the rows lane / 4 and lane / 4 + 8.
DEVICE void weigh(const Parameters& p, u32 n0, Fragments& scores, float (&largest)[2], float (&total)[2], Fragments& sums) {
#pragma unroll
    for (int r = 0; r < 2; ++r) {
        float high = largest[r], sum = 0.0f;
#pragma unroll
        for (int i = 0; i < 16; ++i) {
            float& score = element(scores, r, i);
            score = n0 + fragment_column(i) < p.keys ? score * p.scale : NEGATIVE_INFINITY;
            high = fmaxf(high, score);
        }
        high = quad_max(high);
        const float shrink = largest[r] == high ? 1.0f : fast_exp(largest[r] - high);
#pragma unroll
        for (int i = 0; i < 16; ++i) {
            float& score = element(scores, r, i);
            score = n0 + fragment_column(i) < p.keys ? fast_exp(score - high) : 0.0f;
            sum += score;
            element(sums, r, i) *= shrink;
        }
        total[r] = total[r] * shrink + quad_sum(sum);
        largest[r] = high;
    }
}

KERNEL attention_half(PARAMETERS p) {
    const u32 m0 = blockIdx.x % p.tiles * KEYS;
    i64 at[5];
    locate(p.nest, blockIdx.x / p.tiles, at);
    const auto q = operand(p, p.q, at, 0, p.queries, p.width), k = operand(p, p.k, at, 1, p.keys, p.width);
    const auto v = operand(p, p.v, at, 2, p.keys, p.value_width);
    // The queries, then two stages of keys and values.
    const u32 queries = shared_address(dynamic_shared);
    float largest[2] = {NEGATIVE_INFINITY, NEGATIVE_INFINITY}, total[2] = {0.0f, 0.0f};
    Fragments sums;
    clear(sums);
    fill_head(queries, q, m0);
    // Fetching runs a tile ahead of computing in one loop, so that its code is there once.
#pragma unroll 1
    for (u32 n0 = 0, stage = 0; n0 < p.keys + KEYS; n0 += KEYS, stage ^= 1) {
        const u32 next = queries + HEAD_TILE * (1 + 2 * stage), here = queries + HEAD_TILE * (1 + 2 * (stage ^ 1));
        if (n0 < p.keys) {
            fill_head(next, k, n0);
            fill_head(next + HEAD_TILE, v, n0);
        }
        commit_copies();
        if (n0 == 0) continue;
        await_copies<1>();
        __syncthreads();
        Fragments scores;
        clear(scores);
        multiply_rows(p.type, queries, warp_index() * 16, here, scores);
        weigh(p, n0 - KEYS, scores, largest, total, sums);
        add_weighted_rows(p.type, scores, here + HEAD_TILE, sums);
        __syncthreads();
    }
    // Where there was nothing to go through, nobody has waited for anybody yet.
    await_copies<0>();
    __syncthreads();
    float share[2];
#pragma unroll
    for (int r = 0; r < 2; ++r) {
        share[r] = p.keys ? 1.0f / total[r] : 0.0f;
        const u32 row = m0 + fragment_row(r);
        if (p.lse && row < p.queries && lane_index() % 4 == 0) {
            p.lse[at[4] + row * p.row[4]] = p.keys ? largest[r] + logf(total[r]) : NEGATIVE_INFINITY;
        }
    }
    store_fragments(p.type, p.y, at[3], p.row[3], p.queries, p.value_width, m0, sums, share, reinterpret_cast<float*>(dynamic_shared));
}

// ---- short sequences ----

// As `weigh`, where all keys are there at once.
DEVICE void weigh_packed(const Parameters& p, const Packing& packing, Fragments& scores, float (&largest)[2], float (&total)[2]) {
#pragma unroll
    for (int r = 0; r < 2; ++r) {
        const Blocks own = packing.own(r);
        float high = NEGATIVE_INFINITY, sum = 0.0f;
#pragma unroll
        for (int i = 0; i < 16; ++i) {
            float& score = element(scores, r, i);
            score = own.has(fragment_column(i)) ? score * p.scale : NEGATIVE_INFINITY;
            high = fmaxf(high, score);
        }
        high = quad_max(high);
#pragma unroll
        for (int i = 0; i < 16; ++i) {
            float& score = element(scores, r, i);
            score = own.has(fragment_column(i)) ? fast_exp(score - high) : 0.0f;
            sum += score;
        }
        largest[r] = high;
        total[r] = quad_sum(sum);
    }
}

KERNEL attention_short(PARAMETERS p) {
    __shared__ i64 places[PACKED][5];
    const u32 first = blockIdx.x * p.segments;
    const Packing packing = {min(p.segments, p.tasks / p.queries - first), p.queries, p.keys};
    if (threadIdx.x < packing.count) {
        i64 at[5];
        locate(p.nest, first + threadIdx.x, at);
#pragma unroll
        for (int n = 0; n < 5; ++n) places[threadIdx.x][n] = at[n];
    }
    __syncthreads();
    const i64 start[5] = {};
    const u32 queries = shared_address(dynamic_shared), keys = queries + HEAD_TILE, values = keys + HEAD_TILE;
    packing.fill<5>(queries, operand(p, p.q, start, 0, p.queries, p.width), &places[0][0]);
    packing.turned().fill<5>(keys, operand(p, p.k, start, 1, p.keys, p.width), &places[0][1]);
    packing.turned().fill<5>(values, operand(p, p.v, start, 2, p.keys, p.value_width), &places[0][2]);
    commit_copies();
    await_copies<0>();
    __syncthreads();
    float largest[2], total[2];
    Fragments scores, sums;
    clear(scores);
    clear(sums);
    const Blocks blocks = packing.blocks();
    multiply_rows(p.type, queries, warp_index() * 16, keys, scores, blocks);
    weigh_packed(p, packing, scores, largest, total);
    add_weighted_rows(p.type, scores, values, sums, blocks);
    __syncthreads();
    float share[2];
#pragma unroll
    for (int r = 0; r < 2; ++r) {
        share[r] = 1.0f / total[r];
        const u32 row = fragment_row(r), sequence = row / p.queries;
        if (p.lse && sequence < packing.count && lane_index() % 4 == 0) {
            p.lse[places[sequence][4] + (row - sequence * p.queries) * p.row[4]] = largest[r] + logf(total[r]);
        }
    }
    packing.store<5>(p.type, p.y, &places[0][3], p.row[3], p.value_width, sums, share, reinterpret_cast<float*>(dynamic_shared));
}

// ---- few queries ----

// Query `task % queries` of sequence `task / queries`, over the keys of one segment.
ROOMY_KERNEL attention_few(PARAMETERS p) {
    const u32 index = blockIdx.x * 8 + warp_index(), task = index / p.segments, segment = index % p.segments;
    if (task >= p.tasks) return;
    i64 at[5];
    locate(p.nest, task / p.queries, at);
    const u32 query = task % p.queries, c = lane_index() % COLUMNS * COLUMNS;
    const u32 begin = segment * p.segment_keys, end = min(p.keys, begin + p.segment_keys);
    float q[COLUMNS];
    load_eight(p.type, p.q, at[0] + query * p.row[0], p.channel[0], c, p.width, p.wide[0], q);
    Part part;
    part.clear();
#pragma unroll 1
    for (u32 first = begin; first < end; first += GROUPS) {
        const u32 key = first + lane_index() / COLUMNS;
        const bool inside = key < end;
        float k[COLUMNS], v[COLUMNS], score = 0.0f;
        load_eight(p.type, p.k, at[1] + key * p.row[1], p.channel[1], c, inside ? p.width : 0, p.wide[1], k);
        load_eight(p.type, p.v, at[2] + key * p.row[2], p.channel[2], c, inside ? p.value_width : 0, p.wide[2], v);
#pragma unroll
        for (int i = 0; i < COLUMNS; ++i) score = fmaf(q[i], k[i], score);
#pragma unroll
        for (int step = COLUMNS / 2; step > 0; step >>= 1) score += __shfl_xor_sync(ALL_LANES, score, step);
        if (!inside) continue;
        score *= p.scale;
        part.scale_to(fmaxf(part.largest, score));
        const float weight = fast_exp(score - part.largest);
        part.total += weight;
#pragma unroll
        for (int i = 0; i < COLUMNS; ++i) part.sums[i] = fmaf(weight, v[i], part.sums[i]);
    }
    part.join(COLUMNS);
    part.join(2 * COLUMNS);
    if (lane_index() >= COLUMNS) return;
    if (p.segments == 1) {
        const float share = p.keys ? 1.0f / part.total : 0.0f;
#pragma unroll
        for (int i = 0; i < COLUMNS; ++i) {
            if (c + i < p.value_width) store_as(p.type, p.y, at[3] + query * p.row[3] + c + i, part.sums[i] * share);
        }
        if (p.lse && c == 0) p.lse[at[4] + query * p.row[4]] = p.keys ? part.largest + logf(part.total) : NEGATIVE_INFINITY;
        return;
    }
    float* left = p.partial + (u64)index * LEFT;
#pragma unroll
    for (int i = 0; i < COLUMNS; ++i) left[c + i] = part.sums[i];
    if (c == 0) {
        left[FEW_WIDTH] = part.largest;
        left[FEW_WIDTH + 1] = part.total;
    }
}

// The segments of a query, joined in their order: a thread for each column.
KERNEL attention_few_join(PARAMETERS p) {
    const u32 task = blockIdx.x * 4 + threadIdx.x / FEW_WIDTH, c = threadIdx.x % FEW_WIDTH;
    if (task >= p.tasks) return;
    i64 at[5];
    locate(p.nest, task / p.queries, at);
    const u32 query = task % p.queries;
    const float* left = p.partial + (u64)task * p.segments * LEFT;
    float largest = NEGATIVE_INFINITY, total = 0.0f, sum = 0.0f;
#pragma unroll 1
    for (u32 s = 0; s < p.segments; ++s) largest = fmaxf(largest, left[s * LEFT + FEW_WIDTH]);
#pragma unroll 1
    for (u32 s = 0; s < p.segments; ++s) {
        const float high = left[s * LEFT + FEW_WIDTH], share = high == largest ? 1.0f : fast_exp(high - largest);
        total = fmaf(left[s * LEFT + FEW_WIDTH + 1], share, total);
        sum = fmaf(left[s * LEFT + c], share, sum);
    }
    if (c < p.value_width) store_as(p.type, p.y, at[3] + query * p.row[3] + c, p.keys ? sum / total : 0.0f);
    if (p.lse && c == 0) p.lse[at[4] + query * p.row[4]] = p.keys ? largest + logf(total) : NEGATIVE_INFINITY;
}

#ifdef __CUDA_ARCH_FEAT_SM90_ALL
#include "attention_hopper.cuh"
#endif
