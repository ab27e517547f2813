crate::properties!("batch_norm_backward");
