crate::properties!("layer_norm_gemm");
