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

use crate::{
    mode,
    ops::{self, Keep},
};

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
    keeping: Mutex<Option<Keeping>>,
}

/// What is kept until the backward rule has run.
#[derive(Default)]
pub(crate) struct Keeping {
    pub inputs: Vec<Option<Kept>>,
    pub outputs: Vec<Option<Tensor>>,
    /// How to have the first result again, for steps that would otherwise keep it.
    pub again: Option<Arc<Again>>,
}

/// An operand that is kept.
#[derive(Clone)]
pub(crate) enum Kept {
    Tensor(Tensor),
    Again(Arc<Again>),
}

/// A result that is not kept, because computing it once more from what is kept anyway costs little: an activation, a norm, what dropout leaves of
/// them. In a transformer's layer these are 6 of the 16 tensors of its width that the products would keep.
pub(crate) struct Again {
    op: Op,
    operands: Vec<Option<Kept>>,
    /// Steps to the nearest tensor.
    depth: usize,
}

/// The longest chain of results that are computed again: an activation behind dropout. Longer ones would be computed over and over.
const DEPTH: usize = 2;

impl Kept {
    /// `x`, of which `constant` is the tensor alone: from its producer if that offers it, otherwise as it is if it is `alive` anyway.
    fn hold(x: &Tensor, constant: &Tensor, alive: bool) -> Option<Self> {
        let node = Node::of(x);
        let leaf = node.as_ref().is_none_or(|node| matches!(node.origin, Origin::Leaf));
        let again = node.and_then(|node| match &node.origin {
            Origin::Step { step, result: 0 } => step.again(),
            _ => None,
        });
        again.map(Kept::Again).or_else(|| (alive || leaf).then(|| Kept::Tensor(constant.clone())))
    }

    fn depth(&self) -> usize {
        match self {
            Kept::Tensor(_) => 0,
            Kept::Again(again) => again.depth,
        }
    }

    fn into_tensor(self) -> Result<Tensor> {
        match self {
            Kept::Tensor(x) => Ok(x),
            Kept::Again(again) => again.compute(),
        }
    }
}

impl Again {
    /// `op` of these operands, if all of them are held.
    fn of(op: &Op, operands: Vec<Option<Option<Kept>>>) -> Option<Arc<Self>> {
        let operands =
            operands.into_iter().map(|operand| operand.map_or(Some(None), |kept| kept.map(Some))).collect::<Option<Vec<_>>>()?;
        let depth = 1 + operands.iter().flatten().map(Kept::depth).max().unwrap_or(0);
        (depth <= DEPTH).then(|| Arc::new(Again { op: op.clone(), operands, depth }))
    }

    fn compute(&self) -> Result<Tensor> {
        let operands = self.operands.iter().map(|operand| operand.clone().map(Kept::into_tensor).transpose());
        let operands = operands.collect::<Result<Vec<_>>>()?;
        let results = evaluate(&self.op, &operands.iter().map(Option::as_ref).collect::<Vec<_>>())?;
        results.into_iter().next().ok_or_else(|| Error::invalid(self.op.name(), "it has no result"))
    }
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
    pub fn record(work: Work, inputs: &[Option<&Tensor>], results: Vec<Tensor>, traced: usize, keeping: Keeping) -> Vec<Tensor> {
        let step = Arc::new(Step {
            work,
            first: ids(results.len()),
            parents: inputs.iter().map(|x| x.and_then(Node::of)).collect(),
            operands: inputs.iter().map(|x| x.map(spec)).collect(),
            results: results.iter().map(spec).collect(),
            keeping: Mutex::new(Some(keeping)),
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

    /// How to have the first result again.
    fn again(&self) -> Option<Arc<Again>> {
        self.keeping.lock().unwrap_or_else(PoisonError::into_inner).as_ref()?.again.clone()
    }

    /// Takes what was kept, and computes what was not kept once more; it is freed after the rule has run.
    pub fn take_saved(&self) -> Result<Saved> {
        let keeping = self.keeping.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Keeping { inputs, outputs, .. } =
            keeping.ok_or_else(|| Error::invalid(self.name(), "its record was used up by an earlier backward pass"))?;
        let inputs = inputs.into_iter().map(|kept| kept.map(Kept::into_tensor).transpose()).collect::<Result<_>>()?;
        Ok(Saved { inputs, outputs })
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
        let Keep { inputs: kept, outputs } = &recorded.keep;
        // None where there is no operand, Some(None) where there is one that nothing holds.
        let hold = |(i, (x, constant)): (usize, (&Option<&Tensor>, &Option<&Tensor>))| {
            let (x, constant) = ((*x)?, (*constant)?);
            Some(Kept::hold(x, constant, kept.contains(&i)))
        };
        let held: Vec<Option<Option<Kept>>> = inputs.iter().zip(&constants).enumerate().map(hold).collect();
        let keeping = Keeping {
            inputs: held.iter().enumerate().map(|(i, held)| held.clone().flatten().filter(|_| kept.contains(&i))).collect(),
            outputs: computed.iter().enumerate().map(|(i, x)| outputs.contains(&i).then(|| x.clone())).collect(),
            again: if recorded.cheap { Again::of(op, held) } else { None },
        };
        computed.truncate(results);
        Ok(Step::record(Work::Operation(op.clone()), inputs, computed, recorded.differentiable, keeping))
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
