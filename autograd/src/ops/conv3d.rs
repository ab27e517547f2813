//! Each gradient by a kernel of its own, straight from the video: no matrix of patches is kept.

use tubelet_engine::{
    Result, Tensor,
    ops::{
        conv3d::Conv3d,
        conv3d_backward_video::{Conv3dBackwardVideo, conv3d_backward_video},
        conv3d_backward_weight::{Conv3dBackwardWeight, conv3d_backward_weight},
        reduce::{Reduction, reduce},
    },
};

use super::{At, Keep, Rule, sum_rows};

impl Rule for Conv3d {
    fn keep(&self, wanted: &[bool], _: &[Option<&Tensor>]) -> Keep {
        // The video for the weight's gradient, and the other way round.
        Keep { inputs: [0, 1].into_iter().filter(|&i| wanted[1 - i]).collect(), outputs: Vec::new() }
    }

    fn backward(&self, at: &At<'_>) -> Result<Vec<Option<Tensor>>> {
        let gradient = at.gradient()?;
        let dvideo = || {
            let video = &at.operand(0)?.shape;
            let op = Conv3dBackwardVideo { conv: self.clone(), size: [video[1], video[2], video[3]] };
            conv3d_backward_video(op, gradient, at.input(1)?)
        };
        let dweight = || {
            let weight = &at.operand(1)?.shape;
            let op = Conv3dBackwardWeight { conv: self.clone(), kernel: [weight[1], weight[2], weight[3]] };
            conv3d_backward_weight(op, at.input(0)?, gradient)
        };
        Ok(vec![
            at.if_wanted(0, dvideo)?,
            at.if_wanted(1, dweight)?,
            at.if_wanted(2, || sum_rows(gradient))?,
            at.if_wanted(3, || reduce(Reduction::Sum, gradient, &[0]))?,
        ])
    }
}
