//! What the camera looks at: a canvas without borders.

use serde::{Deserialize, Serialize};
use tubelet_engine::{
    DType, Device, Philox, Result, Tensor,
    ops::resize::{Filter, Resize, resize},
};

use crate::video::Frames;

/// Side of a canvas in pixels.
const SIDE: usize = 192;

/// What scenes look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Family {
    /// Noise over lattices of 4, 8, 16, … points, discs and rectangles.
    Training,
    /// Noise over lattices of 3, 6, 12, … points with other weights, triangles and rings, stripes at an angle.
    HeldOut,
}

/// Colours 0…255, `[H, W]`.
#[derive(Clone)]
pub(super) struct Canvas {
    pixels: Vec<[f32; 3]>,
    size: [usize; 2],
    /// Beyond its borders a drawn canvas repeats, and a picture is mirrored.
    mirrored: bool,
}

impl Canvas {
    /// A random canvas.
    pub fn draw(rng: &mut Philox, family: Family) -> Self {
        let mut canvas = Canvas { pixels: vec![[0.0; 3]; SIDE * SIDE], size: [SIDE; 2], mirrored: false };
        let lattice = if family == Family::Training { 4 } else { 3 };
        // Between the 1/f of landscapes and the flat spectrum of gravel.
        let fall = if family == Family::Training { 0.6 + 0.4 * rng.uniform() } else { 0.55 + 0.5 * rng.uniform() };
        canvas.noise(rng, lattice, fall);
        if family == Family::HeldOut && rng.below(3) == 0 {
            canvas.stripes(rng);
        }
        for _ in 0..rng.below(40) {
            canvas.shape(rng, family);
        }
        canvas
    }

    /// A picture, its short side brought to [`SIDE`] pixels.
    pub fn picture(frame: &Frames) -> Result<Self> {
        let device = Device::cpu()?;
        let short = frame.height.min(frame.width).max(1);
        let [height, width] = [frame.height, frame.width].map(|n| (n * SIDE).div_ceil(short));
        let image = Tensor::from_bytes(&device, DType::U8, &[1, frame.height, frame.width, 3], &frame.data)?;
        let op = Resize { height, width, filter: Filter::Bilinear, antialias: true, align_corners: false };
        let pixels = resize(op, &image)?.to_f32_vec()?;
        let pixels = pixels.chunks_exact(3).map(|p| [p[0], p[1], p[2]]).collect();
        Ok(Canvas { pixels, size: [height, width], mirrored: true })
    }

    /// Value noise: octaves over lattices of twice the points each, whose weights fall by `fall`; colours between two or three random ones.
    fn noise(&mut self, rng: &mut Philox, first: usize, fall: f32) {
        let low = colour(rng);
        // Far enough apart to be seen.
        let high = low.map(|x| if x < 128.0 { x + 80.0 + 90.0 * rng.uniform() } else { x - 80.0 - 90.0 * rng.uniform() });
        let tint: [f32; 3] = std::array::from_fn(|_| 60.0 * rng.uniform());
        let mut weight = 1.0;
        let mut field = vec![0f32; SIDE * SIDE];
        let mut points = first;
        while points <= SIDE / 2 {
            let values: Vec<f32> = (0..points * points).map(|_| rng.uniform() - 0.5).collect();
            add_lattice(&mut field, &values, points, weight);
            weight *= fall;
            points *= 2;
        }
        let (min, max) = field.iter().fold((f32::MAX, f32::MIN), |(a, b), &x| (a.min(x), b.max(x)));
        let phase = rng.uniform();
        for (pixel, x) in self.pixels.iter_mut().zip(field) {
            let x = (x - min) / (max - min).max(1e-6);
            // A third colour where the field crosses a level.
            let band = 1.0 - (4.0 * (x - phase).abs()).min(1.0);
            for c in 0..3 {
                pixel[c] = (low[c] + x * (high[c] - low[c]) + band * tint[c]).clamp(0.0, 255.0);
            }
        }
    }

    fn stripes(&mut self, rng: &mut Philox) {
        let paint = colour(rng);
        // Whole numbers of periods along both axes, so that the canvas repeats.
        let (kx, ky) = (rng.range(0, 12) as f32 - 6.0, rng.range(1, 12) as f32);
        for (i, pixel) in self.pixels.iter_mut().enumerate() {
            let (x, y) = ((i % SIDE) as f32, (i / SIDE) as f32);
            let wave = 0.5 + 0.5 * (std::f32::consts::TAU * (kx * x + ky * y) / SIDE as f32).sin();
            (0..3).for_each(|c| pixel[c] += 0.6 * wave * (paint[c] - pixel[c]));
        }
    }

    /// A shape of one colour, its edge a pixel wide.
    fn shape(&mut self, rng: &mut Philox, family: Family) {
        let paint = colour(rng);
        let (cx, cy) = (rng.below(SIDE) as i32, rng.below(SIDE) as i32);
        let radius = 4.0 + 20.0 * rng.uniform() * rng.uniform();
        let (sin, cos) = (std::f32::consts::TAU * rng.uniform()).sin_cos();
        let round = rng.below(2) == 0;
        let reach = (radius * 1.5) as i32 + 1;
        for dy in -reach..=reach {
            for dx in -reach..=reach {
                let (x, y) = (cos * dx as f32 + sin * dy as f32, cos * dy as f32 - sin * dx as f32);
                let distance = match (family, round) {
                    (Family::Training, true) => x.hypot(y) - radius,
                    (Family::Training, false) => x.abs().max(1.7 * y.abs()) - radius,
                    (Family::HeldOut, true) => (x.hypot(y) - 0.8 * radius).abs() - 0.25 * radius,
                    (Family::HeldOut, false) => (0.87 * x.abs() + 0.5 * y).max(-y) - 0.6 * radius,
                };
                let cover = (0.5 - distance).clamp(0.0, 1.0);
                if cover > 0.0 {
                    let at = (cy + dy).rem_euclid(SIDE as i32) as usize * SIDE + (cx + dx).rem_euclid(SIDE as i32) as usize;
                    (0..3).for_each(|c| self.pixels[at][c] += cover * (paint[c] - self.pixels[at][c]));
                }
            }
        }
    }

    /// The colour at a point, between its four pixels.
    #[inline]
    pub fn at(&self, x: f32, y: f32) -> [f32; 3] {
        let (x0, y0) = (x.floor(), y.floor());
        let (fx, fy) = (x - x0, y - y0);
        let [height, width] = self.size;
        let place = |at: i32, n: usize| -> usize {
            let n = n as i32;
            if !self.mirrored {
                return at.rem_euclid(n) as usize;
            }
            let at = at.rem_euclid(2 * n);
            (if at < n { at } else { 2 * n - 1 - at }) as usize
        };
        let (x0, y0) = (x0 as i32, y0 as i32);
        let (i, j, i1, j1) = (place(x0, width), place(y0, height), place(x0 + 1, width), place(y0 + 1, height));
        let p = |j: usize, i: usize| &self.pixels[j * width + i];
        let (a, b, c, d) = (p(j, i), p(j, i1), p(j1, i), p(j1, i1));
        std::array::from_fn(|k| {
            let (top, bottom) = (a[k] + fx * (b[k] - a[k]), c[k] + fx * (d[k] - c[k]));
            top + fy * (bottom - top)
        })
    }
}

/// A random colour.
pub(super) fn colour(rng: &mut Philox) -> [f32; 3] {
    std::array::from_fn(|_| 255.0 * rng.uniform())
}

/// Adds a lattice of `points × points` values, interpolated over the canvas and repeating with it.
fn add_lattice(field: &mut [f32], values: &[f32], points: usize, weight: f32) {
    let step = points as f32 / SIDE as f32;
    // The neighbours and the blend of each column are those of each row, too.
    let taps: Vec<(usize, usize, f32)> = (0..SIDE)
        .map(|i| {
            let at = i as f32 * step;
            let low = at as usize;
            let f = at - low as f32;
            // Smoothed, so that the lattice does not show.
            (low % points, (low + 1) % points, f * f * (3.0 - 2.0 * f))
        })
        .collect();
    let mut row = vec![0f32; points];
    for (y, out) in field.chunks_exact_mut(SIDE).enumerate() {
        let (j0, j1, fy) = taps[y];
        for (i, x) in row.iter_mut().enumerate() {
            let (a, b) = (values[j0 * points + i], values[j1 * points + i]);
            *x = a + fy * (b - a);
        }
        for (out, &(i0, i1, fx)) in out.iter_mut().zip(&taps) {
            *out += weight * (row[i0] + fx * (row[i1] - row[i0]));
        }
    }
}
