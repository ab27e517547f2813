//! What a model looks at: attention rolled out from what the head reads back to the video (Abnar & Zuidema, 2020).
//!
//! A layer makes each token, half of itself by its residual connection and half of what it attends to: `½(A + I)`, where A is the mean of the heads'
//! probabilities. The product over all layers tells what share each token of the video has in the token that is read. Only that token's row is wanted,
//! so a vector goes back through the layers, and no product of matrices is ever formed.
//!
//! Layers that attend over time and space in turn with one projection (VidTr) have `A = mean over heads of A_space·A_time`; where frames are dropped
//! (compact VidTr) head by head, rows and residual stream follow each head's choice. UniFormerV2's global blocks are drawn as they are: the mean
//! over blocks and heads of what the video token's query attends to. Depthwise convolutions, MLPs and TubeViT's late connection count as the identity.

mod trail;

use tubelet_engine::{DType, Device, Error, Result, Tensor};

pub use trail::{Cell, Hop, Step};

use crate::{Pass, model::Model, video::Frames};

/// The share of each token in a prediction.
#[derive(Clone, Debug, PartialEq)]
pub struct Rollout {
    /// A share for each token of the video.
    pub shares: Vec<f32>,
    /// Where these tokens are.
    pub cells: Vec<Cell>,
    /// The share of class tokens, which are of no place. With the others it makes 1.
    pub classes: f32,
    /// `[T, H, W]`
    pub video: [usize; 3],
}

impl Rollout {
    /// From the steps of a pass over one video `[T, H, W]`.
    ///
    /// # Errors
    /// A pass that left no trail.
    pub fn from_trail(trail: &[Step], video: [usize; 3]) -> Result<Self> {
        let queries: Vec<(Vec<f32>, f32)> = trail.iter().filter_map(trail::looked_at).collect::<Result<_>>()?;
        // Queries look at tokens as they are; without any, the token that is read is followed back through all layers.
        let (mut shares, mut classes) = if queries.is_empty() { (vec![1.0], 0.0) } else { mean(&queries)? };
        for step in trail.iter().rev() {
            if queries.is_empty() || matches!(step, Step::Classes { .. }) {
                let (before, gone) = step.back(shares)?;
                (shares, classes) = (before, classes + gone);
            }
        }
        let Some(Step::Cells(cells)) = trail.first() else {
            return Err(Error::invalid("rollout", "the model tells nothing of its attention"));
        };
        if cells.len() != shares.len() {
            return Err(Error::shape("rollout", format!("{} shares for {} tokens", shares.len(), cells.len())));
        }
        Ok(Rollout { shares, cells: cells.clone(), classes, video })
    }

    /// `[T, H, W]`: every token's share spread evenly over its voxels, so that tubes of all sizes add up on one grid.
    pub fn heat(&self) -> Vec<f32> {
        let [t, h, w] = self.video;
        let mut heat = vec![0.0; t * h * w];
        for (cell, share) in self.cells.iter().zip(&self.shares) {
            let each = share / cell.size.iter().product::<usize>().max(1) as f32;
            let end = |axis: usize| (cell.start[axis] + cell.size[axis]).min(self.video[axis]);
            for frame in cell.start[0]..end(0) {
                for row in cell.start[1]..end(1) {
                    let line = (frame * h + row) * w;
                    heat[line + cell.start[2]..line + end(2)].iter_mut().for_each(|x| *x += each);
                }
            }
        }
        heat
    }

    /// The least and the most that a voxel gets, where 1 is what each would get of an even look.
    pub fn range(&self) -> [f32; 2] {
        let (heat, sum) = (self.heat(), self.shares.iter().sum::<f32>());
        let even = (sum / heat.len().max(1) as f32).max(f32::MIN_POSITIVE);
        let most = heat.iter().copied().fold(0.0, f32::max);
        [heat.iter().copied().fold(most, f32::min) / even, most / even]
    }

    /// The share of each frame.
    pub fn over_time(&self) -> Vec<f32> {
        self.heat()
            .chunks((self.video[1] * self.video[2]).max(1))
            .map(|frame| frame.iter().map(|&x| f64::from(x)).sum::<f64>() as f32)
            .collect()
    }
}

/// The mean over queries of their tokens' shares, and of what went to no token.
fn mean(queries: &[(Vec<f32>, f32)]) -> Result<(Vec<f32>, f32)> {
    let (len, n) = (queries.first().map_or(0, |(row, _)| row.len()), queries.len() as f32);
    if queries.iter().any(|(row, _)| row.len() != len) {
        return Err(Error::shape("rollout", "queries over different tokens"));
    }
    let shares = (0..len).map(|i| queries.iter().map(|(row, _)| row[i]).sum::<f32>() / n).collect();
    Ok((shares, queries.iter().map(|(_, gone)| gone).sum::<f32>() / n))
}

/// The logits of one view, and the share of each of its tokens in them.
///
/// # Errors
/// Of the model; logits or shares that are not finite numbers mean broken weights.
pub fn look(model: &dyn Model, device: &Device, view: &Frames) -> Result<(Vec<f32>, Rollout)> {
    let size = [view.len(), view.height, view.width];
    let video = Tensor::from_bytes(device, DType::U8, &[1, size[0], size[1], size[2], 3], &view.data)?;
    let mut pass = Pass::followed();
    let logits = model.forward(&video, &mut pass)?.to_f32_vec()?;
    let rollout = Rollout::from_trail(&pass.into_trail(), size)?;
    if logits.iter().chain(&rollout.shares).any(|x| !x.is_finite()) {
        return Err(Error::invalid(
            "weights",
            "logits or attention are no finite numbers: broken, or too large for this element type",
        ));
    }
    Ok((logits, rollout))
}
