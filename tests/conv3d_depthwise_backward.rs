crate::properties!("conv3d_depthwise_backward");
