//! The clip `camera.y4m`: a camera that stands still, pans left, and zooms in. Whole numbers only, so that every machine writes the same bytes.
//! Included by the example that writes the file and by the test that compares it.

/// Width and height in pixels; both even, as 4:2:0 chroma wants.
pub const SIZE: i32 = 64;
/// Frames of each of the three shots, at 12 per second.
pub const SHOT: i32 = 20;

/// The file, in full.
pub fn y4m() -> Vec<u8> {
    let mut bytes = format!("YUV4MPEG2 W{SIZE} H{SIZE} F12:1 Ip A1:1 C420jpeg XCOLORRANGE=LIMITED\n").into_bytes();
    for frame in 0..3 * SHOT {
        bytes.extend_from_slice(b"FRAME\n");
        for (channel, step) in [(0, 1), (1, 2), (2, 2)] {
            for y in (0..SIZE).step_by(step) {
                for x in (0..SIZE).step_by(step) {
                    let (u, v) = look(frame, x - SIZE / 2, y - SIZE / 2);
                    bytes.push(scene(u, v, channel));
                }
            }
        }
    }
    bytes
}

/// Where a pixel, counted from the centre, looks: in 64ths of a pixel of the first shot.
fn look(frame: i32, x: i32, y: i32) -> (i32, i32) {
    let panned = (frame - SHOT).clamp(0, SHOT);
    let zoomed = (frame - 2 * SHOT).max(0);
    // Two and a half pixels to the left a frame; then a scale that shrinks by a sixteenth a frame.
    let scale = (0..zoomed).fold(64 * 1024, |scale, _| scale - scale / 16) / 1024;
    (x * scale - panned * 160, y * scale)
}

/// Y, Cb or Cr at a place: noise over lattices of 24, 12 and 6 pixels.
fn scene(u: i32, v: i32, channel: usize) -> u8 {
    let noise = |lattice: i32, weight: i32| weight * smooth(u, v, 64 * lattice, channel as u32) / 256;
    let sum = noise(24, 4) + noise(12, 3) + noise(6, 2);
    let range = if channel == 0 { 160 } else { 100 };
    (if channel == 0 { 40 } else { 78 } + range * sum / 9 / 256) as u8
}

/// 0…65535: lattice values, interpolated.
fn smooth(u: i32, v: i32, lattice: i32, seed: u32) -> i32 {
    let (i, j) = (u.div_euclid(lattice), v.div_euclid(lattice));
    let (fu, fv) = (u.rem_euclid(lattice) * 256 / lattice, v.rem_euclid(lattice) * 256 / lattice);
    let value = |i: i32, j: i32| {
        let x = (i as u32).wrapping_mul(0x9E37_79B9)
            ^ (j as u32).wrapping_mul(0x85EB_CA6B)
            ^ (seed + lattice as u32).wrapping_mul(0xC2B2_AE35);
        let x = (x ^ (x >> 15)).wrapping_mul(0x2C1B_3C6D);
        ((x ^ (x >> 13)) >> 16) as i32
    };
    let blend = |a: i32, b: i32, f: i32| a + (b - a) / 256 * f;
    blend(blend(value(i, j), value(i + 1, j), fu), blend(value(i, j + 1), value(i + 1, j + 1), fu), fv)
}
