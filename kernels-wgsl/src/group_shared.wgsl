// Reductions over the invocations of a workgroup through workgroup memory, in a fixed order. Every invocation calls them.

var<workgroup> group_values: array<f32, LANES>;

fn group_sum(value: f32, lane: u32) -> f32 {
    group_values[lane] = value;
    workgroupBarrier();
    for (var width = LANES / 2u; width > 0u; width /= 2u) {
        if lane < width { group_values[lane] += group_values[lane + width]; }
        workgroupBarrier();
    }
    let sum = group_values[0];
    workgroupBarrier();
    return sum;
}

// NaN if any is.
fn group_max(value: f32, lane: u32) -> f32 {
    group_values[lane] = value;
    workgroupBarrier();
    for (var width = LANES / 2u; width > 0u; width /= 2u) {
        if lane < width { group_values[lane] = max_nan(group_values[lane], group_values[lane + width]); }
        workgroupBarrier();
    }
    let largest = group_values[0];
    workgroupBarrier();
    return largest;
}
