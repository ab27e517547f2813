crate::properties!("adam");
