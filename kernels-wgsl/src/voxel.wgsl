// An element of [B, T, H, W, C].
struct Voxel { b: u32, t: u32, h: u32, w: u32, c: u32 }

// Element `i` in row-major order, of an array of `size` [T, H, W, C].
fn voxel_of(i: u32, size: vec4<u32>) -> Voxel {
    let w = i / size.w;
    let h = w / size.z;
    let t = h / size.y;
    return Voxel(t / size.x, t % size.x, h % size.y, w % size.z, i % size.w);
}
