use serde::Serialize;
use tubelet_engine::{DType, Device, Error, Result, Shape, meter::Meter};

use crate::{
    host::room,
    params::Params,
    registry::Config,
    train::{
        Recipe, Trainer, augment::Augmentation, data::Data, loader::Batch, optimiser::Optimiser, recipe::Model,
        schedule::Schedule,
    },
};

/// What one training step costs, by the same code as trains: forward pass, loss, backward pass, optimiser.
#[derive(Clone, Debug, Serialize)]
pub struct Training {
    /// Numbers that are trained.
    pub parameters: u64,
    /// FLOPs of products and convolutions, both passes, with every token going through every layer, as the papers count. The rest is that of the
    /// steps as they are.
    pub flops: u64,
    /// Kernel launches, the optimiser's included.
    pub launches: u64,
    /// Bytes alive between forward and backward pass, beside parameters and moments.
    pub saved_bytes: u64,
    /// Most bytes alive at once: f32 masters, moments, gradients, activations.
    pub peak_bytes: u64,
}

/// AdamW: a value, a gradient and two moments for each trained parameter.
pub const ADAMW: Optimiser = Optimiser::AdamW { betas: [0.9, 0.999], eps: 1e-8, weight_decay: 0.05 };
/// SGD with momentum, as ViViT is trained: a value, a gradient and a velocity.
pub const SGD: Optimiser = Optimiser::Sgd { momentum: 0.9, weight_decay: 0.0, nesterov: false };

/// Runs a training step of `config` on the meter, with `batch` clips and activations of `dtype`; parameters whose names start with one of
/// `freeze` stay as they are.
///
/// # Errors
/// Of building the model, and a prefix that no parameter has.
pub fn measure_training(
    config: &Config,
    optimiser: Optimiser,
    batch: usize,
    dtype: DType,
    freeze: &[String],
) -> Result<Training> {
    let device = Device::meter();
    let meter = device.downcast::<Meter>().ok_or_else(|| Error::invalid("device", "not a meter"))?;
    let (mut trainer, batch) = rehearsal(config, optimiser, batch, dtype, freeze, Params::empty(&device, DType::F32))?;
    // The first step makes the moments; the second is like all that follow.
    trainer.step(&batch)?;
    let standing = device.memory().live as u64;
    meter.reset();
    let saved = trainer.kept(&batch)?;
    meter.reset();
    device.backend().reset_peak();
    trainer.step(&batch)?;
    let (launches, peak_bytes, parameters) = (meter.count().launches, device.memory().peak as u64, trainer.store().parameters());
    meter.reset();
    trainer.whole().step(&batch)?;
    Ok(Training { parameters, flops: meter.count().total.flops, launches, saved_bytes: saved - standing, peak_bytes })
}

/// A trainer of `config` and a batch of black clips: what a training step costs does not depend on what is learned. The parameters come from
/// `params`, f32 on the device.
///
/// # Errors
/// Of building the model, and a prefix in `freeze` that no parameter has.
pub fn rehearsal(
    config: &Config,
    optimiser: Optimiser,
    batch: usize,
    dtype: DType,
    freeze: &[String],
    params: Params<'_>,
) -> Result<(Trainer, Batch)> {
    let device = params.device().clone();
    let recipe = Recipe {
        about: String::new(),
        model: Model::Given(Box::new(config.clone())),
        data: Data::CameraMotion { seed: 0, held_out: 0, still: false, pictures: None },
        steps: 2,
        batch,
        accumulate: 1,
        optimiser,
        learning_rate: 1e-4,
        schedule: Schedule::Constant,
        clip_norm: Some(1.0),
        regularisation: Default::default(),
        label_smoothing: 0.0,
        augmentation: Augmentation::default(),
        freeze: freeze.to_vec(),
        precision: dtype.name().to_owned(),
        start: Vec::new(),
        head_rows: None,
        average: None,
        views: None,
        seed: 0,
        evaluate_every: 0,
        checkpoint_every: 1,
    };
    let trainer = Trainer::new(recipe, &device, params)?;
    let input = config.input();
    let clip = [input.frames, input.size[0], input.size[1]];
    let classes = trainer.classes()?.first().copied().unwrap_or(0);
    // The first class for every clip.
    let mut target: Vec<f32> = room(classes)?;
    target.extend((0..classes).map(|class| f32::from(u8::from(class == 0))));
    let bytes = Shape::new(&[batch, clip[0], clip[1], clip[2], 3])?.elements();
    let mut video = room(bytes)?;
    video.resize(bytes, 0);
    let (mut targets, mut labels) = (room(batch)?, room(batch)?);
    // The targets of all clips are copies: they count as memory of their own.
    room::<f32>(Shape::new(&[batch, classes])?.elements())?;
    targets.resize(batch, target);
    labels.resize(batch, 0);
    Ok((trainer, Batch { video, clip, targets, labels }))
}
