//! The clip `moving_disc.y4m`: a disc bouncing over a textured background. Whole numbers only, so that every machine
//! writes the same bytes. Included by the example that writes the file and by the test that compares it.

/// Width and height in pixels; both even, as 4:2:0 chroma wants.
pub const SIZE: (usize, usize) = (96, 72);
/// Frames, at 15 per second.
pub const FRAMES: usize = 32;
/// Radius of the disc in pixels.
pub const RADIUS: i32 = 14;
/// Y, Cb, Cr of the disc: orange, BT.601 limited range.
pub const DISC: [u8; 3] = [150, 60, 190];

/// The centre of the disc in a frame: from left to right at a constant speed, bouncing twice.
pub fn centre(frame: usize) -> (i32, i32) {
    let phase = (frame % 16) as i32;
    // A parabola through the floor at phases 0 and 16, its top 32 pixels above.
    (17 + 2 * frame as i32, 55 - phase * (16 - phase) / 2)
}

/// The file, in full.
pub fn y4m() -> Vec<u8> {
    let (width, height) = SIZE;
    let mut bytes = format!("YUV4MPEG2 W{width} H{height} F15:1 Ip A1:1 C420jpeg XCOLORRANGE=LIMITED\n").into_bytes();
    for frame in 0..FRAMES {
        bytes.extend_from_slice(b"FRAME\n");
        plane(&mut bytes, frame, 0, 1);
        plane(&mut bytes, frame, 1, 2);
        plane(&mut bytes, frame, 2, 2);
    }
    bytes
}

/// Appends one plane, of which every `step`-th sample is kept in both directions.
fn plane(bytes: &mut Vec<u8>, frame: usize, channel: usize, step: usize) {
    let (x0, y0) = centre(frame);
    for y in (0..SIZE.1 as i32).step_by(step) {
        for x in (0..SIZE.0 as i32).step_by(step) {
            let inside = (x - x0).pow(2) + (y - y0).pow(2) <= RADIUS * RADIUS;
            bytes.push(if inside { DISC[channel] } else { background(x, y)[channel] });
        }
    }
}

/// Blue-green checks of 8 pixels with a grain, darker towards the bottom.
fn background(x: i32, y: i32) -> [u8; 3] {
    let check = ((x / 8 + y / 8) % 2) as u8;
    let grain = ((x * 13 + y * 7) ^ (x * y)) as u8 % 12;
    [140 - y as u8 + 30 * check + grain, 140 + 12 * check, 100 - 6 * check]
}
