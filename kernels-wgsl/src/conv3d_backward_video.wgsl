// dvideo[b, t, h, w, c] = scale[c] sum gradient weight over the tubes that can reach a voxel (along an axis every stride-th element of the
// kernel, `near` of them) and their output channels: an invocation for each element.

// The element of the kernel that the `step`-th tube along `axis` has at `position`, and the tube; (kernel, 0) where there is none.
fn reach(position: u32, step: u32, kernel: u32, stride: u32, start: u32, pad: u32, tubes: u32) -> vec2<u32> {
    // The first tube starts at start - pad; before it nothing reaches.
    if position + pad < start { return vec2<u32>(kernel, 0u); }
    let distance = position + pad - start;
    let tap = distance % stride + step * stride;
    if tap >= kernel || tap > distance { return vec2<u32>(kernel, 0u); }
    let tube = (distance - tap) / stride;
    if tube >= tubes { return vec2<u32>(kernel, 0u); }
    return vec2<u32>(tap, tube);
}

fn each(i: u32) {
    let c = i % p.v4;
    let m = i / p.v4;
    let b = m / p.v3 / p.v2 / p.v1;
    let first = c / p.channels * p.outputs;
    var sum = 0.0;
    for (var step = 0u; step < p.near0 * p.near1 * p.near2; step += 1u) {
        let t = reach(m / p.v3 / p.v2 % p.v1, step / p.near2 / p.near1, p.kernel0, p.stride0, p.start0, p.pad0, p.y1);
        let h = reach(m / p.v3 % p.v2, step / p.near2 % p.near1, p.kernel1, p.stride1, p.start1, p.pad1, p.y2);
        let w = reach(m % p.v3, step % p.near2, p.kernel2, p.stride2, p.start2, p.pad2, p.y3);
        if t.x == p.kernel0 || h.x == p.kernel1 || w.x == p.kernel2 { continue; }
        let row = ((b * p.y1 + t.y) * p.y2 + h.y) * p.y3 + w.y;
        let tap = (t.x * p.kernel1 + h.x) * p.kernel2 + w.x;
        var block = 0.0;
        for (var o = first; o < first + p.outputs; o += 1u) {
            let weight = weight_load(weight_at((o * p.taps + tap) * p.channels + c % p.channels));
            block += weight * gradient_load(gradient_row(row) + o * gradient_step());
        }
        sum += block;
    }
    if scale_present { sum *= scale_load(scale_at(c)); }
    dvideo_store(i, sum);
}
