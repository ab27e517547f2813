// dq: an invocation for each element of [B, T, N, heads, D]; a frame that was not kept gets 0.
fn each(i: u32) {
    let c = i % p.width;
    let h = i / p.width % p.heads;
    let n = i / p.width / p.heads % p.places;
    let t = i / p.width / p.heads / p.places % p.frames;
    let b = i / p.width / p.heads / p.places / p.frames;
    let keys = k_index(b, 0u, n, h, c);
    var sum = 0.0;
    for (var slot = 0u; slot < p.keep; slot += 1u) {
        let row = ((b * p.keep + slot) * p.places + n) * p.heads + h;
        if u32(clamp(kept_int(kept_at(row)), 0, i32(p.frames) - 1)) != t { continue; }
        for (var j = 0u; j < p.frames; j += 1u) { sum += ds_load(ds_at(row * p.frames + j)) * k_load(keys + j * p.k_s1); }
    }
    dq_store(i, sum);
}
