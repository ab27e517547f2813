crate::properties!("cross_entropy");
