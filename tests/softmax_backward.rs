crate::properties!("softmax_backward");
