// One workgroup for each result: its invocations go through the reduced elements in steps of LANES.
fn group(index: u32, lane: u32) {
    var largest = -infinity();
    var sum = Sum();
    for (var j = lane; j < p.inner; j += LANES) {
        var x = x_load(x_at(index * p.inner + j));
        if REDUCTION == 3u { x *= x; }
        if REDUCTION == 2u { largest = max_nan(largest, x); } else { sum = sum_add(sum, x); }
    }
    var result: f32;
    if REDUCTION == 2u { result = group_max(largest, lane); } else { result = group_sum(sum_value(sum), lane); }
    if lane == 0u { y_store(index, select(result, result / f32(p.inner), REDUCTION == 1u)); }
}
