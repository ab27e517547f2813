crate::properties!("attention");
