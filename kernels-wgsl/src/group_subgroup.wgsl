// Reductions over a workgroup that is one subgroup: no barrier and no memory. Every invocation calls them.

fn group_sum(value: f32, lane: u32) -> f32 {
    return subgroupAdd(value);
}

// NaN if any is; the subgroup's own maximum may lose it.
fn group_max(value: f32, lane: u32) -> f32 {
    let largest = subgroupMax(value);
    return select(largest, nan(), subgroupAny(is_nan(value)));
}
