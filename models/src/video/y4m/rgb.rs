//! The planes of a frame, and their conversion to RGB.

/// How the planes of a frame lie in the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Layout {
    pub(super) width: usize,
    pub(super) height: usize,
    /// Log2 of the chroma subsampling (horizontal, vertical); `None` without chroma.
    pub(super) subsampling: Option<(u32, u32)>,
    pub(super) full_range: bool,
}

impl Layout {
    /// Width and height of a chroma plane.
    fn chroma(&self) -> (usize, usize) {
        self.subsampling.map_or((0, 0), |(x, y)| (self.width.div_ceil(1 << x), self.height.div_ceil(1 << y)))
    }

    /// Bytes of a frame in the stream; at most those of an RGB frame, which do not overflow.
    pub(super) fn bytes(&self) -> usize {
        let (width, height) = self.chroma();
        self.width * self.height + 2 * width * height
    }
}

/// Converts the planes of a frame to RGB, `[H, W, 3]`. Chroma samples are repeated.
pub(super) fn to_rgb(layout: &Layout, planes: &[u8], rgb: &mut [u8]) {
    let (luma, chroma) = planes.split_at(layout.width * layout.height);
    let matrix = Matrix::bt601(layout.full_range);
    let Some((shift_x, shift_y)) = layout.subsampling else {
        for (y, out) in luma.iter().zip(rgb.chunks_exact_mut(3)) {
            out.copy_from_slice(&matrix.rgb(*y, 128, 128));
        }
        return;
    };
    let (chroma_width, chroma_height) = layout.chroma();
    let (cb, cr) = chroma.split_at(chroma_width * chroma_height);
    let rows = luma.chunks_exact(layout.width).zip(rgb.chunks_exact_mut(layout.width * 3));
    for (row, (luma, out)) in rows.enumerate() {
        let start = (row >> shift_y) * chroma_width;
        let (cb, cr) = (&cb[start..][..chroma_width], &cr[start..][..chroma_width]);
        for (x, (y, out)) in luma.iter().zip(out.chunks_exact_mut(3)).enumerate() {
            out.copy_from_slice(&matrix.rgb(*y, cb[x >> shift_x], cr[x >> shift_x]));
        }
    }
}

/// ITU-R BT.601: with Kr = 0.299, Kb = 0.114, Kg = 1 − Kr − Kb, luma y and colour differences pb, pr,
/// R = y + 2(1 − Kr)·pr, B = y + 2(1 − Kb)·pb, G = y − 2(1 − Kr)·Kr/Kg·pr − 2(1 − Kb)·Kb/Kg·pb.
struct Matrix {
    black: i64,
    luma: i64,
    red_cr: i64,
    green_cb: i64,
    green_cr: i64,
    blue_cb: i64,
}

impl Matrix {
    /// Fraction bits of the coefficients: enough that rounding equals that of f64 arithmetic for all 2²⁴ inputs.
    const BITS: u32 = 40;

    fn bt601(full_range: bool) -> Self {
        // Limited range puts black at 16 and white at 235, colour differences at 128 ± 112.
        let (black, luma, chroma) = if full_range { (0, 1.0, 1.0) } else { (16, 255.0 / 219.0, 255.0 / 224.0) };
        let (kr, kb) = (0.299, 0.114);
        let kg = 1.0 - kr - kb;
        let fixed = |value: f64| (value * (1_i64 << Self::BITS) as f64).round() as i64;
        Matrix {
            black,
            luma: fixed(luma),
            red_cr: fixed(chroma * 2.0 * (1.0 - kr)),
            green_cb: fixed(-chroma * 2.0 * (1.0 - kb) * kb / kg),
            green_cr: fixed(-chroma * 2.0 * (1.0 - kr) * kr / kg),
            blue_cb: fixed(chroma * 2.0 * (1.0 - kb)),
        }
    }

    fn rgb(&self, y: u8, cb: u8, cr: u8) -> [u8; 3] {
        let luma = (i64::from(y) - self.black) * self.luma + (1 << (Self::BITS - 1));
        let (cb, cr) = (i64::from(cb) - 128, i64::from(cr) - 128);
        [self.red_cr * cr, self.green_cb * cb + self.green_cr * cr, self.blue_cb * cb]
            .map(|difference| ((luma + difference) >> Self::BITS).clamp(0, 255) as u8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chroma_lies_where_it_belongs() {
        // 3×3, 4:2:0: chroma 2×2, each sample over 2×2 pixels, cut off right and below. Cr 128 but for one sample at a time.
        for sample in 0..4 {
            let mut planes = vec![100; 9];
            planes.extend([128; 8]);
            planes[9 + 4 + sample] = 200;
            let layout = Layout { width: 3, height: 3, subsampling: Some((1, 1)), full_range: false };
            let mut rgb = vec![0; 27];
            to_rgb(&layout, &planes, &mut rgb);
            for (i, pixel) in rgb.chunks(3).enumerate() {
                let over = (i % 3) / 2 + (i / 3) / 2 * 2;
                assert_eq!(pixel[0] > pixel[2], over == sample, "pixel {i}, sample {sample}");
            }
        }
    }

    /// BT.601 in f64.
    fn by_definition(full: bool, y: u8, cb: u8, cr: u8) -> [u8; 3] {
        let (y, cb, cr) = (f64::from(y), f64::from(cb) - 128.0, f64::from(cr) - 128.0);
        let (y, pb, pr) = if full { (y, cb, cr) } else { ((y - 16.0) * 255.0 / 219.0, cb * 255.0 / 224.0, cr * 255.0 / 224.0) };
        let (r, b) = (y + 1.402 * pr, y + 1.772 * pb);
        // From Y = 0.299 R + 0.587 G + 0.114 B.
        let g = (y - 0.299 * r - 0.114 * b) / 0.587;
        [r, g, b].map(|v| (v + 0.5).floor().clamp(0.0, 255.0) as u8)
    }

    #[test]
    fn colours_are_bt601() {
        for full in [false, true] {
            let matrix = Matrix::bt601(full);
            let mut ties = 0;
            for y in 0..=255 {
                for cb in 0..=255 {
                    for cr in 0..=255 {
                        let (ours, exact) = (matrix.rgb(y, cb, cr), by_definition(full, y, cb, cr));
                        for (ours, exact) in ours.iter().zip(exact) {
                            assert!(ours.abs_diff(exact) <= 1, "{full} {y} {cb} {cr}");
                            ties += usize::from(*ours != exact);
                        }
                    }
                }
            }
            // Exact halves, where the last bit of f64 decides.
            assert!(ties * 1000 < 1 << 24, "{ties}");
        }
        // The colour bars' primaries in limited range (BT.601, 100 %): red 81 90 240, green 145 54 34, blue 41 240 110.
        let matrix = Matrix::bt601(false);
        for (yuv, rgb) in [([81, 90, 240], [254, 0, 0]), ([145, 54, 34], [0, 255, 1]), ([41, 240, 110], [0, 0, 255])] {
            assert_eq!(matrix.rgb(yuv[0], yuv[1], yuv[2]), rgb);
        }
    }
}
