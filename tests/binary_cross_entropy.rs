crate::properties!("binary_cross_entropy");
