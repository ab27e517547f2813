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
        let w = i % p.y3;
        let h = i / p.y3 % p.y2;
        let t = i / p.y3 / p.y2 % p.y1;
        let b = i / p.y3 / p.y2 / p.y1;
        let s = t + a - p.pad0;
        let r = h + j - p.pad1;
        let q = w + k - p.pad2;
        if s >= p.x1 || r >= p.x2 || q >= p.x3 { continue; }
        let at = p.x_offset + b * p.x_s0 + s * p.x_s1 + r * p.x_s2 + q * p.x_s3 + c * p.x_s4;
        let g = p.gradient_offset + b * p.gradient_s0 + t * p.gradient_s1 + h * p.gradient_s2 + w * p.gradient_s3 + c * p.gradient_s4;
        block += gradient_load(g) * x_load(at);
        taken += 1u;
        if taken % 16u == 0u {
            sum += block;
            block = 0.0;
        }
    }
    sum = group_sum(sum + block, lane);
    if lane == 0u { dweight_store(index, sum); }
}
