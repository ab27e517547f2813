// A matrix product in tiles: y[m, n] = finish(sum over k of left(m, k) right(n, k)), for `batches` of them. The file of the operation says
// what left, right and finish are, so that convolutions gather their patches while product_fill.wgsl fills the tiles.
//
// A workgroup computes TILE_M x TILE_N elements, an invocation SIDE x SIDE of them in registers: each of the numbers that a step brings into
// workgroup memory is used SIDE times from registers. The tiles lie with k outermost, so that the inner loop reads vectors. Whatever the
// sizes, the sum over k has one order. Of two operands of f16 the tiles are of f16; their products are exact in f32, where the sums are.

var<workgroup> left_tile: array<vec4<Number>, TILE_K * TILE_M / 4u>;
var<workgroup> right_tile: array<vec4<Number>, TILE_K * TILE_N / 4u>;

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
    // In vectors.
    let row = lane / (TILE_N / SIDE) * VECTORS;
    let column = lane % (TILE_N / SIDE) * VECTORS;
    #for i VECTORS
    #for r 4
    #for j VECTORS
    var sum{i}_{r}_{j} = vec4<f32>();
    #end
    #end
    #end
    for (var k0 = 0u; k0 < p.k; k0 += TILE_K) {
        fill(batch, m0, n0, k0, lane);
        workgroupBarrier();
        for (var k = 0u; k < TILE_K; k += 1u) {
            #for j VECTORS
            let r{j} = vec4<f32>(right_tile[k * (TILE_N / 4u) + column + {j}u]);
            #end
            #for i VECTORS
            let l{i} = vec4<f32>(left_tile[k * (TILE_M / 4u) + row + {i}u]);
            #for r 4
            #for j VECTORS
            sum{i}_{r}_{j} += l{i}[{r}] * r{j};
            #end
            #end
            #end
        }
        workgroupBarrier();
    }
    #for i VECTORS
    #for r 4
    #for j VECTORS
    finish_row(batch, m0 + (row + {i}u) * 4u + {r}u, n0 + (column + {j}u) * 4u, sum{i}_{r}_{j});
    #end
    #end
    #end
}
