//! Reverse-mode differentiation over `tubelet_engine`: one backward rule for each operation, in terms of operations.
//!
//! A [`Variable`] is a tensor that gradients are wanted for. What is computed from it by the engine's ordinary functions is recorded, and
//! [`backward`] walks the record from a loss back to the variables. What does not depend on a variable is not recorded and keeps nothing alive, so
//! a frozen part of a model costs no activation memory.
//!
//! ```
//! use tubelet_autograd::{Variable, backward};
//! use tubelet_engine::{Device, Tensor, ops::{gemm::linear, reduce::{Reduction, reduce}}};
//!
//! let device = Device::cpu()?;
//! let x = Tensor::from_slice(&device, &[1, 2], &[3f32, 4.0])?;
//! let weight = Variable::new(Tensor::from_slice(&device, &[1, 2], &[1f32, 1.0])?)?;
//! let loss = reduce(Reduction::Sum, &linear(&x, &weight, None)?, &[0, 1])?;
//! let gradients = backward(&loss)?;
//! assert_eq!(gradients.get(&weight).map(|g| g.to_vec::<f32>()).transpose()?, Some(vec![3.0, 4.0]));
//! # Ok::<(), tubelet_engine::Error>(())
//! ```

mod backward;
mod check;
mod checkpoint;
mod graph;
mod mode;
mod ops;
mod variable;

pub use backward::{Gradients, backward, backward_from};
pub use check::{GradientCheck, gradcheck};
pub use checkpoint::checkpoint;
pub use mode::{detect_anomalies, without_recording};
pub use ops::has_rule;
pub use variable::Variable;
