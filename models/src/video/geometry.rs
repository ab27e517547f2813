//! Which pixels make a view: the resize plan, the crops, and a plain resize of u8 frames.

use serde::{Deserialize, Serialize};
use tubelet_engine::{Error, Result};

/// Longer sides than any video has; keeps the exact integer arithmetic of [`resize_crop`] within 64 bits.
const MAX_SIDE: usize = 1 << 24;

/// How a frame becomes the input of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Geometry {
    /// Resize so that the short side is `short`, keeping the proportions (the long side is floored), then crop.
    ShortSide {
        /// Length of the short side in pixels.
        short: usize,
        /// `[H, W]` of the crop, in pixels.
        crop: [usize; 2],
    },
    /// Resize straight to the size, whatever the proportions. Allows one "crop", the whole frame.
    Squash {
        /// `[H, W]` in pixels.
        size: [usize; 2],
    },
}

/// A rectangle of pixels within the resized frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rect {
    /// Left edge.
    pub x: usize,
    /// Upper edge.
    pub y: usize,
    /// Width.
    pub width: usize,
    /// Height.
    pub height: usize,
}

/// What to do with frames of one size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Width to resize to.
    pub width: usize,
    /// Height to resize to.
    pub height: usize,
    /// The crops of the resized frame.
    pub crops: Vec<Rect>,
}

impl Geometry {
    /// `[H, W]` of the views.
    pub fn output(&self) -> [usize; 2] {
        match *self {
            Geometry::ShortSide { crop, .. } => crop,
            Geometry::Squash { size } => size,
        }
    }

    /// The plan for frames of `width`×`height`: the size to resize to, and 1 (centre) or 3 crops along the longer side:
    /// at its start, at `⌈(W − S)/2⌉` and at its end, as SlowFast's `uniform_crop`, which UniFormerV2 and ViViT follow.
    ///
    /// # Errors
    /// [`Error::Invalid`] for sizes of 0 or past 2²⁴, a crop larger than the resized frame, or another number of crops.
    pub fn plan(&self, width: usize, height: usize, crops: usize) -> Result<Plan> {
        let [crop_height, crop_width] = self.output();
        let sides = [("frame width", width), ("frame height", height), ("crop width", crop_width), ("crop height", crop_height)];
        for (what, side) in sides {
            check_side(what, side)?;
        }
        match *self {
            Geometry::Squash { .. } if crops != 1 => {
                Err(Error::invalid("crops", format!("{crops}: a frame resized without cropping gives 1 view")))
            }
            Geometry::Squash { .. } => {
                let crops = vec![Rect { x: 0, y: 0, width: crop_width, height: crop_height }];
                Ok(Plan { width: crop_width, height: crop_height, crops })
            }
            Geometry::ShortSide { short, .. } => {
                check_side("geometry.short", short)?;
                let (width, height) = short_side(width, height, short);
                check_side("resized width", width)?;
                check_side("resized height", height)?;
                if crop_width > width || crop_height > height {
                    let message = format!("{crop_width}×{crop_height} does not fit into {width}×{height}, the resized frame");
                    return Err(Error::invalid("geometry.crop", message));
                }
                Ok(Plan { width, height, crops: place_crops([width, height], [crop_width, crop_height], crops)? })
            }
        }
    }
}

fn check_side(what: &str, side: usize) -> Result<()> {
    if (1..=MAX_SIDE).contains(&side) {
        Ok(())
    } else {
        Err(Error::invalid(what, format!("{side} pixels is not within 1..={MAX_SIDE}")))
    }
}

/// The size with the short side `short` and the long side in proportion, rounded down. Sides are at most [`MAX_SIDE`].
fn short_side(width: usize, height: usize, short: usize) -> (usize, usize) {
    let long = |long: usize, over: usize| usize::try_from(long as u64 * short as u64 / over as u64).unwrap_or(usize::MAX);
    if width < height { (short, long(height, width)) } else { (long(width, height), short) }
}

fn place_crops([width, height]: [usize; 2], crop: [usize; 2], crops: usize) -> Result<Vec<Rect>> {
    let room = [width - crop[0], height - crop[1]];
    let centre = Rect { x: room[0].div_ceil(2), y: room[1].div_ceil(2), width: crop[0], height: crop[1] };
    match crops {
        1 => Ok(vec![centre]),
        3 if height > width => Ok(vec![Rect { y: 0, ..centre }, centre, Rect { y: room[1], ..centre }]),
        3 => Ok(vec![Rect { x: 0, ..centre }, centre, Rect { x: room[0], ..centre }]),
        _ => Err(Error::invalid("crops", format!("{crops}: 1 (centre) and 3 (left, centre, right) are known"))),
    }
}

/// Where an output pixel lies between two input pixels: `(first, second, weight of the second)`, the weight in units of
/// 1/(2·out).
type Tap = (usize, usize, u64);

/// Taps of the output pixels `range` for a resize of `input` to `output` pixels. Pixel centres lie at halves, so output
/// pixel d samples at `(d + ½)·input/output − ½ = ((2d + 1)·input − output)/(2·output)`, which is a whole fraction; beyond
/// the outermost centres the edge is repeated.
fn taps(input: usize, output: usize, range: std::ops::Range<usize>) -> Vec<Tap> {
    let unit = 2 * output as u64;
    range
        .map(|d| {
            let position = ((2 * d as u64 + 1) * input as u64).saturating_sub(output as u64);
            let first = usize::try_from(position / unit).unwrap_or(usize::MAX).min(input - 1);
            (first, (first + 1).min(input - 1), position % unit)
        })
        .collect()
}

/// The rectangle `rect` of `source` (`[H, W, 3]`, `from` = (W, H)) resized to `to` = (W, H), into `out` (`[H, W, 3]` of the
/// rectangle). Only the rectangle is computed.
///
/// Bilinear without antialiasing, centres at half pixels, as `torch.nn.functional.interpolate(align_corners=False)` and
/// OpenCV. The arithmetic is in whole numbers and rounds once, half up: the same bits everywhere.
///
/// # Errors
/// [`Error::Shape`] where the buffers do not have their sizes or the rectangle leaves the resized frame.
pub fn resize_crop(source: &[u8], from: (usize, usize), to: (usize, usize), rect: Rect, out: &mut [u8]) -> Result<()> {
    for side in [from.0, from.1, to.0, to.1] {
        check_side("resize", side)?;
    }
    let fits = |offset: usize, length: usize, side: usize| offset.checked_add(length).is_some_and(|end| end <= side);
    if !fits(rect.x, rect.width, to.0) || !fits(rect.y, rect.height, to.1) {
        return Err(Error::shape("resize", format!("{rect:?} leaves the frame of {}×{}", to.0, to.1)));
    }
    let bytes = [source.len() as u64, out.len() as u64];
    let expected = [(from.0 as u64) * from.1 as u64 * 3, rect.width as u64 * rect.height as u64 * 3];
    if bytes != expected {
        return Err(Error::shape("resize", format!("buffers of {bytes:?} bytes, expected {expected:?}")));
    }
    let row_bytes = from.0 * 3;
    let columns = taps(from.0, to.0, rect.x..rect.x + rect.width);
    let rows = taps(from.1, to.1, rect.y..rect.y + rect.height);
    let (unit_x, unit_y) = (2 * to.0 as u64, 2 * to.1 as u64);
    let unit = unit_x * unit_y;
    for (&(first, second, low), out) in rows.iter().zip(out.chunks_exact_mut((rect.width * 3).max(1))) {
        let upper = &source[first * row_bytes..][..row_bytes];
        let lower = &source[second * row_bytes..][..row_bytes];
        for (&(left, right, weight), out) in columns.iter().zip(out.chunks_exact_mut(3)) {
            let across = |row: &[u8], channel: usize| {
                u64::from(row[left * 3 + channel]) * (unit_x - weight) + u64::from(row[right * 3 + channel]) * weight
            };
            for (channel, out) in out.iter_mut().enumerate() {
                let sum = across(upper, channel) * (unit_y - low) + across(lower, channel) * low;
                // A convex combination of bytes: the quotient is a byte.
                *out = ((sum + unit / 2) / unit) as u8;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rects(plan: &Plan) -> Vec<(usize, usize)> {
        plan.crops.iter().map(|rect| (rect.x, rect.y)).collect()
    }

    #[test]
    fn plans_follow_uniform_crop() {
        // 340×256 → short side 224: ⌊340/256·224⌋ = ⌊297.5⌋ = 297; room 73, ⌈73/2⌉ = 37.
        let geometry = Geometry::ShortSide { short: 224, crop: [224, 224] };
        let plan = geometry.plan(340, 256, 3).unwrap();
        assert_eq!((plan.width, plan.height), (297, 224));
        assert_eq!(rects(&plan), [(0, 0), (37, 0), (73, 0)]);
        assert_eq!(rects(&geometry.plan(340, 256, 1).unwrap()), [(37, 0)]);
        let plan = geometry.plan(256, 340, 3).unwrap();
        assert_eq!((plan.width, plan.height), (224, 297));
        assert_eq!(rects(&plan), [(0, 0), (0, 37), (0, 73)]);
        // ViViT: short side 256, crop 224: 320×240 → 341×256; room (117, 32): ⌈117/2⌉ = 59, 16.
        let plan = Geometry::ShortSide { short: 256, crop: [224, 224] }.plan(320, 240, 3).unwrap();
        assert_eq!((plan.width, plan.height), (341, 256));
        assert_eq!(rects(&plan), [(0, 16), (59, 16), (117, 16)]);
        let plan = Geometry::Squash { size: [48, 64] }.plan(7, 9, 1).unwrap();
        assert_eq!(plan, Plan { width: 64, height: 48, crops: vec![Rect { x: 0, y: 0, width: 64, height: 48 }] });
    }

    #[test]
    fn impossible_plans_are_refused() {
        let geometry = Geometry::ShortSide { short: 224, crop: [256, 224] };
        assert!(geometry.plan(320, 240, 1).unwrap_err().to_string().contains("does not fit"));
        let geometry = Geometry::ShortSide { short: 224, crop: [224, 224] };
        for (width, height, crops) in [(0, 9, 1), (9, 0, 1), (usize::MAX, 9, 1), (320, 240, 2), (320, 240, 0), (1, 1 << 24, 1)] {
            assert!(geometry.plan(width, height, crops).is_err(), "{width}×{height}, {crops}");
        }
        assert!(Geometry::Squash { size: [8, 8] }.plan(9, 9, 3).is_err());
        assert!(Geometry::Squash { size: [0, 8] }.plan(9, 9, 1).is_err());
    }

    /// The definition, in f64.
    fn by_definition(source: &[u8], from: (usize, usize), to: (usize, usize)) -> Vec<f64> {
        let at = |d: usize, input: usize, output: usize| {
            let position = ((d as f64 + 0.5) * input as f64 / output as f64 - 0.5).clamp(0.0, (input - 1) as f64);
            (position as usize, (position as usize + 1).min(input - 1), position.fract())
        };
        let mut out = Vec::new();
        for y in 0..to.1 {
            for x in 0..to.0 {
                for c in 0..3 {
                    let (y0, y1, v) = at(y, from.1, to.1);
                    let (x0, x1, u) = at(x, from.0, to.0);
                    let p = |x: usize, y: usize| f64::from(source[(y * from.0 + x) * 3 + c]);
                    let top = p(x0, y0) * (1.0 - u) + p(x1, y0) * u;
                    let bottom = p(x0, y1) * (1.0 - u) + p(x1, y1) * u;
                    out.push(top * (1.0 - v) + bottom * v);
                }
            }
        }
        out
    }

    fn noise(len: usize) -> Vec<u8> {
        (0..len as u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
    }

    fn whole((width, height): (usize, usize)) -> Rect {
        Rect { x: 0, y: 0, width, height }
    }

    #[test]
    fn resize_follows_the_definition() {
        for (from, to) in
            [((7, 5), (3, 9)), ((1, 1), (4, 3)), ((4, 4), (2, 2)), ((2, 3), (8, 6)), ((5, 1), (1, 5)), ((13, 11), (10, 10))]
        {
            let source = noise(from.0 * from.1 * 3);
            let mut out = vec![0; to.0 * to.1 * 3];
            resize_crop(&source, from, to, whole(to), &mut out).unwrap();
            for (ours, exact) in out.iter().zip(by_definition(&source, from, to)) {
                // Rounded to nearest: half a unit, and the f64 definition's own error.
                assert!((f64::from(*ours) - exact).abs() <= 0.5 + 1e-9, "{from:?} → {to:?}: {ours} for {exact}");
            }
        }
    }

    #[test]
    fn resize_by_hand() {
        // 2 → 4: positions −¼ (edge), ¼, ¾, 5/4 (edge): 0, 25, 75, 100.
        let mut out = [0; 12];
        resize_crop(&[0, 0, 0, 100, 100, 100], (2, 1), (4, 1), whole((4, 1)), &mut out).unwrap();
        assert_eq!(out, [0, 0, 0, 25, 25, 25, 75, 75, 75, 100, 100, 100]);
        // The same size is the same frame.
        let source = noise(6 * 4 * 3);
        let mut out = vec![0; source.len()];
        resize_crop(&source, (6, 4), (6, 4), whole((6, 4)), &mut out).unwrap();
        assert_eq!(out, source);
    }

    #[test]
    fn a_crop_is_a_part_of_the_whole() {
        let (from, to) = ((9, 7), (14, 11));
        let source = noise(from.0 * from.1 * 3);
        let mut full = vec![0; to.0 * to.1 * 3];
        resize_crop(&source, from, to, whole(to), &mut full).unwrap();
        let rect = Rect { x: 3, y: 2, width: 8, height: 9 };
        let mut part = vec![0; rect.width * rect.height * 3];
        resize_crop(&source, from, to, rect, &mut part).unwrap();
        for y in 0..rect.height {
            let start = ((y + rect.y) * to.0 + rect.x) * 3;
            assert_eq!(part[y * rect.width * 3..][..rect.width * 3], full[start..][..rect.width * 3]);
        }
    }

    #[test]
    fn buffers_and_rectangles_are_checked() {
        let mut out = [0; 12];
        let rect = whole((2, 2));
        assert!(resize_crop(&[0; 12], (2, 2), (2, 2), rect, &mut out).is_ok());
        assert!(resize_crop(&[0; 11], (2, 2), (2, 2), rect, &mut out).is_err());
        assert!(resize_crop(&[0; 12], (2, 2), (2, 2), rect, &mut out[..11]).is_err());
        assert!(resize_crop(&[0; 12], (2, 2), (2, 2), Rect { x: 1, ..rect }, &mut out).is_err());
        assert!(resize_crop(&[0; 12], (2, 2), (2, 2), Rect { y: usize::MAX, ..rect }, &mut out).is_err());
        assert!(resize_crop(&[], (0, 2), (2, 2), rect, &mut out).is_err());
    }
}
