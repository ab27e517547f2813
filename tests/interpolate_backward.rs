crate::properties!("interpolate_backward");
