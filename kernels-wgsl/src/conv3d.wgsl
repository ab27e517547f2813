// The tube convolution as a product: rows are positions of tubes, columns output channels of a group, k the elements of a tube.

// scale[c] x + shift[c] at element `k` of the tube at position `m`, 0 in the padding.
fn left(batch: u32, m: u32, k: u32) -> f32 {
    let channel = k % p.channels;
    let tap = k / p.channels;
    let w = (m % p.y3) * p.stride2 + p.start2 + tap % p.kernel2 - p.pad2;
    let h = (m / p.y3 % p.y2) * p.stride1 + p.start1 + tap / p.kernel2 % p.kernel1 - p.pad1;
    let t = (m / p.y3 / p.y2 % p.y1) * p.stride0 + p.start0 + tap / p.kernel2 / p.kernel1 - p.pad0;
    // Positions before the start wrap around to beyond the end.
    if t >= p.v1 || h >= p.v2 || w >= p.v3 { return 0.0; }
    let c = batch * p.channels + channel;
    let b = m / p.y3 / p.y2 / p.y1;
    let x = video_load(video_index(b, t, h, w, c));
    if scale_present { return scale_load(scale_at(c)) * x + shift_load(shift_at(c)); }
    return x;
}

fn right(batch: u32, n: u32, k: u32) -> f32 {
    return weight_load(weight_at((batch * p.n + n) * p.k + k));
}

fn finish(batch: u32, m: u32, n: u32, sum: f32) {
    let o = batch * p.n + n;
    var y = sum;
    if bias_present { y += bias_load(bias_at(o)); }
    if position_present { y += position_load(position_at(m % (p.y1 * p.y2 * p.y3) * p.outputs + o)); }
    y_store(m * p.outputs + o, y);
}
