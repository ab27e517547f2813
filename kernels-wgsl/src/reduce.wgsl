// One workgroup for each result: its invocations go through the reduced elements in steps of LANES, each with sums of 16, then of those, so
// that long sums lose few digits.
fn group(index: u32, lane: u32) {
    var result = select(0.0, -infinity(), REDUCTION == 2u);
    var block = 0.0;
    var taken = 0u;
    for (var j = lane; j < p.inner; j += LANES) {
        let x = x_load(x_at(index * p.inner + j));
        if REDUCTION == 2u {
            result = max_nan(result, x);
        } else {
            block += x;
            taken += 1u;
            if taken % 16u == 0u {
                result += block;
                block = 0.0;
            }
        }
    }
    if REDUCTION == 2u { result = group_max(result, lane); } else { result = group_sum(result + block, lane); }
    if lane == 0u { y_store(index, select(result, result / f32(p.inner), REDUCTION == 1u)); }
}
