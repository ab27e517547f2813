// The tiles of attention_tiled.wgsl from operands whose channels lie side by side: rows of four channels are read as vectors and turned.

fn query_at(start: u32, i: u32, c: u32) -> vec4<Number> {
    if i < p.queries && c < p.width { return q_load4(start + i * p.q_s2 + c); }
    return vec4<Number>();
}

fn key_at(start: u32, key: u32, c: u32) -> vec4<Number> {
    if key < p.keys && c < p.width { return k_load4(start + key * p.k_s2 + c); }
    return vec4<Number>();
}

fn fill_queries(start: u32, i0: u32, lane: u32) {
    for (var e = lane; e < WIDTH / 4u * PAIRS; e += LANES) {
        let pair = e / (WIDTH / 4u);
        let c = e % (WIDTH / 4u) * 4u;
        let a = query_at(start, i0 + 2u * pair, c);
        let b = query_at(start, i0 + 2u * pair + 1u, c);
        #for i 4
        query_tile[(c + {i}u) * PAIRS + pair] = vec2<Number>(a[{i}], b[{i}]);
        #end
    }
}

fn fill_keys(start: u32, first: u32, lane: u32) {
    for (var e = lane; e < WIDTH / 4u * FOURS; e += LANES) {
        let four = e / (WIDTH / 4u);
        let c = e % (WIDTH / 4u) * 4u;
        let key = first + four * 4u;
        let turned = transpose(mat4x4<Number>(
            key_at(start, key, c), key_at(start, key + 1u, c), key_at(start, key + 2u, c), key_at(start, key + 3u, c)));
        #for i 4
        tile[(c + {i}u) * FOURS + four] = turned[{i}];
        #end
    }
}

fn fill_values(start: u32, first: u32, lane: u32) {
    for (var e = lane; e < KEYS * 16u; e += LANES) {
        let key = first + e / 16u;
        let c = e % 16u * 4u;
        if key < p.keys && c < p.value_width { tile[e] = v_load4(start + key * p.v_s2 + c); } else { tile[e] = vec4<Number>(); }
    }
}
