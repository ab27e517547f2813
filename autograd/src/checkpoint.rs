//! Activation checkpointing: memory for time.

use tubelet_engine::{Error, Result, Tensor};

use crate::{
    Variable,
    backward::{Pending, Piece},
    graph::{Function, Keeping, Kept, Node, Saved, Step, Work, ids},
    mode,
};

/// `function(inputs)`, of which only the inputs are kept: the backward pass runs it again and goes back through that (Chen et al., "Training
/// deep nets with sublinear memory cost", 2016). Variables that the function captures get their gradients too. It must compute the same both
/// times: random numbers from a seed and a stream, as [`tubelet_engine::ops::dropout`] takes them.
///
/// # Errors
/// What the function says.
pub fn checkpoint<F>(inputs: &[&Tensor], function: F) -> Result<Vec<Tensor>>
where
    F: Fn(&[Tensor]) -> Result<Vec<Tensor>> + Send + Sync + 'static,
{
    let constants: Vec<Tensor> = inputs.iter().map(|x| x.detach()).collect();
    let results = mode::without_recording(|| function(&constants))?;
    if !mode::recording() {
        return Ok(results);
    }
    let inputs_kept = constants.into_iter().map(|x| Some(Kept::Tensor(x))).collect();
    let keeping = Keeping { inputs: inputs_kept, ..Keeping::default() };
    let inputs: Vec<Option<&Tensor>> = inputs.iter().copied().map(Some).collect();
    let results: Vec<Tensor> = results.iter().map(Tensor::detach).collect();
    let count = results.len();
    Ok(Step::record(Work::Checkpoint(Box::new(function)), &inputs, results, count, keeping))
}

/// Runs the function again, recorded, and goes back through it. Gradients of what it captured go to `outer`; those of its inputs are returned.
pub(crate) fn again(
    function: &Function,
    step: &Step,
    saved: &Saved,
    gradients: &[Option<Tensor>],
    outer: &mut Pending,
) -> Result<Vec<Option<Tensor>>> {
    // Everything that this run records has an id from here on; what is older was captured.
    let mark = ids(1);
    let inputs: Vec<Tensor> = saved.inputs.iter().flatten().cloned().collect();
    let variable = |(x, parent): (&Tensor, &Option<_>)| -> Result<Tensor> {
        if parent.is_some() { Ok((*Variable::new(x.clone())?).clone()) } else { Ok(x.clone()) }
    };
    let inputs = inputs.iter().zip(&step.parents).map(variable).collect::<Result<Vec<_>>>()?;
    let results = mode::with_recording(|| function(&inputs))?;
    let mut pending = Pending::default();
    for (result, gradient) in results.iter().zip(gradients) {
        let Some(gradient) = gradient else { continue };
        if gradient.shape() != result.shape() {
            let message = format!("the function gave {} the first time and {} the second", gradient.shape(), result.shape());
            return Err(Error::shape("checkpoint", message));
        }
        // A result that depends on no variable has no node.
        if let Some(node) = Node::of(result) {
            pending.add(&node, Piece::Whole(gradient.clone()))?;
        }
    }
    let mut found = pending.walk(mark)?;
    pending.merge_into(outer)?;
    Ok(inputs.iter().map(|x| found.take(x)).collect())
}
