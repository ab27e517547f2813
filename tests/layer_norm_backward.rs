crate::properties!("layer_norm_backward");
