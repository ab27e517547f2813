// dk and dv: an invocation for each channel of either, of [B, T, N, heads].
fn each(i: u32) {
    let widest = max(p.width, p.value_width);
    let c = i % widest;
    let to = i / widest;
    let h = to % p.heads;
    let n = to / p.heads % p.places;
    let t = to / p.heads / p.places % p.frames;
    let b = to / p.heads / p.places / p.frames;
    var dk = 0.0;
    var dv = 0.0;
    for (var slot = 0u; slot < p.keep; slot += 1u) {
        let row = ((b * p.keep + slot) * p.places + n) * p.heads + h;
        let frame = u32(clamp(kept_int(kept_at(row)), 0, i32(p.frames) - 1));
        if c < p.width {
            let query = q_index(b, frame, n, h, c);
            dk += ds_load(ds_at(row * p.frames + t)) * q_load(query);
        }
        if c < p.value_width {
            let upstream = gradient_index(b, slot, n, h, 0u);
            dv += weights_load(weights_at(row * p.frames + t)) * gradient_load(upstream + c * p.gradient_s4);
        }
    }
    if c < p.width { dk_store(to * p.width + c, dk); }
    if c < p.value_width { dv_store(to * p.value_width + c, dv); }
}
