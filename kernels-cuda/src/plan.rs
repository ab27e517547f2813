//! Plans: computations captured once, and replayed without allocation, upload or decision.

use std::{any::Any, sync::Arc};

use tubelet_engine::{Device, Element, Error, Result, Tensor};

use crate::{
    CudaBackend,
    arena::Arena,
    driver::{Graph, Work},
    memory::CudaBuffer,
};

/// What a thread has asked for since its capture began.
pub(crate) struct Recording {
    pub arena: Arc<Arena>,
    pub work: Vec<Work>,
    /// What the work uses beside the arena: weights, tables, constants.
    pub kept: Vec<Box<dyn Any + Send + Sync>>,
    /// The address of the step's numbers, if it is a step; otherwise 0.
    pub step: u64,
}

impl Recording {
    pub fn new(arena: Arc<Arena>, step: u64) -> Self {
        Recording { arena, work: Vec::new(), kept: Vec::new(), step }
    }

    /// Keeps a tensor whose memory is not the plan's own.
    pub fn keep(&mut self, x: &Tensor, buffer: &CudaBuffer) {
        if !buffer.is_of(&self.arena) {
            self.kept.push(Box::new(x.detach()));
        }
    }
}

/// Ends a recording that its closure left by an error or a panic.
struct Recorder<'a>(&'a CudaBackend);

impl Drop for Recorder<'_> {
    fn drop(&mut self) {
        self.0.recorded();
    }
}

/// The backend of a CUDA device.
pub(crate) fn backend(device: &Device) -> Result<&CudaBackend> {
    let other = || Error::invalid("plan", format!("{} is not a CUDA device", device.name()));
    device.downcast::<CudaBackend>().ok_or_else(other)
}

/// Records what `compute` does, with inputs as large as `examples`, in an arena: the recording, the inputs, the output.
fn record<T>(
    device: &Device,
    (arena, step): (Arc<Arena>, u64),
    examples: &[&Tensor],
    compute: &mut dyn FnMut(&[Tensor]) -> Result<T>,
) -> Result<(Recording, Vec<Tensor>, T)> {
    let cuda = backend(device)?;
    if !cuda.record(arena, step) {
        return Err(cuda.foreign("a plan is captured on this thread already".into()));
    }
    let recorder = Recorder(cuda);
    let inputs = examples.iter().map(|x| Tensor::empty(device, x.dtype(), x.shape())).collect::<Result<Vec<_>>>()?;
    let output = compute(&inputs)?;
    let recording = cuda.recorded().ok_or_else(|| cuda.foreign("the recording has ended".into()))?;
    drop(recorder);
    Ok((recording, inputs, output))
}

/// A computation on a CUDA device, captured once for inputs of certain shapes and replayed with others' content: on a GPU as one CUDA graph, on the
/// emulator as a list of launches. The same kernels as in eager execution, and so the same bits.
///
/// A replay allocates nothing, uploads nothing and decides nothing. What the computation read beside its inputs (weights) the plan keeps alive. Whatever was
/// computed on the host at capture is as it was then, random draws among it; [`Plan::capture_step`] is for training, where these change.
///
/// ```
/// use tubelet_cuda::{Plan, emulated};
/// use tubelet_engine::{Function, Tensor, ops::{binary::mul, unary::unary}};
///
/// let device = emulated::device(Default::default());
/// let weight = Tensor::from_slice(&device, &[2], &[2f32, 3.0])?;
/// let example = Tensor::from_slice(&device, &[2], &[0f32; 2])?;
/// let mut plan = Plan::capture(&device, [&example], |[x]| unary(Function::Relu, &mul(x, &weight)?))?;
/// plan.write(0, &[5f32, -7.0])?;
/// assert_eq!(plan.replay()?.to_vec::<f32>()?, [10.0, 0.0]);
/// # Ok::<(), tubelet_engine::Error>(())
/// ```
pub struct Plan<T = Tensor> {
    graph: Box<dyn Graph>,
    inputs: Vec<Tensor>,
    output: T,
    arena: Arc<Arena>,
    _kept: Vec<Box<dyn Any + Send + Sync>>,
    launches: usize,
    device: Device,
    /// What changes from step to step, if this is one.
    pub(crate) numbers: Option<CudaBuffer>,
}

impl<T> Plan<T> {
    /// Captures what `compute` does with inputs of the shapes and element types of `examples`, whose content is copied. Nothing is computed yet: `compute` is
    /// called twice, first to learn which tensors there are and for how long, then to give each its place. It has to do the same both times.
    ///
    /// Work of other threads goes on meanwhile and is not part of the plan, not even that of threads which `compute` starts.
    ///
    /// # Errors
    /// For a device that is not this crate's; where `compute` fails, reads what it has computed, asks for other memory the second time, uses then what the
    /// first time left behind, or captures a plan itself.
    pub fn capture<const N: usize>(
        device: &Device,
        examples: [&Tensor; N],
        mut compute: impl FnMut([&Tensor; N]) -> Result<T>,
    ) -> Result<Self> {
        Self::captured(device, &examples, 0, &mut |inputs| {
            let mut views = inputs.iter();
            compute(examples.map(|example| views.next().unwrap_or(example)))
        })
    }

    /// A plan of what `compute` does, as a step whose numbers lie at `step` unless that is 0.
    pub(crate) fn captured(
        device: &Device,
        examples: &[&Tensor],
        step: u64,
        compute: &mut dyn FnMut(&[Tensor]) -> Result<T>,
    ) -> Result<Self> {
        let cuda = backend(device)?;
        let rehearsal = record(device, (cuda.rehearsal(), step), examples, compute)?;
        let arena = rehearsal.0.arena.performance()?;
        drop(rehearsal);
        let (recording, inputs, output) = record(device, (arena, step), examples, compute)?;
        let Recording { arena, work, kept, .. } = recording;
        let launches = work.len();
        let graph = cuda.driver().graph(work)?;
        let device = device.clone();
        let mut plan = Plan { graph, inputs, output, arena, _kept: kept, launches, device, numbers: None };
        for (i, example) in examples.iter().enumerate() {
            plan.copy(i, example)?;
        }
        Ok(plan)
    }

    /// Overwrites an input with elements in row-major order.
    ///
    /// # Errors
    /// Where number or type of the elements are not those of the input, or the device has failed.
    pub fn write<E: Element>(&mut self, input: usize, elements: &[E]) -> Result<()> {
        let x = self.input(input)?;
        if (E::DTYPE, elements.len()) != (x.dtype(), x.elements()) {
            let message = format!("{} elements of {}; input {input} is {} {}", elements.len(), E::DTYPE, x.dtype(), x.shape());
            return Err(Error::shape("plan", message));
        }
        self.device.backend().upload(tubelet_engine::bytes_of(elements), x.buffer(), 0)
    }

    /// Overwrites an input with a tensor of the same device.
    ///
    /// # Errors
    /// Where shape or type are not those of the input, or the device has failed.
    pub fn copy(&mut self, input: usize, from: &Tensor) -> Result<()> {
        let x = self.input(input)?;
        if (from.dtype(), from.shape()) != (x.dtype(), x.shape()) {
            let message = format!("{} {}; input {input} is {} {}", from.dtype(), from.shape(), x.dtype(), x.shape());
            return Err(Error::shape("plan", message));
        }
        let cuda = self.cuda()?;
        let dense = from.detach().contiguous()?;
        let bytes = x.elements() * x.dtype().size();
        if bytes == 0 { Ok(()) } else { cuda.driver().copy(cuda.address(&dense)?, cuda.address(x)?, bytes) }
    }

    /// Computes the output from the inputs as they are now. It is the same memory each time: what is still needed of it is read, or copied, before the next
    /// replay.
    ///
    /// # Errors
    /// Where the device has failed, and in the midst of a capture.
    pub fn replay(&mut self) -> Result<&T> {
        self.cuda()?;
        self.graph.launch()?;
        Ok(&self.output)
    }

    /// Bytes of device memory that are reserved for the plan as long as it lives, beside what it shares with others (weights).
    pub fn memory(&self) -> usize {
        self.arena.bytes()
    }

    /// Kernels that a replay launches, and copies.
    pub fn launches(&self) -> usize {
        self.launches
    }

    fn input(&self, input: usize) -> Result<&Tensor> {
        let missing = || Error::invalid("plan", format!("no input {input}, the plan has {}", self.inputs.len()));
        self.inputs.get(input).ok_or_else(missing)
    }

    /// The device's backend, unless this thread captures a plan: what is done at once is no part of that.
    pub(crate) fn cuda(&self) -> Result<&CudaBackend> {
        let cuda = self.device.downcast::<CudaBackend>();
        let cuda = cuda.filter(|cuda| cuda.recording(|_| ()).is_none());
        cuda.ok_or_else(|| Error::invalid("plan", "a plan is not replayed while another is captured"))
    }
}
