crate::properties!("dropout");
