//! Both gradients by one kernel, which reads the gradient once.

use tubelet_engine::{
    Result, Tensor,
    ops::{
        conv3d_depthwise::Conv3dDepthwise,
        conv3d_depthwise_backward::{Conv3dDepthwiseBackward, conv3d_depthwise_backward},
    },
};

use super::{At, Keep, Rule, sum_rows};

impl Rule for Conv3dDepthwise {
    fn keep(&self, wanted: &[bool], _: &[Option<&Tensor>]) -> Keep {
        Keep { inputs: if wanted[0] || wanted[1] { vec![0, 1] } else { Vec::new() }, outputs: Vec::new() }
    }

    fn backward(&self, at: &At<'_>) -> Result<Vec<Option<Tensor>>> {
        let gradient = at.gradient()?;
        let [dx, dweight] = if at.wants(0) || at.wants(1) {
            let op = Conv3dDepthwiseBackward { padding: self.padding };
            conv3d_depthwise_backward(op, at.input(0)?, at.input(1)?, gradient)?.map(Some)
        } else {
            [None, None]
        };
        Ok(vec![dx, dweight, at.if_wanted(2, || sum_rows(gradient))?, Some(gradient.clone())])
    }
}
