//! Training steps as plans: what changes from step to step lies in the device's memory.
//!
//! The other way would be to set the parameters of the graph's nodes before each launch (`cuGraphExecKernelNodeSetParams`). That is a call for each dropout
//! and each launch of the optimiser, hundreds in all, for what are five numbers; and the factor of clipping follows from the step's own gradients, so that the
//! host would have to wait for them in its midst. A number in memory costs a kernel one load. Descriptors stay as they are: launchers put the address beside the
//! values that it replaces, and in eager execution there is none.

use std::mem::offset_of;

use tubelet_engine::{DType, Device, Error, Op, Result, Tensor};

use crate::{
    adam,
    backend::CudaBackend,
    driver::Work,
    memory::CudaBuffer,
    plan::{Plan, backend},
    sgd,
};

module!("clip");

parameters!(StepNumbers { stream: u64, rate: f32, decay: f32, correction: f32, gradient_scale: f32, norm: f64 });

/// What of an optimiser's parameters differs from step to step.
#[derive(Clone, Copy, Default)]
pub(crate) struct StepRates {
    pub rate: f32,
    pub decay: f32,
    pub correction: f32,
}

/// As in `clip.cu`.
const VALUES: usize = 256;

parameters!(Parameters { values: [u64; VALUES], step: u64, limit: f64, squares: u32, count: u32, first: u32, last: u32 });

/// A step that is being captured ([`Plan::capture_step`]).
pub struct Step<'a> {
    cuda: &'a CudaBackend,
    numbers: u64,
}

impl Step<'_> {
    /// The state of what is trained: in a replay, all that comes after this finds in `state` what `new` is here, and so does the next replay. This is the one
    /// place where a tensor changes: nobody else should hold the memory of `state` for what it was.
    ///
    /// # Errors
    /// For a state of another shape or type, with gaps, or of the plan's own memory.
    pub fn carry(&self, state: &Tensor, new: &Tensor) -> Result<()> {
        let message =
            |why: &str| format!("{} {} for a state of {} {}: {why}", new.dtype(), new.shape(), state.dtype(), state.shape());
        let refused = |why: &str| Error::shape("plan", message(why));
        if (state.dtype(), state.shape()) != (new.dtype(), new.shape()) {
            return Err(refused("they differ"));
        }
        if !state.layout().is_contiguous() {
            return Err(refused("the state has gaps"));
        }
        if self.cuda.captures(state.buffer())? != Some(false) {
            return Err(refused("the state is of the plan's own memory, or no plan is captured"));
        }
        let new = new.detach().contiguous()?;
        let (from, to) = (self.cuda.address(&new)?, self.cuda.address(state)?);
        let bytes = new.elements() * new.dtype().size();
        if bytes > 0 && from != to {
            self.cuda.recording(|recording| {
                recording.kept.push(Box::new(state.detach()));
                recording.work.push(Work::Copy { from, to, bytes });
            });
        }
        Ok(())
    }

    /// From the sums of the squares of each gradient, the norm of all of them together ([`Plan::norm`]), and the factor `min(1, limit / (norm + 1e-6))` that
    /// the optimiser multiplies gradients by from here on, whatever its descriptor says. Where the norm or a number in `watched`, such as the loss, is not
    /// finite, the optimiser leaves everything as it is.
    ///
    /// # Errors
    /// For what is not one f32 each.
    pub fn clip(&self, squares: &[Tensor], watched: &[Tensor], limit: Option<f64>) -> Result<()> {
        let values: Vec<&Tensor> = squares.iter().chain(watched).collect();
        if let Some(x) = values.iter().find(|x| (x.dtype(), x.elements()) != (DType::F32, 1)) {
            return Err(Error::shape("clip", format!("{} {}, expected one f32", x.dtype(), x.shape())));
        }
        let launches = values.len().div_ceil(VALUES).max(1);
        for i in 0..launches {
            let start = i * VALUES;
            let chunk = &values[start..values.len().min(start + VALUES)];
            let mut parameters = Parameters {
                values: [0; VALUES],
                step: self.numbers,
                limit: limit.unwrap_or(f64::INFINITY),
                squares: squares.len().saturating_sub(start).min(chunk.len()) as u32,
                count: chunk.len() as u32,
                first: (i == 0).into(),
                last: (i + 1 == launches).into(),
            };
            for (address, x) in parameters.values.iter_mut().zip(chunk) {
                *address = self.cuda.address(x)?;
            }
            self.cuda.launch(&MODULE, "clip", 1, VALUES as u32, &parameters)?;
        }
        Ok(())
    }
}

impl<T> Plan<T> {
    /// As [`Plan::capture`] for a training step, whose state lies outside of the plan: parameters and the optimiser's memory, which [`Step::carry`] takes from
    /// replay to replay. Before each replay [`Plan::set_step`] says what is new about it. Captured are streams of dropout as of step 0; learning rates and
    /// steps of the optimiser do not matter.
    ///
    /// # Errors
    /// As [`Plan::capture`].
    pub fn capture_step(
        device: &Device,
        examples: &[&Tensor],
        mut compute: impl FnMut(&[Tensor], &Step<'_>) -> Result<T>,
    ) -> Result<Self> {
        let cuda = backend(device)?;
        let numbers = cuda.constant(bytemuck::bytes_of(&numbers(0, StepRates::default())))?;
        let step = Step { cuda, numbers: numbers.address };
        let mut plan = Plan::captured(device, examples, numbers.address, &mut |inputs| compute(inputs, &step))?;
        plan.numbers = Some(numbers);
        Ok(plan)
    }

    /// What is new about the next step: `stream` is added to the stream of every dropout, and the optimiser goes on with the learning rate and the step of
    /// `optimiser`, an `Adam` or `Sgd` as it would be given in eager execution; where it has parameters with and without decay, the one with.
    ///
    /// # Errors
    /// For other operations, and for plans that are no steps.
    pub fn set_step(&mut self, stream: u64, optimiser: &Op) -> Result<()> {
        let rates = match optimiser {
            Op::Adam(op) => adam::rates(op),
            Op::Sgd(op) => sgd::rates(op),
            other => return Err(Error::invalid("plan", format!("{} is no optimiser", other.name()))),
        };
        let address = self.numbers()?.address;
        self.cuda()?.driver().upload(bytemuck::bytes_of(&numbers(stream, rates)), address)
    }

    /// The norm of all gradients in the last replay, as [`Step::clip`] found it. Waits for the device.
    ///
    /// # Errors
    /// For plans that are no steps, and where the device has failed.
    pub fn norm(&self) -> Result<f64> {
        let mut norm = [0; 8];
        self.cuda()?.driver().download(self.numbers()?.address + offset_of!(StepNumbers, norm) as u64, &mut norm)?;
        Ok(f64::from_le_bytes(norm))
    }

    fn numbers(&self) -> Result<&CudaBuffer> {
        self.numbers.as_ref().ok_or_else(|| Error::invalid("plan", "it is no step"))
    }
}

fn numbers(stream: u64, rates: StepRates) -> StepNumbers {
    let StepRates { rate, decay, correction } = rates;
    StepNumbers { stream, rate, decay, correction, gradient_scale: 1.0, norm: 0.0 }
}
