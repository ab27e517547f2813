//! Copy of a view into row-major order, with conversion of the element type.

use super::{Operation, Spec, check, run_one};
use crate::{DType, Error, Result, Tensor};

/// Gathers a view into row-major order and converts to `dtype`: rounding to nearest even, integers saturating.
///
/// | operand | shape | |
/// |---|---|---|
/// | `x` | any | any strides |
/// | result | as `x` | contiguous, of type `dtype` |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Copy {
    /// Element type of the result.
    pub dtype: DType,
}

impl Operation for Copy {
    const NAME: &'static str = "copy";

    fn infer(&self, inputs: &[Option<&Tensor>]) -> Result<Vec<Spec>> {
        check::at_most(Self::NAME, inputs, 1)?;
        let x = check::need(Self::NAME, inputs, 0, "x")?;
        Ok(vec![Spec { dtype: self.dtype, shape: *x.shape() }])
    }

    fn flops(&self, _: &[Option<&Tensor>], _: &[Spec]) -> (u128, u128) {
        (0, 0)
    }
}

/// See [`struct@Copy`].
pub fn copy(x: &Tensor, dtype: DType) -> Result<Tensor> {
    run_one(Copy { dtype }, &[Some(x)])
}

/// Blocks of `block` neighbours along T, H, W become channels: `[B, T, H, W, C]` to `[B, T/bt, H/bh, W/bw, bt·bh·bw·C]`, the block
/// index outermost (TubeViT, section 3.2, space-to-depth). One [`struct@Copy`].
pub fn space_to_depth(x: &Tensor, block: [usize; 3]) -> Result<Tensor> {
    let s = x.shape();
    let misfit =
        || Error::shape("space_to_depth", format!("x {s}, block {block:?}: expected [B, T, H, W, C] divisible by the block"));
    let divides = x.rank() == 5 && block.iter().zip(&s[1..]).all(|(&b, &n)| b != 0 && n % b == 0);
    if !divides {
        return Err(misfit());
    }
    let ([bt, bh, bw], [t, h, w, c]) = (block, [s[1], s[2], s[3], s[4]]);
    let blocks = x.reshape(&[s[0], t / bt, bt, h / bh, bh, w / bw, bw, c])?.permute(&[0, 1, 3, 5, 2, 4, 6, 7])?;
    blocks.contiguous()?.reshape(&[s[0], t / bt, h / bh, w / bw, bt * bh * bw * c])
}
