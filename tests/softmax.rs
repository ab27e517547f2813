crate::properties!("softmax");
