// y[b, t, h, w, c] = sum a d e x[b, l, m, n, c] over the taps (l, a) of t, (m, d) of h and (n, e) of w: the one or two inputs around where the
// output lies, weighted by how near they are.
fn input(at: u32) -> f32 { return x_load(at); }

fn each(i: u32) {
    let at = voxel_of(i, vec4<u32>(p.y1, p.y2, p.y3, p.y4));
    y_store(i, along_t(x_index(at.b, 0u, 0u, 0u, at.c), at.t, at.h, at.w));
}
