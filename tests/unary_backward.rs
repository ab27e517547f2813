crate::properties!("unary_backward");
