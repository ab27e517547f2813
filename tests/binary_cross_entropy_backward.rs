crate::properties!("binary_cross_entropy_backward");
