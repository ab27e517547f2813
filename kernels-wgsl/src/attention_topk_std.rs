//! Temporal attention with topK_std pooling: rows and deviations, the choice, the kept rows times the values.

use tubelet_engine::{DType, Result, Tensor, ops::attention_topk_std::AttentionTopkStd};

use crate::{
    device::Wgpu,
    kernel::{Kernel, operand},
};

/// The sizes of `[B, T, N, heads, D]` as the kernels know them.
pub(crate) fn sizes<'a>(kernel: Kernel<'a>, q: &Tensor) -> Kernel<'a> {
    kernel.size("frames", q.shape()[1]).size("places", q.shape()[2]).size("heads", q.shape()[3])
}

pub fn run(op: &AttentionTopkStd, inputs: &[Option<&Tensor>], outputs: &[Tensor], gpu: &Wgpu) -> Result<()> {
    let [q, k, v] = [operand(inputs, 0)?, operand(inputs, 1)?, operand(inputs, 2)?];
    let s = q.shape();
    let weights = Tensor::empty(q.device(), DType::F32, &[s[0], s[1], s[2], s[3], s[1]])?;
    let kernel = Kernel::new("attention_topk_std", include_str!("attention_topk_std.wgsl"))
        .strided("q", q)
        .strided("k", k)
        .write("weights", &weights)
        .write("std", &outputs[2])
        .size("width", s[4])
        .number("scale", op.scale)
        .constant("RENORMALIZE", op.renormalize.into());
    sizes(kernel, q).launch_each(s[..4].iter().product(), gpu)?;
    let kernel = Kernel::new("attention_topk_std_keep", include_str!("attention_topk_std_keep.wgsl"))
        .read("std", &outputs[2])
        .write("kept", &outputs[1])
        .size("keep", op.keep);
    sizes(kernel, q).launch_each(s[0] * s[2] * s[3], gpu)?;
    let kernel = Kernel::new("attention_topk_std_values", include_str!("attention_topk_std_values.wgsl"))
        .strided("v", v)
        .read("weights", &weights)
        .read("kept", &outputs[1])
        .write("y", &outputs[0])
        .size("keep", op.keep)
        .size("width", v.shape()[4]);
    sizes(kernel, q).launch_each(outputs[0].elements(), gpu)
}
