crate::properties!("conv3d_backward_video");
