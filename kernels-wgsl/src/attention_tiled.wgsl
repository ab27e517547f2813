// As attention.wgsl, for many queries of at most 64 channels: a workgroup takes QUERIES queries through the keys KEYS at a time, so that each key
// and value is fetched once for all of them and is used from registers several times (Dao et al., FlashAttention, algorithm 1). Of operands of
// f16 the tiles are of f16, and what is computed of them of f32. attention_fill.wgsl or attention_fill_vectors.wgsl fills the tiles.

override PAIRS: u32 = QUERIES / 2u;
override FOURS: u32 = KEYS / 4u;

// [channel][pair of queries]
var<workgroup> query_tile: array<vec2<Number>, WIDTH * PAIRS>;
// Keys: [channel][four keys]. Then values: [key][four channels].
var<workgroup> tile: array<vec4<Number>, KEYS * 16u>;
// [query][four keys]: scores, then weights.
var<workgroup> weights: array<vec4<f32>, QUERIES * FOURS>;
// Of each query.
var<workgroup> largest: array<f32, QUERIES>;
var<workgroup> total: array<f32, QUERIES>;
var<workgroup> kept: array<f32, QUERIES>;

// -infinity for keys that are not there.
fn masked(scores: vec4<f32>, key: u32) -> vec4<f32> {
    return select(vec4<f32>(-infinity()), p.scale * scores, vec4<u32>(key, key + 1u, key + 2u, key + 3u) < vec4<u32>(p.keys));
}

// Two queries and four keys at once.
fn score(first: u32, lane: u32) {
    for (var e = lane; e < PAIRS * FOURS; e += LANES) {
        let pair = e / FOURS;
        let four = e % FOURS;
        var a = vec4<f32>();
        var b = vec4<f32>();
        for (var c = 0u; c < WIDTH; c += 1u) {
            let q = vec2<f32>(query_tile[c * PAIRS + pair]);
            let k = vec4<f32>(tile[c * FOURS + four]);
            a += q.x * k;
            b += q.y * k;
        }
        let row = 2u * pair * FOURS;
        weights[row + four] = masked(a, first + four * 4u);
        weights[row + FOURS + four] = masked(b, first + four * 4u);
    }
}

// One query: its maximum and sum so far, and the chunk's scores as weights.
fn weigh(row: u32) {
    var next = largest[row];
    for (var four = 0u; four < FOURS; four += 1u) {
        let s = weights[row * FOURS + four];
        next = max_nan(next, max_nan(max_nan(s.x, s.y), max_nan(s.z, s.w)));
    }
    // Where every score so far is -infinity nothing is added, and the difference would be NaN.
    let nothing = next == -infinity();
    var sum = 0.0;
    for (var four = 0u; four < FOURS; four += 1u) {
        let weight = select(exp_four(weights[row * FOURS + four] - next), vec4<f32>(), nothing);
        sum += (weight.x + weight.y) + (weight.z + weight.w);
        weights[row * FOURS + four] = weight;
    }
    let factor = select(exp_full(largest[row] - next), 1.0, largest[row] == next);
    kept[row] = factor;
    total[row] = total[row] * factor + sum;
    largest[row] = next;
}

fn group(index: u32, lane: u32) {
    let blocks = (p.queries + QUERIES - 1u) / QUERIES;
    let at = place_of(index, blocks);
    let i0 = at.i * QUERIES;
    let q_start = q_index(at.b, at.o, 0u, at.h, 0u);
    let k_start = k_index(at.b, at.o, 0u, at.h, 0u);
    let v_start = v_index(at.b, at.o, 0u, at.h, 0u);
    fill_queries(q_start, i0, lane);
    if lane < QUERIES {
        largest[lane] = -infinity();
        total[lane] = 0.0;
    }
    // Four queries and four channels an invocation: LANES is four times QUERIES.
    let rows = lane / 16u * 4u;
    let column = lane % 16u;
    var sums: array<vec4<f32>, 4>;
    for (var first = 0u; first < p.keys; first += KEYS) {
        workgroupBarrier();
        fill_keys(k_start, first, lane);
        workgroupBarrier();
        score(first, lane);
        workgroupBarrier();
        if lane < QUERIES { weigh(lane); }
        fill_values(v_start, first, lane);
        workgroupBarrier();
        for (var r = 0u; r < 4u; r += 1u) { sums[r] *= kept[rows + r]; }
        for (var four = 0u; four < FOURS; four += 1u) {
            let v0 = vec4<f32>(tile[four * 64u + column]);
            let v1 = vec4<f32>(tile[four * 64u + 16u + column]);
            let v2 = vec4<f32>(tile[four * 64u + 32u + column]);
            let v3 = vec4<f32>(tile[four * 64u + 48u + column]);
            for (var r = 0u; r < 4u; r += 1u) {
                let w = weights[(rows + r) * FOURS + four];
                sums[r] += (w.x * v0 + w.y * v1) + (w.z * v2 + w.w * v3);
            }
        }
    }
    workgroupBarrier();
    for (var r = 0u; r < 4u; r += 1u) {
        let i = i0 + rows + r;
        if i >= p.queries { continue; }
        let y = select(sums[r] / total[rows + r], vec4<f32>(), p.keys == 0u);
        let row = out_row(at, i);
        for (var j = 0u; j < 4u; j += 1u) {
            let c = column * 4u + j;
            if c < p.value_width { y_store(row * p.value_width + c, y[j]); }
        }
    }
    if lane < QUERIES && i0 + lane < p.queries {
        lse_store(out_row(at, i0 + lane), largest[lane] + ln_full(total[lane]));
    }
}
