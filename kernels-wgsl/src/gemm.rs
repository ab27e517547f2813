//! Matrix product with epilogue: a linear layer, or a batch of products.

use tubelet_engine::{Result, Tensor, ops::gemm::Gemm};

use crate::{
    device::Wgpu,
    kernel::{Kernel, count, operand, optional},
    operand::has_vectors,
    product::Product,
    unary::number,
};

pub fn run(op: &Gemm, inputs: &[Option<&Tensor>], outputs: &[Tensor], gpu: &Wgpu) -> Result<()> {
    let (x, weight) = (operand(inputs, 0)?, operand(inputs, 1)?);
    let (xs, rank) = (x.shape(), x.rank());
    let batched = weight.rank() > 2;
    // With one weight for all, the batch is so many more rows.
    let lead = if batched { rank - 2 } else { 0 };
    let vectors = has_vectors(x, gpu) && has_vectors(weight, gpu);
    let product = Product {
        batches: count(&xs[..lead]),
        m: count(&xs[lead..rank - 1]),
        n: weight.shape()[weight.rank() - 2],
        k: xs[rank - 1],
        vectors,
    };
    let kernel = Kernel::new("gemm", include_str!("gemm.wgsl"));
    let kernel = kernel
        .then(if vectors { include_str!("gemm_vectors.wgsl") } else { include_str!("gemm_numbers.wgsl") })
        .rows("x", x)
        .by_fours(vectors)
        .rows("weight", weight)
        .by_fours(vectors)
        .read_optional("bias", optional(inputs, 2))
        .read_optional("residual", optional(inputs, 3))
        .write("y", &outputs[0])
        .number("alpha", op.alpha)
        .constant("FUNCTION", number(op.function))
        .constant("BATCHED", batched.into());
    product.launch(kernel, gpu)
}
