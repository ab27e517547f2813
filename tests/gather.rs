crate::properties!("gather");
