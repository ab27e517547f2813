//! Gradient of temporal attention with topK_std pooling: the kept rows' scores, then the queries', keys' and values' elements.

use tubelet_engine::{DType, Result, Tensor, ops::attention_topk_std_backward::AttentionTopkStdBackward};

use crate::{
    attention_topk_std::sizes,
    device::Wgpu,
    kernel::{Kernel, count, operand},
};

pub fn run(op: &AttentionTopkStdBackward, inputs: &[Option<&Tensor>], outputs: &[Tensor], gpu: &Wgpu) -> Result<()> {
    let [q, k, v, kept, gradient] =
        [operand(inputs, 0)?, operand(inputs, 1)?, operand(inputs, 2)?, operand(inputs, 3)?, operand(inputs, 4)?];
    let (s, widths) = (q.shape(), [q.shape()[4], v.shape()[4]]);
    let rows = [kept.shape()[0], kept.shape()[1], kept.shape()[2], kept.shape()[3], s[1]];
    let scratch = || Tensor::empty(q.device(), DType::F32, &rows);
    let [first, weights, ds] = [scratch()?, scratch()?, scratch()?];
    let kernel = Kernel::new("attention_topk_std_backward", include_str!("attention_topk_std_backward.wgsl"))
        .strided("q", q)
        .strided("k", k)
        .strided("v", v)
        .read("kept", kept)
        .strided("gradient", gradient)
        .write("first", &first)
        .write("weights", &weights)
        .write("ds", &ds)
        .size("keep", rows[1])
        .size("width", widths[0])
        .size("value_width", widths[1])
        .number("scale", op.scale)
        .constant("RENORMALIZE", op.renormalize.into());
    sizes(kernel, q).launch_each(kept.elements(), gpu)?;
    let queries = include_str!("attention_topk_std_backward_queries.wgsl");
    let kernel = Kernel::new("attention_topk_std_backward_queries", queries)
        .strided("k", k)
        .read("kept", kept)
        .read("ds", &ds)
        .write("dq", &outputs[0])
        .size("keep", rows[1])
        .size("width", widths[0]);
    sizes(kernel, q).launch_each(outputs[0].elements(), gpu)?;
    let kernel = Kernel::new("attention_topk_std_backward_keys", include_str!("attention_topk_std_backward_keys.wgsl"))
        .strided("q", q)
        .read("kept", kept)
        .read("ds", &ds)
        .read("weights", &weights)
        .strided("gradient", gradient)
        .write("dk", &outputs[1])
        .write("dv", &outputs[2])
        .size("keep", rows[1])
        .size("width", widths[0])
        .size("value_width", widths[1]);
    sizes(kernel, q).launch_each(count(&s[..4]) * widths[0].max(widths[1]), gpu)
}
