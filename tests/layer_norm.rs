crate::properties!("layer_norm");
