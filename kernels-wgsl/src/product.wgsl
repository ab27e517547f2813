// A matrix product in tiles: y[m, n] = finish(sum over k of left(m, k) right(n, k)), for `batches` of them. The file of the operation says
// what left, right and finish are, so that convolutions gather their patches while product_fill.wgsl fills the tiles.
//
// A workgroup computes TILE_M x TILE_N elements, an invocation SIDE x SIDE of them in registers: each of the numbers that a step brings into
// workgroup memory is used SIDE times from registers. The tiles lie with k outermost, so that the inner loop reads vectors. Whatever the
// sizes, the sum over k has one order.

// Vectors along a side.
const VECTORS: u32 = SIDE / 4u;

var<workgroup> left_tile: array<vec4<f32>, TILE_K * TILE_M / 4u>;
var<workgroup> right_tile: array<vec4<f32>, TILE_K * TILE_N / 4u>;

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
    let row = lane / (TILE_N / SIDE) * VECTORS;
    let column = lane % (TILE_N / SIDE) * VECTORS;
    // Row-major: SIDE rows of vectors.
    var sums: array<vec4<f32>, SIDE * VECTORS>;
    for (var k0 = 0u; k0 < p.k; k0 += TILE_K) {
        fill(batch, m0, n0, k0, lane);
        workgroupBarrier();
        for (var k = 0u; k < TILE_K; k += 1u) {
            for (var i = 0u; i < VECTORS; i += 1u) {
                let l = left_tile[k * (TILE_M / 4u) + row + i];
                for (var j = 0u; j < VECTORS; j += 1u) {
                    let r = right_tile[k * (TILE_N / 4u) + column + j];
                    sums[i * SIDE + j] += l.x * r;
                    sums[i * SIDE + VECTORS + j] += l.y * r;
                    sums[i * SIDE + 2u * VECTORS + j] += l.z * r;
                    sums[i * SIDE + 3u * VECTORS + j] += l.w * r;
                }
            }
        }
        workgroupBarrier();
    }
    for (var i = 0u; i < SIDE; i += 1u) {
        for (var j = 0u; j < VECTORS; j += 1u) {
            finish_row(batch, m0 + row * 4u + i, n0 + (column + j) * 4u, sums[i * VECTORS + j]);
        }
    }
}
