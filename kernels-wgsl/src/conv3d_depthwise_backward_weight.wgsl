// dweight[i, j, k, c] = sum gradient[b, t, h, w, c] x[b, t + i - pad0, h + j - pad1, w + k - pad2, c]: a workgroup for each, its invocations
// over the positions.
fn group(index: u32, lane: u32) {
    let c = index % p.x4;
    let tap = index / p.x4;
    let k = tap % p.kernel2;
    let j = tap / p.kernel2 % p.kernel1;
    let a = tap / p.kernel2 / p.kernel1;
    var sum = 0.0;
    var block = 0.0;
    var taken = 0u;
    for (var i = lane; i < p.positions; i += LANES) {
        let place = voxel_of(i, vec4<u32>(p.y1, p.y2, p.y3, 1u));
        let s = place.t + a - p.pad0;
        let r = place.h + j - p.pad1;
        let q = place.w + k - p.pad2;
        if s >= p.x1 || r >= p.x2 || q >= p.x3 { continue; }
        let g = gradient_load(gradient_index(place.b, place.t, place.h, place.w, c));
        block += g * x_load(x_index(place.b, s, r, q, c));
        taken += 1u;
        if taken % 16u == 0u {
            sum += block;
            block = 0.0;
        }
    }
    sum = group_sum(sum + block, lane);
    if lane == 0u { dweight_store(index, sum); }
}
