//! A roll-out over the frames of a clip: frames above, what the model looks at below, time from left to right.

use tubelet_engine::{Error, Result};

use super::Picture;
use crate::{
    rollout::Rollout,
    video::{Frames, Rect, resize_crop},
};

/// A clip and what a model looks at in it.
pub struct Strip<'a> {
    /// The clip, of any size in pixels.
    pub frames: &'a Frames,
    /// The roll-out, over as many frames.
    pub rollout: &'a Rollout,
}

/// Pixels between columns, and between rows.
const GAP: usize = 3;
/// Pixels of a column's shorter side, at least; smaller frames are enlarged by whole factors.
const SIDE: usize = 128;
/// Height of the bars that tell each column's share.
const BAR: usize = 24;
const BACKGROUND: [u8; 3] = [20, 20, 24];

/// Dark to bright, through violet, red and yellow: evenly rising lightness, for eyes that do not tell red from green, too.
const COLOURS: [[u8; 3]; 7] =
    [[10, 8, 40], [70, 16, 110], [145, 38, 105], [205, 65, 70], [243, 120, 25], [250, 195, 55], [253, 252, 170]];

fn colour(value: f32) -> [f32; 3] {
    let place = value.clamp(0.0, 1.0) * (COLOURS.len() - 1) as f32;
    let first = (place as usize).min(COLOURS.len() - 2);
    let part = place - first as f32;
    std::array::from_fn(|c| f32::from(COLOURS[first][c]) * (1.0 - part) + f32::from(COLOURS[first + 1][c]) * part)
}

/// The columns of a strip: consecutive frames as one where there are more than columns.
struct Columns<'a> {
    strip: &'a Strip<'a>,
    /// First frame and the one after the last, of each.
    spans: Vec<(usize, usize)>,
    /// The mean heat of each, over the model's pixels.
    heat: Vec<Vec<f32>>,
    /// Width and height in the picture.
    size: (usize, usize),
}

impl<'a> Columns<'a> {
    fn new(strip: &'a Strip<'a>, most: usize) -> Result<Self> {
        let (frames, [t, h, w]) = (strip.frames, strip.rollout.video);
        if t != frames.len() || t * h * w == 0 {
            return Err(Error::shape("strip", format!("{} frames for a roll-out over [{t}, {h}, {w}]", frames.len())));
        }
        let columns = t.min(most.max(1));
        let spans: Vec<(usize, usize)> = (0..columns).map(|i| (i * t / columns, (i + 1) * t / columns)).collect();
        let heat = strip.rollout.heat();
        let mean = |&(start, end): &(usize, usize)| {
            let sum = |i: usize| (start..end).map(|frame| heat[frame * h * w + i]).sum::<f32>();
            (0..h * w).map(|i| sum(i) / (end - start) as f32).collect()
        };
        let heat = spans.iter().map(mean).collect();
        let factor = SIDE.div_ceil(frames.width.min(frames.height).max(1));
        Ok(Columns { strip, spans, heat, size: (frames.width * factor, frames.height * factor) })
    }

    fn height(&self) -> usize {
        2 * (self.size.1 + GAP) + BAR
    }

    fn width(&self) -> usize {
        self.spans.len() * (self.size.0 + GAP) - GAP
    }

    /// Draws the columns with their upper left corner at `(0, top)`.
    fn draw(&self, picture: &mut Picture, top: usize) -> Result<()> {
        let all = || self.heat.iter().flatten().copied();
        let (low, high) = (all().fold(f32::INFINITY, f32::min), all().fold(0.0, f32::max));
        let shares: Vec<f32> = self.heat.iter().map(|heat| heat.iter().sum()).collect();
        let most = shares.iter().copied().fold(f32::MIN_POSITIVE, f32::max);
        for (i, (&(start, end), heat)) in self.spans.iter().zip(&self.heat).enumerate() {
            let (left, (width, height)) = (i * (self.size.0 + GAP), self.size);
            let frame = self.frame((start + end - 1) / 2)?;
            let pixel = |x: usize, y: usize| -> [u8; 3] { std::array::from_fn(|c| frame[(y * width + x) * 3 + c]) };
            picture.fill((left, top), self.size, pixel);
            let below = top + height + GAP;
            picture.fill((left, below), self.size, |x, y| overlay(pixel(x, y), self.value(heat, x, y, low, high)));
            let bar = ((shares[i] / most) * BAR as f32).round() as usize;
            picture.fill((left, below + height + GAP + BAR - bar), (width, bar), |_, _| colour(0.75).map(|x| x as u8));
        }
        Ok(())
    }

    /// Frame `index` in the picture's size.
    fn frame(&self, index: usize) -> Result<Vec<u8>> {
        let (from, to) = ((self.strip.frames.width, self.strip.frames.height), self.size);
        let bytes = from.0 * from.1 * 3;
        let mut out = vec![0; to.0 * to.1 * 3];
        let rect = Rect { x: 0, y: 0, width: to.0, height: to.1 };
        resize_crop(&self.strip.frames.data[index * bytes..][..bytes], from, to, rect, &mut out)?;
        Ok(out)
    }

    /// The heat under a pixel, the least of the clip being 0 and the most 1.
    fn value(&self, heat: &[f32], x: usize, y: usize, low: f32, high: f32) -> f32 {
        let [_, h, w] = self.strip.rollout.video;
        let x = heat[(y * h / self.size.1) * w + x * w / self.size.0];
        if high > low { (x - low) / (high - low) } else { 0.0 }
    }
}

/// A pixel of a frame under the colour of its heat: what is looked at is bright, the rest dim.
fn overlay(pixel: [u8; 3], value: f32) -> [u8; 3] {
    let [r, g, b] = pixel.map(f32::from);
    let grey = 0.3 * r + 0.59 * g + 0.11 * b;
    let heat = colour(value);
    // The frame's light and shade, in the colours of the heat.
    std::array::from_fn(|c| (heat[c] * (0.35 + 0.65 * grey / 255.0) + 0.12 * grey).min(255.0) as u8)
}

/// Strips below each other, of at most `columns` columns each.
///
/// # Errors
/// Roll-outs over other frames than the strip's; a picture that is too large.
pub fn draw(strips: &[Strip<'_>], columns: usize) -> Result<Picture> {
    let all = strips.iter().map(|strip| Columns::new(strip, columns)).collect::<Result<Vec<_>>>()?;
    let width = all.iter().map(Columns::width).max().unwrap_or(0);
    let height = all.iter().map(|strip| strip.height() + 3 * GAP).sum::<usize>().saturating_sub(3 * GAP);
    let mut picture = Picture::new(width, height, BACKGROUND)?;
    let mut top = 0;
    for strip in &all {
        strip.draw(&mut picture, top)?;
        top += strip.height() + 3 * GAP;
    }
    Ok(picture)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::rollout::Cell;

    fn strip_of(shares: [f32; 2], most: usize) -> Picture {
        let cell = |t: usize, x: usize| Cell { start: [t, 0, x], size: [2, 2, 1] };
        let rollout = Rollout { shares: shares.into(), cells: vec![cell(0, 0), cell(2, 1)], classes: 0.0, video: [4, 2, 2] };
        let frames = Frames { width: 2, height: 2, data: vec![128; 4 * 12] };
        draw(&[Strip { frames: &frames, rollout: &rollout }], most).unwrap()
    }

    #[test]
    fn the_heat_is_where_the_tokens_are() {
        let picture = strip_of([1.0, 0.0], 4);
        let side = SIDE;
        assert_eq!((picture.width, picture.height), (4 * side + 3 * GAP, 2 * (side + GAP) + BAR));
        let at = |x: usize, y: usize| -> [u8; 3] { std::array::from_fn(|c| picture.data[(y * picture.width + x) * 3 + c]) };
        let below = side + GAP + side / 2;
        let (hot, cold) = (overlay([128; 3], 1.0), overlay([128; 3], 0.0));
        assert_eq!(at(1, 1), [128; 3], "the frame as it is");
        assert_eq!(at(1, below), hot);
        assert_eq!(at(side - 1, below), cold);
        assert_eq!(at(side + GAP, below), hot, "the second frame of the first tube");
        assert_eq!(at(2 * (side + GAP), below), cold);
        // The bars: all of it in the first two frames.
        assert_ne!(at(1, picture.height - BAR), BACKGROUND);
        assert_eq!(at(2 * (side + GAP), picture.height - 1), BACKGROUND);
    }

    #[test]
    fn more_frames_than_columns_are_joined() {
        let picture = strip_of([0.5, 0.5], 2);
        assert_eq!(picture.width, 2 * SIDE + GAP);
        let rollout = Rollout { shares: vec![], cells: vec![], classes: 1.0, video: [3, 2, 2] };
        let frames = Frames { width: 2, height: 2, data: vec![0; 4 * 12] };
        assert!(draw(&[Strip { frames: &frames, rollout: &rollout }], 4).is_err(), "of another clip");
    }
}
