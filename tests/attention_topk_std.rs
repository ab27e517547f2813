crate::properties!("attention_topk_std");
