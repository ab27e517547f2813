crate::properties!("gemm");
