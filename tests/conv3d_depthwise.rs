crate::properties!("conv3d_depthwise");
