crate::properties!("interpolate");
