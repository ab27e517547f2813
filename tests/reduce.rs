crate::properties!("reduce");
