//! Matrix product with epilogue: a linear layer, or a batch of products.

use tubelet_engine::{Result, Tensor, ops::gemm::Gemm};

use crate::{
    device::Wgpu,
    kernel::{Kernel, count, has_vectors, operand, optional},
    product::Product,
    unary::number,
};

pub fn run(op: &Gemm, inputs: &[Option<&Tensor>], outputs: &[Tensor], gpu: &Wgpu) -> Result<()> {
    let (x, weight) = (operand(inputs, 0)?, operand(inputs, 1)?);
    let (xs, rank) = (x.shape(), x.rank());
    let batched = weight.rank() > 2;
    // With one weight for all, the batch is so many more rows.
    let lead = if batched { rank - 2 } else { 0 };
    let product = Product {
        batches: count(&xs[..lead]),
        m: count(&xs[lead..rank - 1]),
        n: weight.shape()[weight.rank() - 2],
        k: xs[rank - 1],
    };
    let kernel = if has_vectors(x) && has_vectors(weight) {
        const SOURCE: &str = concat!(
            include_str!("gemm.wgsl"),
            include_str!("gemm_vectors.wgsl"),
            include_str!("product_fill_vectors.wgsl"),
            include_str!("product.wgsl")
        );
        Kernel::new("gemm", SOURCE).rows_of_vectors("x", x).rows_of_vectors("weight", weight)
    } else {
        const SOURCE: &str = concat!(
            include_str!("gemm.wgsl"),
            include_str!("gemm_numbers.wgsl"),
            include_str!("product_fill.wgsl"),
            include_str!("product.wgsl")
        );
        Kernel::new("gemm", SOURCE).rows("x", x).rows("weight", weight)
    };
    let kernel = kernel
        .read_optional("bias", optional(inputs, 2))
        .read_optional("residual", optional(inputs, 3))
        .write("y", &outputs[0])
        .number("alpha", op.alpha)
        .constant("FUNCTION", number(op.function))
        .constant("BATCHED", batched.into());
    product.launch(kernel, gpu)
}
