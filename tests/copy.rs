crate::properties!("copy");
