//! Sums, means, sums of squares and maxima over some dimensions.

use tubelet_engine::{
    Result, Tensor,
    ops::reduce::{Reduce, Reduction},
};

use crate::{
    device::Wgpu,
    kernel::{Kernel, count, operand},
};

pub fn run(op: &Reduce, inputs: &[Option<&Tensor>], outputs: &[Tensor], gpu: &Wgpu) -> Result<()> {
    let x = operand(inputs, 0)?.detach();
    // The kept dimensions first: a result's elements are then neighbours in row-major order.
    let kept = (0..x.rank()).filter(|d| !op.axes.contains(d));
    let x = x.permute(&kept.chain(op.axes.iter().copied()).collect::<Vec<_>>())?;
    let inner = count(&x.shape()[x.rank() - op.axes.len()..]);
    let reduction = match op.reduction {
        Reduction::Sum => 0,
        Reduction::Mean => 1,
        Reduction::Max => 2,
        Reduction::Squares => 3,
    };
    Kernel::new("reduce", include_str!("reduce.wgsl"))
        .lanes(gpu.row_lanes())
        .read("x", &x)
        .write("y", &outputs[0])
        .size("inner", inner)
        .constant("REDUCTION", reduction)
        .launch(outputs[0].elements(), gpu)
}
