crate::properties!("conv3d");
