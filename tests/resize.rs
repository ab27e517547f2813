crate::properties!("resize");
