// dweight as a product: rows are output channels of a group, columns elements of a tube, k the positions of tubes.
fn left(batch: u32, m: u32, k: u32) -> f32 {
    return gradient_load(gradient_row(k) + (batch * p.m + m) * gradient_step());
}

// scale[c] x + shift[c] at element `n` of the tube at position `k`, 0 in the padding.
fn right(batch: u32, n: u32, k: u32) -> f32 {
    let tap = n / p.channels;
    let w = (k % p.y3) * p.stride2 + p.start2 + tap % p.kernel2 - p.pad2;
    let h = (k / p.y3 % p.y2) * p.stride1 + p.start1 + tap / p.kernel2 % p.kernel1 - p.pad1;
    let t = (k / p.y3 / p.y2 % p.y1) * p.stride0 + p.start0 + tap / p.kernel2 / p.kernel1 - p.pad0;
    // Positions before the start wrap around to beyond the end.
    if t >= p.v1 || h >= p.v2 || w >= p.v3 { return 0.0; }
    let c = batch * p.channels + n % p.channels;
    let b = k / p.y3 / p.y2 / p.y1;
    let x = video_load(video_index(b, t, h, w, c));
    if scale_present { return scale_load(scale_at(c)) * x + shift_load(shift_at(c)); }
    return x;
}

fn finish(batch: u32, m: u32, n: u32, sum: f32) {
    dweight_store((batch * p.m + m) * p.n + n, sum);
}
