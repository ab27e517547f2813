crate::properties!("gather_backward");
