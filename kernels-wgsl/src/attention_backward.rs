//! Gradient of attention: the queries' first, then the keys' and values'. Scores are computed again instead of kept.

use tubelet_engine::{DType, Result, Tensor, ops::attention_backward::AttentionBackward};

use crate::{
    attention::{along, owned, rows, sizes},
    device::Wgpu,
    kernel::{Kernel, count, operand},
};

pub fn run(op: &AttentionBackward, inputs: &[Option<&Tensor>], outputs: &[Tensor], gpu: &Wgpu) -> Result<()> {
    let view = |i: usize| along(op.axis, operand(inputs, i)?);
    let [q, k, v, out, lse, gradient] = [view(0)?, view(1)?, view(2)?, view(3)?, view(4)?, view(5)?];
    let lanes = gpu.row_lanes();
    let [own, own_value] = [owned(q.shape()[4], lanes), owned(v.shape()[4], lanes)];
    let delta = Tensor::empty(q.device(), DType::F32, &q.shape()[..4])?;
    let kernel = Kernel::new("attention_backward", include_str!("attention_backward.wgsl"))
        .then(include_str!("attention_place.wgsl"))
        .lanes(lanes)
        .strided("q", &q)
        .strided("k", &k)
        .strided("v", &v)
        .strided("y", &out)
        .strided("lse", &lse)
        .strided("gradient", &gradient)
        .write("dq", &outputs[0])
        .write("delta", &delta)
        .sizes("out", &rows(op.axis, &outputs[0]))
        .number("scale", op.scale)
        .tile("WIDTH", own * lanes)
        .tile("VALUE_WIDTH", own_value * lanes)
        .constant("OWN", own);
    sizes(kernel, &q, &k, &v).launch(count(&q.shape()[..4]), gpu)?;
    let kernel = Kernel::new("attention_backward_keys", include_str!("attention_backward_keys.wgsl"))
        .then(include_str!("attention_place.wgsl"))
        .lanes(lanes)
        .strided("q", &q)
        .strided("k", &k)
        .strided("v", &v)
        .strided("lse", &lse)
        .strided("gradient", &gradient)
        .read("delta", &delta)
        .write("dk", &outputs[1])
        .write("dv", &outputs[2])
        .sizes("row", &rows(op.axis, &outputs[0]))
        .sizes("out", &rows(op.axis, &outputs[1]))
        .number("scale", op.scale)
        .tile("WIDTH", own * lanes)
        .tile("VALUE_WIDTH", own_value * lanes)
        .constant("OWN", own)
        .constant("OWN_VALUE", own_value);
    sizes(kernel, &q, &k, &v).launch(count(&k.shape()[..4]), gpu)
}
