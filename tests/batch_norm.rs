crate::properties!("batch_norm");
