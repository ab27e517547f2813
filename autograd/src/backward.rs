//! The walk back through the record.

use std::{collections::BTreeMap, sync::Arc};

use tubelet_engine::{
    Error, Result, Tensor, View,
    ops::{
        binary::add,
        concat::concat,
        reduce::{Reduction, reduce},
    },
};

use crate::{
    graph::{Node, Origin, Step, Work},
    mode, ops,
};

/// The gradients of a loss, by variable.
#[derive(Debug, Default)]
pub struct Gradients(BTreeMap<u64, Tensor>);

impl Gradients {
    /// The gradient of a [variable](crate::Variable), in its shape and element type; `None` if the loss does not depend on it.
    pub fn get(&self, variable: &Tensor) -> Option<&Tensor> {
        self.0.get(&Node::of(variable)?.id)
    }

    /// Removes and returns a variable's gradient.
    pub fn take(&mut self, variable: &Tensor) -> Option<Tensor> {
        self.0.remove(&Node::of(variable)?.id)
    }
}

/// The gradients of a scalar with respect to every variable it depends on. The record is used up: what it kept alive is freed as the walk passes.
///
/// # Errors
/// If `loss` has more than one element or was not computed from a variable, if a part of the record was used up before, and what operations say.
pub fn backward(loss: &Tensor) -> Result<Gradients> {
    if loss.elements() != 1 {
        return Err(Error::shape("backward", format!("the loss is {}, expected one element", loss.shape())));
    }
    let one = Tensor::full(loss.device(), loss.dtype(), loss.shape(), 1.0)?;
    backward_from(&[(loss, &one)])
}

/// As [`backward`], from several results with a gradient each.
pub fn backward_from(results: &[(&Tensor, &Tensor)]) -> Result<Gradients> {
    let mut pending = Pending::default();
    for (result, gradient) in results {
        let node = Node::of(result).ok_or_else(|| Error::invalid("backward", "the result was not computed from a variable"))?;
        if (gradient.shape(), gradient.dtype()) != (&node.spec.shape, node.spec.dtype) {
            let message = format!(
                "a gradient of {} {} for a result of {} {}",
                gradient.dtype(),
                gradient.shape(),
                result.dtype(),
                result.shape()
            );
            return Err(Error::shape("backward", message));
        }
        pending.add(&node, Piece::Whole(gradient.detach()))?;
    }
    mode::without_recording(|| pending.walk(0))
}

/// A contribution to a gradient.
pub(crate) enum Piece {
    Whole(Tensor),
    /// Of elements `start..` of dimension `dim`.
    Part {
        dim: usize,
        start: usize,
        gradient: Tensor,
    },
}

/// What has arrived at a node.
struct Slot {
    node: Arc<Node>,
    sum: Option<Tensor>,
    parts: Vec<(usize, usize, Tensor)>,
}

/// Nodes that gradients have arrived at, by id.
#[derive(Default)]
pub(crate) struct Pending(BTreeMap<u64, Slot>);

impl Pending {
    /// Adds a contribution.
    pub fn add(&mut self, node: &Arc<Node>, piece: Piece) -> Result<()> {
        let slot = self.0.entry(node.id).or_insert_with(|| Slot { node: Arc::clone(node), sum: None, parts: Vec::new() });
        match piece {
            Piece::Whole(gradient) => slot.accumulate(gradient),
            Piece::Part { dim, start, gradient } => {
                slot.parts.push((dim, start, gradient));
                Ok(())
            }
        }
    }

    /// Handles nodes from the last on, down to id `mark`; what lies below stays pending.
    pub fn walk(&mut self, mark: u64) -> Result<Gradients> {
        let mut gradients = Gradients::default();
        while let Some(entry) = self.0.last_entry().filter(|entry| *entry.key() >= mark) {
            let slot = entry.remove();
            let node = Arc::clone(&slot.node);
            let gradient = slot.finish()?;
            match &node.origin {
                Origin::Leaf => {
                    gradients.0.insert(node.id, gradient);
                }
                Origin::View { of, view } => self.add(of, through(view, of, gradient)?)?,
                Origin::Step { step, result } => {
                    let mut all = vec![None; step.results.len()];
                    all[*result] = Some(gradient);
                    // The other results have neighbouring, smaller ids, and everything computed from them has been handled.
                    for (i, gradient) in all.iter_mut().enumerate().take(*result) {
                        *gradient = self.0.remove(&(step.first + i as u64)).map(Slot::finish).transpose()?;
                    }
                    self.step(step, &all)?;
                }
            }
        }
        Ok(gradients)
    }

    /// Goes back through one step.
    fn step(&mut self, step: &Step, gradients: &[Option<Tensor>]) -> Result<()> {
        let saved = step.take_saved()?;
        let found = match &step.work {
            Work::Operation(op) => ops::backward(op, step, &saved, gradients)?,
            Work::Checkpoint(function) => crate::checkpoint::again(&**function, step, &saved, gradients, self)?,
        };
        for (parent, gradient) in step.parents.iter().zip(found) {
            if let (Some(parent), Some(gradient)) = (parent, gradient) {
                mode::look_through(&gradient, step.name(), "the gradient")?;
                self.add(parent, Piece::Whole(gradient))?;
            }
        }
        Ok(())
    }

    /// Moves everything into `other`.
    pub fn merge_into(self, other: &mut Pending) -> Result<()> {
        for slot in self.0.into_values() {
            let node = Arc::clone(&slot.node);
            other.add(&node, Piece::Whole(slot.finish()?))?;
        }
        Ok(())
    }
}

impl Slot {
    fn accumulate(&mut self, gradient: Tensor) -> Result<()> {
        self.sum = Some(match self.sum.take() {
            Some(sum) => add(&sum, &gradient)?,
            None => gradient,
        });
        Ok(())
    }

    /// The gradient of the whole tensor. Parts that do not overlap along one dimension, as of queries, keys and values cut out of one product,
    /// become one concatenation instead of a sum of tensors that are mostly zeros.
    fn finish(mut self) -> Result<Tensor> {
        while let Some(&(dim, ..)) = self.parts.first() {
            let (mut along, others): (Vec<_>, Vec<_>) =
                std::mem::take(&mut self.parts).into_iter().partition(|(d, ..)| *d == dim);
            along.sort_by_key(|(_, start, _)| *start);
            let mut row = Vec::new();
            let mut end = 0;
            self.parts = others;
            for (dim, start, gradient) in along {
                // What overlaps waits for the next round.
                if start < end {
                    self.parts.push((dim, start, gradient));
                    continue;
                }
                row.extend(self.gap(dim, end, start)?);
                end = start + gradient.shape()[dim];
                row.push(gradient);
            }
            row.extend(self.gap(dim, end, self.node.spec.shape[dim])?);
            let whole = if row.len() == 1 { row[0].clone() } else { concat(&row.iter().collect::<Vec<_>>(), dim)? };
            self.accumulate(whole)?;
        }
        self.sum.ok_or_else(|| Error::invalid("backward", "a node without a gradient"))
    }

    /// Zeros for `from..to` of `dim`.
    fn gap(&self, dim: usize, from: usize, to: usize) -> Result<Option<Tensor>> {
        if to <= from {
            return Ok(None);
        }
        let mut shape = self.node.spec.shape.to_vec();
        shape[dim] = to - from;
        let zero = Tensor::zeros(&self.node.device, self.node.spec.dtype, &[])?;
        zero.broadcast_to(&shape).map(Some)
    }
}

/// The gradient of what a view was taken of.
fn through(view: &View, of: &Node, gradient: Tensor) -> Result<Piece> {
    let shape = &of.spec.shape;
    Ok(match view {
        View::Reshape => Piece::Whole(gradient.contiguous()?.reshape(shape)?),
        View::Permute(order) => {
            let mut inverse = vec![0; order.len()];
            order.iter().enumerate().for_each(|(i, &d)| inverse[d] = i);
            Piece::Whole(gradient.permute(&inverse)?)
        }
        View::Narrow { dim, start } => Piece::Part { dim: *dim, start: *start, gradient },
        View::Broadcast => Piece::Whole(unbroadcast(&gradient, shape)?),
    })
}

/// Sums over the dimensions that `shape` was repeated along.
pub(crate) fn unbroadcast(gradient: &Tensor, shape: &[usize]) -> Result<Tensor> {
    if **gradient.shape() == *shape {
        return Ok(gradient.clone());
    }
    let lead = gradient.rank() - shape.len();
    let repeated = |d: usize| d < lead || (shape[d - lead] == 1 && gradient.shape()[d] != 1);
    let axes: Vec<usize> = (0..gradient.rank()).filter(|&d| repeated(d)).collect();
    reduce(Reduction::Sum, gradient, &axes)?.reshape(shape)
}
