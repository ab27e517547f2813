//! Momentum steps of many tensors, in one parallel loop over pieces of all of them.

use super::{Cpu, Shared, strided::TASK};
use crate::{Result, Tensor, ops::sgd::Sgd};

/// Pieces `(group, start, len)` of groups of tensors.
pub(super) fn pieces(groups: impl Iterator<Item = usize>) -> Vec<(usize, usize, usize)> {
    let cut = |(group, len): (usize, usize)| (0..len).step_by(TASK).map(move |start| (group, start, TASK.min(len - start)));
    groups.enumerate().flat_map(cut).collect()
}

/// The elements of operand `x`, contiguous, as a shared slice start; null where absent.
pub(super) fn pointer(x: Option<&Tensor>, cpu: &Cpu) -> Result<Shared<f32>> {
    Ok(Shared(x.map_or(Ok(std::ptr::null_mut()), |x| cpu.ptr(x))?))
}

pub fn run(op: &Sgd, inputs: &[Option<&Tensor>], outputs: &[Tensor], cpu: &Cpu) -> Result<()> {
    let dense: Vec<_> = inputs.iter().map(|x| x.map(Tensor::contiguous).transpose()).collect::<Result<_>>()?;
    let source = dense.iter().map(|x| pointer(x.as_ref(), cpu)).collect::<Result<Vec<_>>>()?;
    let target = outputs.iter().map(|x| pointer(Some(x), cpu)).collect::<Result<Vec<_>>>()?;
    let pieces = pieces(outputs.chunks(2).map(|group| group[0].elements()));
    let [rate, momentum, decay, scale] = [op.learning_rate, op.momentum, op.weight_decay, op.gradient_scale].map(|x| x as f32);
    let damp = (1.0 - op.dampening) as f32;
    cpu.pool.for_each(pieces.len(), |i| {
        let (group, start, len) = pieces[i];
        let [p, g, m] = [0, 1, 2].map(|k| source[3 * group + k].get());
        let [new_p, new_m] = [0, 1].map(|k| target[2 * group + k].get());
        for j in start..start + len {
            // SAFETY: `j` lies in every tensor of the group, and pieces are disjoint.
            unsafe {
                let (x, g) = (*p.add(j), *g.add(j) * scale + decay * *p.add(j));
                let buffer = if m.is_null() { g } else { momentum * *m.add(j) + damp * g };
                let step = match (momentum == 0.0, op.nesterov) {
                    (true, _) => g,
                    (false, true) => g + momentum * buffer,
                    (false, false) => buffer,
                };
                new_m.add(j).write(buffer);
                new_p.add(j).write(x - rate * step);
            }
        }
    });
    Ok(())
}
