//! Learned patches and tubes, as TubeViT's figure 5 shows them: a tube's time steps side by side.

use tubelet_engine::{DType, Device, Error, Result, Tensor};

use super::Picture;
use crate::{
    params::{Naming, Params, TensorFile},
    registry::Config,
};

/// The kernels of one shape.
pub struct Kernels {
    /// The parameter.
    pub name: String,
    /// `[t, h, w]`
    pub size: [usize; 3],
    /// `[O, t, h, w, 3]`
    pub values: Vec<f32>,
}

impl Kernels {
    fn new(name: String, weight: &Tensor) -> Result<Self> {
        let s = weight.shape();
        Ok(Kernels { name, size: [s[1], s[2], s[3]], values: weight.to_f32_vec()? })
    }

    fn each(&self) -> usize {
        self.size.iter().product::<usize>() * 3
    }

    /// The kernels of largest norm, largest first: those that learned something.
    fn largest(&self, count: usize) -> Vec<&[f32]> {
        let norm = |kernel: &[f32]| kernel.iter().map(|x| x * x).sum::<f32>();
        let mut all: Vec<&[f32]> = self.values.chunks_exact(self.each().max(1)).collect();
        all.sort_by(|a, b| norm(b).total_cmp(&norm(a)));
        all.truncate(count);
        all
    }
}

/// What a checkpoint's model takes from a video: its patches or tubes; of an interpolated kernel, every tube's.
///
/// # Errors
/// As of loading the model.
pub fn of(config: &Config, file: &dyn TensorFile, naming: &dyn Naming) -> Result<Vec<Kernels>> {
    let device = Device::cpu()?;
    let mut params = Params::from_file(&device, DType::F32, file, naming).collecting();
    config.build(&mut params)?;
    let collected = params.take_collected();
    params.finish()?;
    let mut all = Vec::new();
    // Of all parameters only these read three channels of pixels.
    for parameter in collected.into_iter().filter(|p| p.value.rank() == 5 && p.value.shape().ends_with(&[3])) {
        match config {
            Config::TubeVit(config) if parameter.name == "tubes.weight" => {
                for (i, tube) in config.tubes.iter().enumerate() {
                    all.push(Kernels::new(format!("tubes.weight, as tube {i}"), &tube.resized(&parameter.value)?)?);
                }
            }
            _ => all.push(Kernels::new(parameter.name, &parameter.value)?),
        }
    }
    if all.is_empty() {
        return Err(Error::invalid("kernels", "the model has no kernels over pixels"));
    }
    Ok(all)
}

/// Width of the picture, at least that of one kernel.
const WIDTH: usize = 1120;
/// Pixels of a kernel's shorter side in the picture, about.
const SIDE: usize = 40;
const GAP: usize = 2;
const BACKGROUND: [u8; 3] = [255; 3];

/// How the kernels of one shape are laid out.
struct Layout<'a> {
    kernels: Vec<&'a [f32]>,
    size: [usize; 3],
    zoom: usize,
    per_line: usize,
}

impl<'a> Layout<'a> {
    fn new(kernels: &'a Kernels, count: usize) -> Self {
        let [t, h, w] = kernels.size;
        let zoom = (SIDE / h.min(w).max(1)).max(1);
        let width = t * w * zoom + (t - 1);
        let kernels_drawn = kernels.largest(count);
        let per_line = (WIDTH / (width + 4 * GAP)).clamp(1, kernels_drawn.len().max(1));
        Layout { kernels: kernels_drawn, size: kernels.size, zoom, per_line }
    }

    /// Width and height of one kernel: its time steps side by side, a pixel between them.
    fn cell(&self) -> (usize, usize) {
        let [t, h, w] = self.size;
        (t * w * self.zoom + (t - 1), h * self.zoom)
    }

    fn extent(&self) -> (usize, usize) {
        let (cell, lines) = (self.cell(), self.kernels.len().div_ceil(self.per_line));
        (self.per_line * (cell.0 + 4 * GAP) - 4 * GAP, lines * (cell.1 + 2 * GAP))
    }

    fn draw(&self, picture: &mut Picture, top: usize) {
        let ([t, h, w], cell) = (self.size, self.cell());
        for (i, kernel) in self.kernels.iter().enumerate() {
            let (left, top) = (i % self.per_line * (cell.0 + 4 * GAP), top + i / self.per_line * (cell.1 + 2 * GAP));
            let most = kernel.iter().fold(f32::MIN_POSITIVE, |most, x| most.max(x.abs()));
            for step in 0..t {
                let at = (left + step * (w * self.zoom + 1), top);
                picture.fill(at, (w * self.zoom, h * self.zoom), |x, y| {
                    let first = ((step * h + y / self.zoom) * w + x / self.zoom) * 3;
                    // Grey is 0, so that what a channel wants and what it does not want differ.
                    std::array::from_fn(|c| (127.5 + 127.5 * kernel[first + c] / most).round() as u8)
                });
            }
        }
    }
}

/// The `count` kernels of largest norm of each shape, shape below shape; time from left to right.
///
/// # Errors
/// Kernels that are not finite, or too large for a picture.
pub fn draw(all: &[Kernels], count: usize) -> Result<Picture> {
    if let Some(broken) = all.iter().find(|kernels| kernels.values.iter().any(|x| !x.is_finite())) {
        return Err(Error::invalid("weights", format!("{} has values that are no finite numbers", broken.name)));
    }
    let layouts: Vec<Layout<'_>> = all.iter().map(|kernels| Layout::new(kernels, count)).collect();
    let width = layouts.iter().map(|layout| layout.extent().0).max().unwrap_or(0);
    let height = layouts.iter().map(|layout| layout.extent().1 + 8 * GAP).sum::<usize>().saturating_sub(10 * GAP);
    let mut picture = Picture::new(width, height, BACKGROUND)?;
    let mut top = 0;
    for layout in &layouts {
        layout.draw(&mut picture, top);
        top += layout.extent().1 + 8 * GAP;
    }
    Ok(picture)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_largest_kernel_comes_first_with_its_time_steps_side_by_side() {
        // Two kernels [2, 1, 1, 3]; the second is larger.
        let values = vec![0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 1.0, 0.0, -1.0, 0.0, 0.0, 0.0];
        let kernels = Kernels { name: "tubes.0.weight".into(), size: [2, 1, 1], values };
        let picture = draw(&[kernels], 1).unwrap();
        assert_eq!((picture.width, picture.height), (2 * SIDE + 1, SIDE + 2 * GAP - 2 * GAP));
        assert_eq!(picture.data[..3], [255, 128, 0]);
        assert_eq!(picture.data[(SIDE + 1) * 3..][..3], [128; 3]);
        assert!(draw(&[], 3).is_err());
        let broken = Kernels { name: "tubes.0.weight".into(), size: [1, 1, 1], values: vec![0.0, f32::NAN, 0.0] };
        assert!(draw(&[broken], 1).is_err());
    }
}
