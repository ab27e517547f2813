//! Properties of every operation, on every device, level of instructions and element type; a module for each operation has what is
//! particular to it.

/// The properties that every operation has, as tests of the module it is called in.
macro_rules! properties {
    ($name:literal) => {
        use proptest::prelude::*;
        use tubelet_engine::{DType, samples::Values};

        proptest! {
            #![proptest_config(ProptestConfig { cases: tubelet_tests::cases(60), failure_persistence: None, ..ProptestConfig::default() })]

            #[test]
            fn integers_are_exact(seed: u64, size in 0usize..70, dtype in prop::sample::select(&DType::FLOATS[..])) {
                tubelet_tests::agrees($name, seed, size, dtype, Values::Integers).map_err(|e| TestCaseError::fail(e.to_string()))?;
            }

            #[test]
            fn numbers_are_within_the_derived_tolerance(seed: u64, size in 0usize..70, dtype in prop::sample::select(&DType::FLOATS[..])) {
                tubelet_tests::agrees($name, seed, size, dtype, Values::Normal).map_err(|e| TestCaseError::fail(e.to_string()))?;
            }

            #[test]
            fn special_values_become_what_the_reference_says(seed: u64, size in 0usize..40, dtype in prop::sample::select(&DType::FLOATS[..])) {
                tubelet_tests::agrees($name, seed, size, dtype, Values::Special).map_err(|e| TestCaseError::fail(e.to_string()))?;
            }
        }

        proptest! {
            #![proptest_config(ProptestConfig { cases: tubelet_tests::cases(24), failure_persistence: None, ..ProptestConfig::default() })]

            #[test]
            fn bits_do_not_depend_on_threads(seed: u64, size in 0usize..70, dtype in prop::sample::select(&DType::FLOATS[..])) {
                tubelet_tests::deterministic($name, seed, size, dtype).map_err(|e| TestCaseError::fail(e.to_string()))?;
            }
        }
    };
}
pub(crate) use properties;

mod adam;
mod attention;
mod attention_backward;
mod attention_topk_std;
mod attention_topk_std_backward;
mod batch_norm;
mod batch_norm_backward;
mod binary;
mod binary_cross_entropy;
mod binary_cross_entropy_backward;
mod concat;
mod conv3d;
mod conv3d_backward_video;
mod conv3d_backward_weight;
mod conv3d_depthwise;
mod conv3d_depthwise_backward;
mod copy;
mod cross_entropy;
mod cross_entropy_backward;
mod dropout;
mod gather;
mod gather_backward;
mod gemm;
mod interpolate;
mod interpolate_backward;
mod layer_norm;
mod layer_norm_backward;
mod layer_norm_gemm;
mod reduce;
mod resize;
mod resize_backward;
mod sgd;
mod softmax;
mod softmax_backward;
mod unary;
mod unary_backward;
