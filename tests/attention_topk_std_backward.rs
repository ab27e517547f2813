crate::properties!("attention_topk_std_backward");
