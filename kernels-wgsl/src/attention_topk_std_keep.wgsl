// The `keep` frames of largest deviation, in order of time; of equal ones the earlier: an invocation for each place and head. NaN counts as
// larger than any number.
fn before(a: f32, b: f32) -> bool { return a > b || (is_nan(a) && !is_nan(b)); }

fn each(i: u32) {
    let h = i % p.heads;
    let n = i / p.heads % p.places;
    let b = i / p.heads / p.places;
    var slot = 0u;
    for (var t = 0u; t < p.frames; t += 1u) {
        let own = std_load(std_at(((b * p.frames + t) * p.places + n) * p.heads + h));
        var larger = 0u;
        for (var j = 0u; j < p.frames; j += 1u) {
            let other = std_load(std_at(((b * p.frames + j) * p.places + n) * p.heads + h));
            if before(other, own) || (j < t && !before(own, other)) { larger += 1u; }
        }
        if larger < p.keep {
            kept_store_int(((b * p.keep + slot) * p.places + n) * p.heads + h, i32(t));
            slot += 1u;
        }
    }
}
