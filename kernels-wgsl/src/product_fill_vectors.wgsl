// The tiles of a product from operands whose k lie side by side: four rows of four k are read as vectors and turned.

fn left_inside(batch: u32, m: u32, k: u32) -> vec4<Number> {
    if m < p.m && k < p.k { return left4(batch, m, k); }
    return vec4<Number>();
}

fn right_inside(batch: u32, n: u32, k: u32) -> vec4<Number> {
    if n < p.n && k < p.k { return right4(batch, n, k); }
    return vec4<Number>();
}

fn fill(batch: u32, m0: u32, n0: u32, k0: u32, lane: u32) {
    for (var e = lane; e < TILE_K * TILE_M / 16u; e += LANES) {
        let k = e % (TILE_K / 4u) * 4u;
        let four = e / (TILE_K / 4u);
        let m = m0 + four * 4u;
        let turned = transpose(mat4x4<Number>(
            left_inside(batch, m, k0 + k), left_inside(batch, m + 1u, k0 + k),
            left_inside(batch, m + 2u, k0 + k), left_inside(batch, m + 3u, k0 + k)));
        #for i 4
        left_tile[(k + {i}u) * (TILE_M / 4u) + four] = turned[{i}];
        #end
    }
    for (var e = lane; e < TILE_K * TILE_N / 16u; e += LANES) {
        let k = e % (TILE_K / 4u) * 4u;
        let four = e / (TILE_K / 4u);
        let n = n0 + four * 4u;
        let turned = transpose(mat4x4<Number>(
            right_inside(batch, n, k0 + k), right_inside(batch, n + 1u, k0 + k),
            right_inside(batch, n + 2u, k0 + k), right_inside(batch, n + 3u, k0 + k)));
        #for i 4
        right_tile[(k + {i}u) * (TILE_N / 4u) + four] = turned[{i}];
        #end
    }
}
