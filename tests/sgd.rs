crate::properties!("sgd");
