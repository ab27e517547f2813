crate::properties!("resize_backward");
