// dx[n, m, k, c] = sum d e gradient[n, h, w, c] over the outputs (h, d) of which m is a tap and (w, e) of k: gathered, as
// in interpolate_backward.wgsl.
fn input(at: u32) -> f32 { return gradient_load(at); }

fn each(i: u32) {
    let at = voxel_of(i, vec4<u32>(1u, p.y1, p.y2, p.y3));
    dx_store(i, along_h(gradient_index(at.b, 0u, 0u, at.c), at.h, at.w));
}
