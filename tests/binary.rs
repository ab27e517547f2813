crate::properties!("binary");
