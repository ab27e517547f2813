// As attention.wgsl, for many queries of at most 64 channels: a workgroup of 64 takes 16 queries through the keys 32 at a time, so that each key
// and value is fetched once for 16 queries and is used from registers several times (Dao et al., FlashAttention, algorithm 1).

const QUERIES: u32 = 16u;
const KEYS: u32 = 32u;

// [channel][pair of queries]
var<workgroup> query_tile: array<vec2<f32>, WIDTH * 8u>;
// Keys: [channel][four keys]. Then values: [key][four channels].
var<workgroup> tile: array<vec4<f32>, 512>;
// [query][four keys]: scores, then weights.
var<workgroup> weights: array<vec4<f32>, 128>;
// Of each query.
var<workgroup> largest: array<f32, QUERIES>;
var<workgroup> total: array<f32, QUERIES>;
var<workgroup> kept: array<f32, QUERIES>;

fn query_at(start: u32, i: u32, c: u32) -> f32 {
    if i < p.queries && c < p.width { return q_load(start + i * p.q_s2 + c * p.q_s4); }
    return 0.0;
}

fn key_at(start: u32, key: u32, c: u32) -> f32 {
    if key < p.keys && c < p.width { return k_load(start + key * p.k_s2 + c * p.k_s4); }
    return 0.0;
}

fn value_at(start: u32, key: u32, c: u32) -> f32 {
    if key < p.keys && c < p.value_width { return v_load(start + key * p.v_s2 + c * p.v_s4); }
    return 0.0;
}

// -infinity for keys that are not there.
fn masked(scores: vec4<f32>, key: u32) -> vec4<f32> {
    return select(vec4<f32>(-infinity()), p.scale * scores, vec4<u32>(key, key + 1u, key + 2u, key + 3u) < vec4<u32>(p.keys));
}

// Two queries and four keys an invocation.
fn score(first: u32, lane: u32) {
    let pair = lane / 8u;
    let four = lane % 8u;
    var a = vec4<f32>();
    var b = vec4<f32>();
    for (var c = 0u; c < WIDTH; c += 1u) {
        let q = query_tile[c * 8u + pair];
        let k = tile[c * 8u + four];
        a += q.x * k;
        b += q.y * k;
    }
    weights[pair * 16u + four] = masked(a, first + four * 4u);
    weights[pair * 16u + 8u + four] = masked(b, first + four * 4u);
}

// One query: its maximum and sum so far, and the chunk's scores as weights.
fn weigh(row: u32) {
    var next = largest[row];
    for (var four = 0u; four < 8u; four += 1u) {
        let s = weights[row * 8u + four];
        next = max_nan(next, max_nan(max_nan(s.x, s.y), max_nan(s.z, s.w)));
    }
    // Where every score so far is -infinity nothing is added, and the difference would be NaN.
    let nothing = next == -infinity();
    var sum = 0.0;
    for (var four = 0u; four < 8u; four += 1u) {
        let weight = select(exp_four(weights[row * 8u + four] - next), vec4<f32>(), nothing);
        sum += (weight.x + weight.y) + (weight.z + weight.w);
        weights[row * 8u + four] = weight;
    }
    let factor = select(exp_full(largest[row] - next), 1.0, largest[row] == next);
    kept[row] = factor;
    total[row] = total[row] * factor + sum;
    largest[row] = next;
}

fn group(index: u32, lane: u32) {
    let blocks = (p.queries + QUERIES - 1u) / QUERIES;
    let i0 = index % blocks * QUERIES;
    let h = index / blocks % p.heads;
    let o = index / blocks / p.heads % p.others;
    let b = index / blocks / p.heads / p.others;
    let q_start = p.q_offset + b * p.q_s0 + o * p.q_s1 + h * p.q_s3;
    let k_start = p.k_offset + b * p.k_s0 + o * p.k_s1 + h * p.k_s3;
    let v_start = p.v_offset + b * p.v_s0 + o * p.v_s1 + h * p.v_s3;
    for (var e = lane; e < WIDTH * 8u; e += LANES) {
        let i = i0 + e / WIDTH * 2u;
        let c = e % WIDTH;
        query_tile[c * 8u + e / WIDTH] = vec2<f32>(query_at(q_start, i, c), query_at(q_start, i + 1u, c));
    }
    if lane < QUERIES {
        largest[lane] = -infinity();
        total[lane] = 0.0;
    }
    // Four queries and four channels an invocation.
    let rows = lane / 16u * 4u;
    let column = lane % 16u;
    var sums: array<vec4<f32>, 4>;
    for (var first = 0u; first < p.keys; first += KEYS) {
        workgroupBarrier();
        for (var e = lane; e < WIDTH * 8u; e += LANES) {
            let c = e % WIDTH;
            let key = first + e / WIDTH * 4u;
            tile[c * 8u + e / WIDTH] = vec4<f32>(
                key_at(k_start, key, c), key_at(k_start, key + 1u, c), key_at(k_start, key + 2u, c), key_at(k_start, key + 3u, c));
        }
        workgroupBarrier();
        score(first, lane);
        workgroupBarrier();
        if lane < QUERIES { weigh(lane); }
        for (var e = lane; e < 512u; e += LANES) {
            let key = first + e / 16u;
            let c = e % 16u * 4u;
            tile[e] = vec4<f32>(
                value_at(v_start, key, c), value_at(v_start, key, c + 1u), value_at(v_start, key, c + 2u), value_at(v_start, key, c + 3u));
        }
        workgroupBarrier();
        for (var r = 0u; r < 4u; r += 1u) { sums[r] *= kept[rows + r]; }
        for (var four = 0u; four < 8u; four += 1u) {
            let v0 = tile[four * 64u + column];
            let v1 = tile[four * 64u + 16u + column];
            let v2 = tile[four * 64u + 32u + column];
            let v3 = tile[four * 64u + 48u + column];
            for (var r = 0u; r < 4u; r += 1u) {
                let w = weights[(rows + r) * 8u + four];
                sums[r] += (w.x * v0 + w.y * v1) + (w.z * v2 + w.w * v3);
            }
        }
    }
    workgroupBarrier();
    for (var r = 0u; r < 4u; r += 1u) {
        let i = i0 + rows + r;
        if i >= p.queries { continue; }
        let y = select(sums[r] / total[rows + r], vec4<f32>(), p.keys == 0u);
        let row = b * p.out0 + o * p.out1 + i * p.out2 + h * p.out3;
        for (var j = 0u; j < 4u; j += 1u) {
            let c = column * 4u + j;
            if c < p.value_width { y_store(row * p.value_width + c, y[j]); }
        }
    }
    if lane < QUERIES && i0 + lane < p.queries {
        lse_store(b * p.out0 + o * p.out1 + (i0 + lane) * p.out2 + h * p.out3, largest[lane] + ln_full(total[lane]));
    }
}
