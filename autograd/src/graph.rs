//! The record: nodes for tensors, steps for the operations between them.

use std::{
    any::Any,
    mem,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use tubelet_engine::{Device, Error, Op, Result, Spec, Tensor, Trace, View, ops::evaluate};

use crate::{mode, ops};

/// Ids count up, so that whatever was computed from a node has a larger one: descending ids are an order for going back.
static NEXT: AtomicU64 = AtomicU64::new(0);

/// The first of `count` new ids.
pub(crate) fn ids(count: usize) -> u64 {
    NEXT.fetch_add(count as u64, Ordering::Relaxed)
}

/// A tensor in the record. It does not hold the tensor: only what a rule [keeps](ops::Keep) stays alive.
pub(crate) struct Node {
    pub id: u64,
    pub spec: Spec,
    pub device: Device,
    pub origin: Origin,
}

/// Where a node's tensor came from.
pub(crate) enum Origin {
    Leaf,
    View { of: Arc<Node>, view: View },
    Step { step: Arc<Step>, result: usize },
}

/// What a step computed.
pub(crate) enum Work {
    Operation(Op),
    /// A function that is run again in the backward pass.
    Checkpoint(Box<Function>),
}

pub(crate) type Function = dyn Fn(&[Tensor]) -> Result<Vec<Tensor>> + Send + Sync;

/// One operation in the record.
pub(crate) struct Step {
    pub work: Work,
    /// The id of the first result; the others follow.
    pub first: u64,
    pub parents: Vec<Option<Arc<Node>>>,
    pub operands: Vec<Option<Spec>>,
    pub results: Vec<Spec>,
    saved: Mutex<Option<Saved>>,
}

/// Tensors that the backward rule needs.
#[derive(Default)]
pub(crate) struct Saved {
    pub inputs: Vec<Option<Tensor>>,
    pub outputs: Vec<Option<Tensor>>,
}

impl Node {
    pub fn leaf(x: &Tensor) -> Self {
        Node { id: ids(1), spec: spec(x), device: x.device().clone(), origin: Origin::Leaf }
    }

    /// The node of a tensor, if it has one.
    pub fn of(x: &Tensor) -> Option<Arc<Node>> {
        Arc::clone(x.trace()?).as_any().downcast().ok()
    }
}

pub(crate) fn spec(x: &Tensor) -> Spec {
    Spec { dtype: x.dtype(), shape: *x.shape() }
}

impl Step {
    /// Adds a step to the record and gives the first `traced` of `results` their places in it.
    pub fn record(work: Work, inputs: &[Option<&Tensor>], results: Vec<Tensor>, traced: usize, saved: Saved) -> Vec<Tensor> {
        let step = Arc::new(Step {
            work,
            first: ids(results.len()),
            parents: inputs.iter().map(|x| x.and_then(Node::of)).collect(),
            operands: inputs.iter().map(|x| x.map(spec)).collect(),
            results: results.iter().map(spec).collect(),
            saved: Mutex::new(Some(saved)),
        });
        let place = |(result, x): (usize, Tensor)| {
            if result >= traced || !x.dtype().is_float() {
                return x;
            }
            let origin = Origin::Step { step: Arc::clone(&step), result };
            let node = Node { id: step.first + result as u64, spec: spec(&x), device: x.device().clone(), origin };
            x.with_trace(Arc::new(node))
        };
        results.into_iter().enumerate().map(place).collect()
    }

    /// The operation's name, for messages.
    pub fn name(&self) -> &'static str {
        match &self.work {
            Work::Operation(op) => op.name(),
            Work::Checkpoint(_) => "checkpoint",
        }
    }

    /// Takes what was kept; it is freed after the rule has run.
    pub fn take_saved(&self) -> Result<Saved> {
        let saved = self.saved.lock().unwrap_or_else(PoisonError::into_inner).take();
        saved.ok_or_else(|| Error::invalid(self.name(), "its record was used up by an earlier backward pass"))
    }
}

impl Drop for Step {
    /// Without recursion, which a long record would overflow the stack with.
    fn drop(&mut self) {
        let mut parents: Vec<Arc<Node>> = mem::take(&mut self.parents).into_iter().flatten().collect();
        while let Some(node) = parents.pop() {
            match Arc::into_inner(node).map(|node| node.origin) {
                Some(Origin::View { of, .. }) => parents.push(of),
                Some(Origin::Step { step, .. }) => {
                    if let Some(mut step) = Arc::into_inner(step) {
                        parents.extend(mem::take(&mut step.parents).into_iter().flatten());
                    }
                }
                Some(Origin::Leaf) | None => {}
            }
        }
    }
}

impl Trace for Node {
    fn run(&self, op: &Op, inputs: &[Option<&Tensor>]) -> Result<Vec<Tensor>> {
        let constants: Vec<Option<Tensor>> = inputs.iter().map(|x| x.map(Tensor::detach)).collect();
        let constants: Vec<Option<&Tensor>> = constants.iter().map(Option::as_ref).collect();
        if !mode::recording() {
            return evaluate(op, &constants);
        }
        if let Some(results) = ops::lower(op, inputs) {
            return results;
        }
        let results = op.infer(&constants)?.len();
        let wanted: Vec<bool> = inputs.iter().map(|x| x.is_some_and(|x| Node::of(x).is_some())).collect();
        let recorded = ops::plan(op, &wanted, &constants)?;
        let mut computed = evaluate(&recorded.op, &constants)?;
        computed.iter().try_for_each(|x| mode::look_through(x, op.name(), "the result"))?;
        let kept = |from: &[Option<&Tensor>], which: &[usize]| -> Vec<Option<Tensor>> {
            from.iter().enumerate().map(|(i, x)| x.filter(|_| which.contains(&i)).cloned()).collect()
        };
        let outputs: Vec<Option<&Tensor>> = computed.iter().map(Some).collect();
        let saved = Saved { inputs: kept(&constants, &recorded.keep.inputs), outputs: kept(&outputs, &recorded.keep.outputs) };
        computed.truncate(results);
        Ok(Step::record(Work::Operation(op.clone()), inputs, computed, recorded.differentiable, saved))
    }

    fn view(self: Arc<Self>, view: View, result: &Tensor) -> Option<Arc<dyn Trace>> {
        let device = self.device.clone();
        mode::recording().then(|| {
            Arc::new(Node { id: ids(1), spec: spec(result), device, origin: Origin::View { of: self, view } }) as Arc<dyn Trace>
        })
    }

    fn as_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync> {
        self
    }
}
