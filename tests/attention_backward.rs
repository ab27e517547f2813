crate::properties!("attention_backward");
