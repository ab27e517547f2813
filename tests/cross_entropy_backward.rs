crate::properties!("cross_entropy_backward");
