//! Adam steps of many tensors, in one parallel loop over pieces of all of them.

use super::{
    Cpu,
    sgd::{pieces, pointer},
};
use crate::{Result, Tensor, ops::adam::Adam};

pub fn run(op: &Adam, inputs: &[Option<&Tensor>], outputs: &[Tensor], cpu: &Cpu) -> Result<()> {
    let dense: Vec<_> = inputs.iter().map(|x| x.map(Tensor::contiguous).transpose()).collect::<Result<_>>()?;
    let source = dense.iter().map(|x| pointer(x.as_ref(), cpu)).collect::<Result<Vec<_>>>()?;
    let target = outputs.iter().map(|x| pointer(Some(x), cpu)).collect::<Result<Vec<_>>>()?;
    let pieces = pieces(outputs.chunks(4).map(|group| group[0].elements()));
    let correct = |beta: f64| 1.0 - beta.powf(f64::from(op.step));
    let rate = (op.learning_rate / correct(op.beta1)) as f32;
    let root = (1.0 / correct(op.beta2)).sqrt() as f32;
    let [beta1, beta2, eps, decay, scale] = [op.beta1, op.beta2, op.eps, op.weight_decay, op.gradient_scale].map(|x| x as f32);
    let (rest1, rest2) = ((1.0 - op.beta1) as f32, (1.0 - op.beta2) as f32);
    let shrink = if op.decoupled { (1.0 - op.learning_rate * op.weight_decay) as f32 } else { 1.0 };
    let coupled = if op.decoupled { 0.0 } else { decay };
    cpu.pool.for_each(pieces.len(), |i| {
        let (group, start, len) = pieces[i];
        let [p, g, m, v, largest] = [0, 1, 2, 3, 4].map(|k| source[5 * group + k].get());
        let [new_p, new_m, new_v, new_largest] = [0, 1, 2, 3].map(|k| target[4 * group + k].get());
        for j in start..start + len {
            // SAFETY: `j` lies in every tensor of the group, and pieces are disjoint.
            unsafe {
                let state = |at: *mut f32| if at.is_null() { 0.0 } else { *at.add(j) };
                let g = *g.add(j) * scale + coupled * *p.add(j);
                let first = beta1 * state(m) + rest1 * g;
                let second = beta2 * state(v) + rest2 * g * g;
                let bound = if op.amsgrad { second.max(state(largest)) } else { second };
                new_m.add(j).write(first);
                new_v.add(j).write(second);
                new_largest.add(j).write(bound);
                new_p.add(j).write(*p.add(j) * shrink - rate * first / (bound.sqrt() * root + eps));
            }
        }
    });
    Ok(())
}
