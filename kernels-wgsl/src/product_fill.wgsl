// The tiles of a product, number by number; with k outermost.

fn left_inside(batch: u32, m: u32, k: u32) -> f32 {
    if m < p.m && k < p.k { return left(batch, m, k); }
    return 0.0;
}

fn right_inside(batch: u32, n: u32, k: u32) -> f32 {
    if n < p.n && k < p.k { return right(batch, n, k); }
    return 0.0;
}

fn fill(batch: u32, m0: u32, n0: u32, k0: u32, lane: u32) {
    for (var e = lane; e < TILE_K * TILE_M / 4u; e += LANES) {
        let k = k0 + e % TILE_K;
        let m = m0 + e / TILE_K * 4u;
        left_tile[e % TILE_K * (TILE_M / 4u) + e / TILE_K] = vec4<f32>(
            left_inside(batch, m, k), left_inside(batch, m + 1u, k), left_inside(batch, m + 2u, k), left_inside(batch, m + 3u, k));
    }
    for (var e = lane; e < TILE_K * TILE_N / 4u; e += LANES) {
        let k = k0 + e % TILE_K;
        let n = n0 + e / TILE_K * 4u;
        right_tile[e % TILE_K * (TILE_N / 4u) + e / TILE_K] = vec4<f32>(
            right_inside(batch, n, k), right_inside(batch, n + 1u, k), right_inside(batch, n + 2u, k), right_inside(batch, n + 3u, k));
    }
}
