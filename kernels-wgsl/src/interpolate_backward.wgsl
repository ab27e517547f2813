// dx[b, l, m, n, c] = sum a d e gradient[b, t, h, w, c] over the outputs (t, a) of which l is a tap, (h, d) of m and (w, e) of n: gathered, so
// that the order of the sum is fixed.
fn input(at: u32) -> f32 { return gradient_load(at); }

fn each(i: u32) {
    let at = voxel_of(i, vec4<u32>(p.y1, p.y2, p.y3, p.y4));
    dx_store(i, along_t(gradient_index(at.b, 0u, 0u, 0u, at.c), at.t, at.h, at.w));
}
