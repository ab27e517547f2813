//! Where a model's parameters come from: a checkpoint in some naming, random numbers, or nowhere (the meter).
//!
//! A model asks [`Params`] for every tensor by our own name and shape while it is being built. Misfits are collected, so that
//! [`Params::finish`] can list all of them at once.

mod file;
mod naming;
mod random;

use std::collections::{BTreeMap, BTreeSet};

use tubelet_engine::{DType, Device, Error, Operand, Result, Tensor};

pub use naming::{Rename, WithNorm, channels_last};
pub use random::Init;

/// Named tensors of a file, by the file's own names.
pub trait TensorFile {
    /// Names and shapes.
    fn shapes(&self) -> BTreeMap<String, Vec<usize>>;
    /// One tensor in its stored element type, on `device`.
    fn load(&self, name: &str, device: &Device) -> Result<Tensor>;
    /// One tensor in another element type, a float's.
    fn load_as(&self, name: &str, device: &Device, dtype: DType) -> Result<Tensor> {
        self.load(name, device)?.cast(dtype)
    }
    /// Why the file's tensor `name` cannot be loaded; `None` if it can, or is not there. A model that has no use for it does not mind.
    fn unreadable(&self, _name: &str) -> Option<&str> {
        None
    }
    /// Whether a model that does not ask for the file's tensor `name` lacks nothing: what is no weight, such as an index, or cannot be loaded.
    fn is_spare(&self, name: &str) -> bool {
        self.unreadable(name).is_some()
    }
}

/// Translates our parameter names into those of a file.
pub trait Naming {
    /// As users name it: `"timm"`, `"scenic"`.
    fn name(&self) -> &'static str;
    /// Our parameter `name` of shape `shape`, made from the file's tensors by views (and concatenation); `None` if the file has none.
    fn translate(&self, name: &str, shape: &[usize], file: &mut Reader<'_>) -> Result<Option<Tensor>>;
    /// Tensors of a file in this naming that hold nothing a model needs (a BatchNorm's counter, a fixed table).
    fn ignores(&self, file_name: &str) -> bool {
        file_name.ends_with("num_batches_tracked")
    }
    /// Whether our parameter `name`, where the file lacks it, may be drawn at random ([`Params::or_random`]): what a model adds to the one that it
    /// starts from.
    fn draws(&self, _name: &str) -> bool {
        true
    }
}

/// Reads tensors of a file and remembers which.
pub struct Reader<'a> {
    file: &'a dyn TensorFile,
    shapes: BTreeMap<String, Vec<usize>>,
    device: Device,
    dtype: DType,
    used: BTreeSet<String>,
    /// What was asked for and is there, but neither it nor its shape can be read.
    refused: Vec<String>,
}

impl<'a> Reader<'a> {
    /// Of a file, for a device and an element type.
    pub(crate) fn new(file: &'a dyn TensorFile, device: &Device, dtype: DType) -> Self {
        Reader { file, shapes: file.shapes(), device: device.clone(), dtype, used: BTreeSet::new(), refused: Vec::new() }
    }

    /// The file's tensor `name`, in the model's element type.
    pub fn get(&mut self, name: &str) -> Result<Option<Tensor>> {
        if !self.shapes.contains_key(name) {
            self.refused.extend(self.file.unreadable(name).map(|reason| format!("the file's `{name}`: {reason}")));
            return Ok(None);
        }
        self.used.insert(name.to_owned());
        self.file.load_as(name, &self.device, self.dtype).map(Some)
    }

    /// Zeros where the model is being built, in its element type.
    pub fn zeros(&self, shape: &[usize]) -> Result<Tensor> {
        Tensor::zeros(&self.device, self.dtype, shape)
    }

    /// Whether the file has a tensor of this name, and its shape.
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        self.shapes.get(name).map(Vec::as_slice)
    }
}

enum Source<'a> {
    Empty,
    Random { seed: u64 },
    File { reader: Reader<'a>, naming: &'a dyn Naming },
}

impl Source<'_> {
    /// What the last parameter that was not found has in the file, in parentheses.
    fn take_refused(&mut self) -> String {
        match self {
            Source::File { reader, .. } if !reader.refused.is_empty() => {
                format!(" ({})", reader.refused.drain(..).collect::<Vec<_>>().join("; "))
            }
            Source::File { .. } | Source::Random { .. } | Source::Empty => String::new(),
        }
    }
}

/// Hands a model its parameters; see the [module](self).
pub struct Params<'a> {
    device: Device,
    folds: bool,
    prepares: bool,
    dtype: DType,
    source: Source<'a>,
    missing: Vec<String>,
    mismatched: Vec<String>,
    parameters: u64,
    fallback: Option<u64>,
    collected: Option<Vec<Parameter>>,
}

/// A tensor that a model was given.
#[derive(Clone, Debug)]
pub struct Parameter {
    /// As models call it.
    pub name: String,
    /// Its value.
    pub value: Tensor,
    /// Whether gradients change it; running statistics and fixed tables are not.
    pub trainable: bool,
}

impl<'a> Params<'a> {
    fn new(device: &Device, dtype: DType, source: Source<'a>) -> Self {
        Params {
            device: device.clone(),
            folds: true,
            prepares: true,
            dtype,
            source,
            missing: Vec::new(),
            mismatched: Vec::new(),
            parameters: 0,
            fallback: None,
            collected: None,
        }
    }

    /// Uninitialised tensors: for the meter.
    pub fn empty(device: &Device, dtype: DType) -> Self {
        Params::new(device, dtype, Source::Empty)
    }

    /// Each parameter drawn as its [`Init`] says, from a stream of its own, so that it depends on its name and the seed alone.
    pub fn random(device: &Device, dtype: DType, seed: u64) -> Self {
        Params::new(device, dtype, Source::Random { seed })
    }

    /// From a file in some naming.
    pub fn from_file(device: &Device, dtype: DType, file: &'a dyn TensorFile, naming: &'a dyn Naming) -> Self {
        let reader = Reader::new(file, device, dtype);
        Params::new(device, dtype, Source::File { reader, naming })
    }

    /// What the file lacks is drawn as [`Params::random`] draws it, if the naming [agrees](Naming::draws): the new parts of a model that starts
    /// from another.
    pub fn or_random(self, seed: u64) -> Self {
        Params { fallback: Some(seed), ..self }
    }

    /// Remembers every tensor that is handed out, for [`Params::take_collected`].
    pub fn collecting(self) -> Self {
        Params { collected: Some(Vec::new()), ..self }
    }

    /// The tensors that were handed out since [`Params::collecting`], in order.
    pub fn take_collected(&mut self) -> Vec<Parameter> {
        self.collected.take().unwrap_or_default()
    }

    /// Batch norms stay layers of their own: for training, where their statistics are the batch's. Otherwise they are folded into the linear
    /// layers that follow, which is exact in inference.
    pub fn with_batch_norms(self) -> Self {
        Params { folds: false, ..self }
    }

    /// Weights stay as they are: for training, where a prepared copy of what is frozen would be made for a single pass, beside the original.
    pub fn without_preparing(self) -> Self {
        Params { prepares: false, ..self }
    }

    /// Whether batch norms are folded into the linear layers that follow.
    pub fn folds_batch_norms(&self) -> bool {
        self.folds
    }

    /// Where the model is being built.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// The model's element type.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Trainable numbers handed out so far.
    pub fn parameters(&self) -> u64 {
        self.parameters
    }

    /// Something that training does not touch by gradients: running statistics, a fixed table.
    pub fn buffer(&mut self, name: &str, shape: &[usize], init: Init) -> Result<Tensor> {
        self.find(name, shape, init, false)
    }

    /// Parameter `name`. A missing or mis-shaped one is noted for [`Params::finish`] and replaced.
    pub fn tensor(&mut self, name: &str, shape: &[usize], init: Init) -> Result<Tensor> {
        let elements = tubelet_engine::Shape::new(shape)?.elements() as u64;
        let parameters = self.parameters.checked_add(elements);
        self.parameters = parameters.ok_or_else(|| Error::Count { what: format!("the number of parameters up to {name}") })?;
        self.find(name, shape, init, true)
    }

    fn find(&mut self, name: &str, shape: &[usize], init: Init, trainable: bool) -> Result<Tensor> {
        let value = self.found(name, shape, init)?;
        if let Some(collected) = &mut self.collected {
            collected.push(Parameter { name: name.to_owned(), value: value.clone(), trainable });
        }
        Ok(value)
    }

    fn found(&mut self, name: &str, shape: &[usize], init: Init) -> Result<Tensor> {
        let mut seed = self.fallback;
        let found = match &mut self.source {
            Source::Empty => return Tensor::empty(&self.device, self.dtype, shape),
            Source::Random { seed } => return init.draw(&self.device, self.dtype, shape, *seed, name),
            Source::File { reader, naming } => {
                seed = seed.filter(|_| naming.draws(name));
                naming.translate(name, shape, reader)?
            }
        };
        match found {
            Some(tensor) if **tensor.shape() == *shape => tensor.contiguous(),
            Some(tensor) => {
                self.mismatched.push(format!("{name}: file has {}, model needs {shape:?}", tensor.shape()));
                Tensor::empty(&self.device, self.dtype, shape)
            }
            None => {
                if let Some(seed) = seed {
                    return init.draw(&self.device, self.dtype, shape, seed, name);
                }
                self.missing.push(format!("{name} {shape:?}{}", self.source.take_refused()));
                Tensor::empty(&self.device, self.dtype, shape)
            }
        }
    }

    /// Whether the file holds something for our `name`; `true` without a file.
    pub fn contains(&mut self, name: &str, shape: &[usize]) -> Result<bool> {
        match &mut self.source {
            Source::File { reader, naming } => Ok(naming.translate(name, shape, reader)?.is_some()),
            Source::Empty | Source::Random { .. } => Ok(true),
        }
    }

    /// Parameter `name`, laid out once for the kernel that reads it as `operand`, unless [`Params::without_preparing`].
    pub fn prepared(&mut self, name: &str, shape: &[usize], init: Init, operand: Operand) -> Result<Tensor> {
        let value = self.tensor(name, shape, init)?;
        self.prepare(value, operand)
    }

    /// A tensor that was handed out, or a part of it, laid out as [`Params::prepared`] does.
    pub fn prepare(&self, value: Tensor, operand: Operand) -> Result<Tensor> {
        if self.prepares { value.prepare(operand) } else { Ok(value) }
    }

    /// An error that lists every missing, unexpected and mis-shaped tensor, if there is one.
    pub fn finish(self) -> Result<()> {
        let unexpected = match &self.source {
            Source::File { reader, naming } => {
                let left = reader
                    .shapes
                    .iter()
                    .filter(|(name, _)| !reader.used.contains(*name) && !naming.ignores(name) && !reader.file.is_spare(name));
                left.map(|(name, shape)| format!("{name} {shape:?}")).collect()
            }
            Source::Empty | Source::Random { .. } => Vec::new(),
        };
        if self.missing.is_empty() && self.mismatched.is_empty() && unexpected.is_empty() {
            return Ok(());
        }
        Err(Error::Weights { missing: self.missing, unexpected, mismatched: self.mismatched })
    }
}
