crate::properties!("unary");
