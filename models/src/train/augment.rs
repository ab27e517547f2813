//! Changes to clips that leave their classes alone; the same for all frames of a clip.

use serde::{Deserialize, Serialize};
use tubelet_engine::{Error, Philox, Result};

use super::data::Sample;
use crate::video::Frames;

/// What to do to training clips; nothing by default.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Augmentation {
    /// Probability of a mirror image. Not for classes that know left from right.
    pub flip: f32,
    /// Brightness, contrast and saturation change by factors from `1 − jitter` to `1 + jitter`.
    pub colour_jitter: f32,
    /// RandAugment (Cubuk et al., 2020): so many operations drawn from the list.
    pub randaugment: usize,
    /// Their magnitude, of 10.
    pub magnitude: f32,
    /// Mixup (Zhang et al., 2018): the parameter of the Beta distribution, 0 for none. Clips of a batch are mixed in pairs.
    pub mixup: f32,
}

impl Augmentation {
    /// An error where a number makes no sense.
    pub fn validate(&self) -> Result<()> {
        let fits = (0.0..=1.0).contains(&self.flip)
            && (0.0..1.0).contains(&self.colour_jitter)
            && (0.0..=10.0).contains(&self.magnitude)
            && (0.0..=100.0).contains(&self.mixup);
        if fits { Ok(()) } else { Err(Error::invalid("augmentation", format!("{self:?}"))) }
    }

    /// Changes one sample.
    pub fn apply(&self, sample: &mut Sample, rng: &mut Philox) {
        let frames = &mut sample.frames;
        if rng.uniform() < self.flip {
            mirror(frames);
        }
        if self.colour_jitter > 0.0 {
            let mut factor = || 1.0 + self.colour_jitter * (2.0 * rng.uniform() - 1.0);
            colour(frames, factor(), factor(), factor());
        }
        for _ in 0..self.randaugment {
            let strength = self.magnitude / 10.0;
            randaugment(frames, rng.below(8), if rng.below(2) == 0 { strength } else { -strength });
        }
    }

    /// The part that the first clip of a mixed pair keeps: λ of Beta(α, α), or 1.
    pub fn lambda(&self, rng: &mut Philox) -> f32 {
        if self.mixup <= 0.0 {
            return 1.0;
        }
        let (a, b) = (gamma(self.mixup, rng), gamma(self.mixup, rng));
        if a + b > 0.0 { a / (a + b) } else { 0.5 }
    }
}

/// A draw of Gamma(shape, 1): Marsaglia and Tsang (2000), with the boost for shapes below 1.
fn gamma(shape: f32, rng: &mut Philox) -> f32 {
    if shape < 1.0 {
        let u = 1.0 - rng.uniform();
        return gamma(shape + 1.0, rng) * u.powf(1.0 / shape);
    }
    let d = shape - 1.0 / 3.0;
    let c = 1.0 / (9.0 * d).sqrt();
    loop {
        let x = rng.normal();
        let v = (1.0 + c * x).powi(3);
        let u = 1.0 - rng.uniform();
        if v > 0.0 && u.ln() < 0.5 * x * x + d - d * v + d * v.ln() {
            return d * v;
        }
    }
}

/// `first·λ + second·(1 − λ)`, rounded.
pub(super) fn mix(first: &mut Frames, second: &Frames, lambda: f32) {
    for (a, &b) in first.data.iter_mut().zip(&second.data) {
        *a = (lambda * f32::from(*a) + (1.0 - lambda) * f32::from(b)).round() as u8;
    }
}

/// Left and right exchanged.
pub fn mirror(frames: &mut Frames) {
    let width = frames.width;
    for row in frames.data.chunks_exact_mut(3 * width) {
        for x in 0..width / 2 {
            let (left, right) = row.split_at_mut(3 * (width - 1 - x));
            left[3 * x..3 * x + 3].swap_with_slice(&mut right[..3]);
        }
    }
}

/// Each pixel through `f`.
fn each(frames: &mut Frames, f: impl Fn([f32; 3]) -> [f32; 3]) {
    for pixel in frames.data.chunks_exact_mut(3) {
        let out = f([0, 1, 2].map(|c| f32::from(pixel[c])));
        (0..3).for_each(|c| pixel[c] = out[c].round().clamp(0.0, 255.0) as u8);
    }
}

/// Luma of ITU-R BT.601.
fn grey([r, g, b]: [f32; 3]) -> f32 {
    0.299 * r + 0.587 * g + 0.114 * b
}

/// Brightness, contrast about the clip's mean, saturation, by factors.
fn colour(frames: &mut Frames, brightness: f32, contrast: f32, saturation: f32) {
    let count = (frames.data.len() / 3).max(1) as f64;
    let mean = frames.data.chunks_exact(3).map(|p| f64::from(grey([0, 1, 2].map(|c| f32::from(p[c]))))).sum::<f64>() / count;
    let mean = mean as f32;
    each(frames, |pixel| {
        let own = grey(pixel);
        pixel.map(|x| brightness * (mean + contrast * (own + saturation * (x - own) - mean)))
    });
}

/// One operation of RandAugment at a strength in −1…1.
fn randaugment(frames: &mut Frames, which: usize, strength: f32) {
    let factor = 1.0 + 0.9 * strength;
    match which {
        0 => colour(frames, factor, 1.0, 1.0),
        1 => colour(frames, 1.0, factor, 1.0),
        2 => colour(frames, 1.0, 1.0, factor),
        3 => {
            let mask = !0u8 << (4.0 * strength.abs()).round() as u32;
            frames.data.iter_mut().for_each(|x| *x &= mask);
        }
        4 => {
            let threshold = 255.0 * (1.0 - strength.abs());
            each(frames, |pixel| pixel.map(|x| if x >= threshold { 255.0 - x } else { x }));
        }
        5 => stretch(frames),
        6 => warp(frames, [[1.0, 0.3 * strength, 0.0], [0.0, 1.0, 0.0]]),
        _ => {
            let (sin, cos) = (strength * std::f32::consts::PI / 6.0).sin_cos();
            warp(frames, [[cos, -sin, 0.0], [sin, cos, 0.0]]);
        }
    }
}

/// Every channel's range stretched to 0…255 (auto-contrast).
fn stretch(frames: &mut Frames) {
    for c in 0..3 {
        let channel = || frames.data.iter().skip(c).step_by(3).copied();
        let (low, high) = (channel().min().unwrap_or(0), channel().max().unwrap_or(255));
        if high > low {
            let gain = 255.0 / f32::from(high - low);
            frames.data.iter_mut().skip(c).step_by(3).for_each(|x| *x = (f32::from(*x - low) * gain).round() as u8);
        }
    }
}

/// Every frame resampled: output `(x, y)` about the centre reads the input at `matrix · (x, y, 1)`, the nearest pixel, grey outside.
fn warp(frames: &mut Frames, matrix: [[f32; 3]; 2]) {
    let (w, h) = (frames.width, frames.height);
    let (cx, cy) = (0.5 * (w as f32 - 1.0), 0.5 * (h as f32 - 1.0));
    for frame in frames.data.chunks_exact_mut(3 * w * h) {
        let source = frame.to_vec();
        for (i, pixel) in frame.chunks_exact_mut(3).enumerate() {
            let (x, y) = ((i % w) as f32 - cx, (i / w) as f32 - cy);
            let [u, v] = matrix.map(|row| row[0] * x + row[1] * y + row[2]);
            let (u, v) = ((u + cx).round(), (v + cy).round());
            if u >= 0.0 && v >= 0.0 && u < w as f32 && v < h as f32 {
                let at = 3 * (v as usize * w + u as usize);
                pixel.copy_from_slice(&source[at..at + 3]);
            } else {
                pixel.fill(128);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frames() -> Frames {
        Frames { width: 3, height: 2, data: (0..36).collect() }
    }

    #[test]
    fn a_mirror_image_of_a_mirror_image_is_the_image() {
        let mut x = frames();
        mirror(&mut x);
        assert_eq!(x.data[..9], [6, 7, 8, 3, 4, 5, 0, 1, 2]);
        mirror(&mut x);
        assert_eq!(x, frames());
    }

    #[test]
    fn neutral_strengths_change_nothing() {
        let mut x = frames();
        colour(&mut x, 1.0, 1.0, 1.0);
        warp(&mut x, [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]);
        [0, 1, 2, 3, 6, 7].into_iter().for_each(|which| randaugment(&mut x, which, 0.0));
        assert_eq!(x, frames());
        mix(&mut x, &Frames { data: vec![200; 36], ..frames() }, 1.0);
        assert_eq!(x, frames());
    }

    #[test]
    fn mixup_weights_follow_the_beta_distribution() {
        let mut rng = Philox::new(1);
        let augmentation = Augmentation { mixup: 0.4, ..Augmentation::default() };
        let n = 20_000;
        let draws: Vec<f64> = (0..n).map(|_| f64::from(augmentation.lambda(&mut rng))).collect();
        let mean = draws.iter().sum::<f64>() / f64::from(n);
        let variance = draws.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / f64::from(n);
        // Beta(α, α): mean 1/2, variance 1/(4(2α + 1)); five standard errors.
        assert!((mean - 0.5).abs() < 0.014 && (variance - 1.0 / 7.2).abs() < 0.005, "{mean} {variance}");
    }
}
