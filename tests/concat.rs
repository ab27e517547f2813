crate::properties!("concat");
