// A matrix product in tiles: y[m, n] = finish(sum over k of left(m, k) right(n, k)), for `batches` of them. The file of the operation says
// what left, right and finish are, so that convolutions gather their patches while they fill the tiles.
//
// A workgroup computes TILE_M x TILE_N elements, an invocation 4 x 4 of them in registers: of the 2 x TILE_K numbers that a step brings into
// workgroup memory each is used 4 times from registers. The tiles lie with k outermost, so that the inner loop reads vectors.

var<workgroup> left_tile: array<vec4<f32>, TILE_K * TILE_M / 4u>;
var<workgroup> right_tile: array<vec4<f32>, TILE_K * TILE_N / 4u>;

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

fn finish_row(batch: u32, m: u32, n: u32, sums: vec4<f32>) {
    if m >= p.m { return; }
    if n < p.n { finish(batch, m, n, sums.x); }
    if n + 1u < p.n { finish(batch, m, n + 1u, sums.y); }
    if n + 2u < p.n { finish(batch, m, n + 2u, sums.z); }
    if n + 3u < p.n { finish(batch, m, n + 3u, sums.w); }
}

fn group(index: u32, lane: u32) {
    let columns = (p.n + TILE_N - 1u) / TILE_N;
    let rows = (p.m + TILE_M - 1u) / TILE_M;
    let batch = index / (rows * columns);
    let m0 = index / columns % rows * TILE_M;
    let n0 = index % columns * TILE_N;
    let row = lane / (TILE_N / 4u);
    let column = lane % (TILE_N / 4u);
    var s0 = vec4<f32>();
    var s1 = vec4<f32>();
    var s2 = vec4<f32>();
    var s3 = vec4<f32>();
    for (var k0 = 0u; k0 < p.k; k0 += TILE_K) {
        fill(batch, m0, n0, k0, lane);
        workgroupBarrier();
        for (var k = 0u; k < TILE_K; k += 1u) {
            let l = left_tile[k * (TILE_M / 4u) + row];
            let r = right_tile[k * (TILE_N / 4u) + column];
            s0 += l.x * r;
            s1 += l.y * r;
            s2 += l.z * r;
            s3 += l.w * r;
        }
        workgroupBarrier();
    }
    let m = m0 + row * 4u;
    let n = n0 + column * 4u;
    finish_row(batch, m, n, s0);
    finish_row(batch, m + 1u, n, s1);
    finish_row(batch, m + 2u, n, s2);
    finish_row(batch, m + 3u, n, s3);
}
