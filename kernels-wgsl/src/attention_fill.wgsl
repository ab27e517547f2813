// The tiles of attention_tiled.wgsl, number by number.

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

fn fill_queries(start: u32, i0: u32, lane: u32) {
    for (var e = lane; e < WIDTH * PAIRS; e += LANES) {
        let i = i0 + e / WIDTH * 2u;
        let c = e % WIDTH;
        query_tile[c * PAIRS + e / WIDTH] = vec2<f32>(query_at(start, i, c), query_at(start, i + 1u, c));
    }
}

fn fill_keys(start: u32, first: u32, lane: u32) {
    for (var e = lane; e < WIDTH * FOURS; e += LANES) {
        let key = first + e / WIDTH * 4u;
        let c = e % WIDTH;
        tile[c * FOURS + e / WIDTH] = vec4<f32>(
            key_at(start, key, c), key_at(start, key + 1u, c), key_at(start, key + 2u, c), key_at(start, key + 3u, c));
    }
}

fn fill_values(start: u32, first: u32, lane: u32) {
    for (var e = lane; e < KEYS * 16u; e += LANES) {
        let key = first + e / 16u;
        let c = e % 16u * 4u;
        tile[e] = vec4<f32>(
            value_at(start, key, c), value_at(start, key, c + 1u), value_at(start, key, c + 2u), value_at(start, key, c + 3u));
    }
}
