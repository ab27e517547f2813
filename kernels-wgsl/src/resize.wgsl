// y[n, h, w, c] = sum d e x[n, m, k, c] over the taps (m, d) of h and (k, e) of w: the inputs under the filter, stretched over more of them where
// the image shrinks and antialiasing is on.
fn input(at: u32) -> f32 { return x_load(at); }

fn each(i: u32) {
    let at = voxel_of(i, vec4<u32>(1u, p.y1, p.y2, p.y3));
    y_store(i, along_h(x_index(at.b, 0u, 0u, at.c), at.h, at.w));
}
