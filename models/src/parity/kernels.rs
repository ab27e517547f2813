//! Single operations, case by case.

use std::{cell::RefCell, collections::BTreeMap};

use serde_json::{Map, Value};
use tubelet_autograd::{Variable, backward_from};
use tubelet_engine::{
    DType, Error, Function, Result, Tensor,
    ops::{
        adam::{Adam, adam},
        attention::attention,
        batch_norm::{batch_norm, batch_norm_training},
        binary::{add, mul},
        binary_cross_entropy::{BinaryCrossEntropy, binary_cross_entropy},
        conv3d::{Conv3d, conv3d},
        conv3d_depthwise::{Conv3dDepthwise, conv3d_depthwise},
        cross_entropy::{CrossEntropy, LossReduction, cross_entropy},
        gemm::linear,
        interpolate::{Interpolate, interpolate},
        layer_norm::layer_norm,
        resize::{Filter, Resize, resize},
        sgd::{Sgd, sgd},
        softmax::softmax,
        unary::unary,
    },
};

use super::{DUST, Fixture, Sheet, largest};
use crate::{attention::heads, official::Fields};

const TOLERANCE: f64 = 1e-5;
/// Cases whose operands are chosen to lose digits: a large mean, large scores.
const LOSSY: f64 = 1e-4;
/// Of an optimiser's parameters and state, absolute.
const OPTIMIZER: f64 = 1e-6;

/// One case of a file.
struct Case<'a> {
    fixture: &'a Fixture<'a>,
    name: &'a str,
    fields: Fields<'a>,
    /// The operands that the file has gradients of.
    variables: RefCell<BTreeMap<String, Variable>>,
}

impl Case<'_> {
    /// An operand, as a variable where the file has a gradient of it.
    fn get(&self, operand: &str) -> Result<Tensor> {
        let tensor = self.expected(operand)?;
        if !self.fixture.has(&format!("{}.grad_{operand}", self.name)) {
            return Ok(tensor);
        }
        let mut variables = self.variables.borrow_mut();
        if !variables.contains_key(operand) {
            variables.insert(operand.to_owned(), Variable::new(tensor)?);
        }
        Ok((*variables[operand]).clone())
    }

    fn maybe(&self, operand: &str) -> Result<Option<Tensor>> {
        if self.fixture.has(&format!("{}.{operand}", self.name)) { self.get(operand).map(Some) } else { Ok(None) }
    }

    /// A tensor of the case as it stands in the file.
    fn expected(&self, name: &str) -> Result<Tensor> {
        self.fixture.get(&format!("{}.{name}", self.name))
    }

    /// Compares the gradients of the operands, from the upstream gradient in the file, or 1 for a scalar.
    fn gradients(&self, output: &Tensor, sheet: &mut Sheet<'_>) -> Result<()> {
        let variables = self.variables.borrow();
        if variables.is_empty() {
            return Ok(());
        }
        let upstream = if self.fixture.has(&format!("{}.grad_output", self.name)) {
            self.expected("grad_output")?
        } else {
            Tensor::full(output.device(), output.dtype(), output.shape(), 1.0)?
        };
        let gradients = backward_from(&[(output, &upstream)])?;
        let names: Vec<String> = variables.keys().map(|operand| format!("grad_{operand}")).collect();
        let expected = names.iter().map(|name| self.expected(name)).collect::<Result<Vec<_>>>()?;
        let largest = expected.iter().map(largest).collect::<Result<Vec<_>>>()?.into_iter().fold(0.0, f64::max);
        for ((variable, name), expected) in variables.values().zip(&names).zip(&expected) {
            let zeros = || Tensor::zeros(output.device(), DType::F32, variable.shape());
            let ours = gradients.get(variable).cloned().map_or_else(zeros, Ok)?;
            sheet.compare_above(&format!("{}.{name}", self.name), &ours, expected, self.tolerance(), DUST * largest)?;
        }
        Ok(())
    }

    fn tolerance(&self) -> f64 {
        if self.name.contains("offset") || self.name.contains("large") { LOSSY } else { TOLERANCE }
    }
}

pub(super) fn compare(fixture: &Fixture<'_>, sheet: &mut Sheet<'_>) -> Result<()> {
    let op = fixture.meta("op").ok_or_else(|| Error::format("metadata", "neither a model (config) nor a kernel (op)"))?;
    let text = fixture.meta("cases").ok_or_else(|| Error::format("metadata", "no cases"))?;
    let cases: Map<String, Value> = serde_json::from_str(text).map_err(|error| Error::format("cases", error.to_string()))?;
    for (name, value) in &cases {
        let case = Case { fixture, name, fields: Fields::new(op, value), variables: RefCell::default() };
        // A case that cannot be computed must not hide the others.
        if let Err(error) = one(op, &case, sheet) {
            sheet.push(name, f64::NAN, 0.0, error.to_string());
        }
    }
    if cases.is_empty() { Err(Error::format("metadata", "no cases")) } else { Ok(()) }
}

fn one(op: &str, case: &Case<'_>, sheet: &mut Sheet<'_>) -> Result<()> {
    if op == "optimizers" {
        return optimiser(case, sheet);
    }
    let results = results(op, case)?;
    for (tensor, ours) in &results {
        sheet.compare(&format!("{}.{tensor}", case.name), ours, &case.expected(tensor)?, case.tolerance())?;
    }
    results.first().map_or(Ok(()), |(_, output)| case.gradients(output, sheet))
}

/// The results of a case, by the names that they have in the file.
fn results(op: &str, case: &Case<'_>) -> Result<Vec<(&'static str, Tensor)>> {
    let output = |x: Tensor| Ok(vec![("output", x)]);
    match op {
        "activations" => output(activation(case)?),
        "attention_self" | "attention_cross" => output(attention_case(case)?),
        "multihead_attention" => output(multihead(case)?),
        "batch_norm" => batch_norm_case(case),
        "conv3d_strided" | "conv3d_depthwise" => output(convolution(case)?),
        "interpolate_trilinear" => {
            let op = Interpolate {
                size: case.fields.array("output_size")?,
                align_corners: case.fields.bool_or("align_corners", false),
            };
            output(channels_first(&interpolate(op, &channels_last(&case.get("input")?)?)?)?)
        }
        "layer_norm" => {
            let (weight, bias) = (case.maybe("weight")?, case.maybe("bias")?);
            output(layer_norm(case.fields.f32_or("eps", 1e-5), &case.get("input")?, weight.as_ref(), bias.as_ref())?)
        }
        "linear" => {
            let (x, bias) = (case.get("input")?, case.maybe("bias")?);
            output(linear(&x, &case.get("weight")?, bias.as_ref())?)
        }
        "losses" => output(loss(case)?),
        "resize_bilinear" => output(resize_case(case)?),
        _ => Err(Error::invalid("op", format!("{op:?} is not known"))),
    }
}

/// `[N, C, …]` as `[N, …, C]`.
fn channels_last(x: &Tensor) -> Result<Tensor> {
    let order: Vec<usize> = [0].into_iter().chain(2..x.rank()).chain([1]).collect();
    x.permute(&order)
}

/// `[N, …, C]` as `[N, C, …]`.
fn channels_first(x: &Tensor) -> Result<Tensor> {
    let order: Vec<usize> = [0, x.rank() - 1].into_iter().chain(1..x.rank() - 1).collect();
    x.permute(&order)
}

fn activation(case: &Case<'_>) -> Result<Tensor> {
    let x = case.get("input")?;
    let function = match case.fields.text("op").unwrap_or_default() {
        "softmax" => return softmax(&x),
        "gelu_exact" => Function::GeluErf,
        name => Function::ALL
            .into_iter()
            .find(|f| f.name() == name)
            .ok_or_else(|| Error::invalid("op", format!("activation {name:?} is not known")))?,
    };
    unary(function, &x)
}

/// `[B, heads, L, D]` as a grid `[B, 1, L, heads, D]`, attended along Y.
fn attention_case(case: &Case<'_>) -> Result<Tensor> {
    let grid = |name: &str| -> Result<Tensor> {
        let x = case.get(name)?;
        let s = *x.shape();
        x.reshape(&[s[0], 1, s[1], s[2], s[3]])?.permute(&[0, 1, 3, 2, 4])
    };
    let q = grid("q")?;
    let scale = case.fields.f32_or("scale", (q.shape()[4] as f32).sqrt().recip());
    let y = attention(scale, 2, &q, &grid("k")?, &grid("v")?)?;
    let s = *y.shape();
    y.reshape(&[s[0], s[2], s[3], s[4]])?.permute(&[0, 2, 1, 3])
}

/// PyTorch's `MultiheadAttention` on sequences `[L, N, C]`.
fn multihead(case: &Case<'_>) -> Result<Tensor> {
    let batch_first = |x: Tensor| -> Result<Tensor> {
        let s = *x.shape();
        x.permute(&[1, 0, 2])?.contiguous()?.reshape(&[s[1], 1, s[0], s[2]])
    };
    let query = batch_first(case.get("input")?)?;
    let context = case.maybe("kv")?.map(batch_first).transpose()?.unwrap_or_else(|| query.clone());
    let (weight, bias) = (case.get("in_proj_weight")?, case.get("in_proj_bias")?);
    let (c, count) = (query.shape()[3], case.fields.usize("heads")?);
    let part = |x: &Tensor, i: usize| -> Result<Tensor> {
        let y = linear(x, &weight.narrow(0, i * c, c)?, Some(&bias.narrow(0, i * c, c)?))?;
        heads(&y, 0, c, count)
    };
    let scale = ((c / count) as f32).sqrt().recip();
    let y = attention(scale, 2, &part(&query, 0)?, &part(&context, 1)?, &part(&context, 2)?)?.reshape(query.shape())?;
    let y = linear(&y, &case.get("out_proj_weight")?, Some(&case.get("out_proj_bias")?))?;
    let s = *y.shape();
    y.reshape(&[s[0], s[2], s[3]])?.permute(&[1, 0, 2])
}

fn batch_norm_case(case: &Case<'_>) -> Result<Vec<(&'static str, Tensor)>> {
    let x = channels_last(&case.get("input")?)?;
    let (weight, bias) = (case.maybe("weight")?, case.maybe("bias")?);
    let (mean, var) = (case.get("running_mean")?, case.get("running_var")?);
    let eps = case.fields.f32_or("eps", 1e-5);
    if !case.fields.bool_or("training", false) {
        let y = batch_norm(eps, &x, weight.as_ref(), bias.as_ref(), [&mean, &var])?;
        return Ok(vec![("output", channels_first(&y)?)]);
    }
    let [y, batch_mean, batch_var] = batch_norm_training(eps, &x, weight.as_ref(), bias.as_ref())?;
    let momentum = case.fields.f32_or("momentum", 0.1);
    // The running variance takes the unbiased one.
    let n = (x.elements() / x.shape()[x.rank() - 1]) as f32;
    let scalar = |value: f32| Tensor::full(x.device(), DType::F32, &[1], value);
    let update = |old: &Tensor, new: &Tensor, factor: f32| {
        add(&mul(old, &scalar(1.0 - momentum)?)?, &mul(new, &scalar(momentum * factor)?)?)
    };
    Ok(vec![
        ("output", channels_first(&y)?),
        ("running_mean_after", update(&mean, &batch_mean, 1.0)?),
        ("running_var_after", update(&var, &batch_var, n / (n - 1.0))?),
    ])
}

fn convolution(case: &Case<'_>) -> Result<Tensor> {
    let (x, weight, bias) = (channels_last(&case.get("input")?)?, case.get("weight")?, case.maybe("bias")?);
    let (stride, padding) = (case.fields.array("stride")?, case.fields.array("padding")?);
    let groups = case.fields.usize_or("groups", 1);
    let depthwise = groups == x.shape()[4] && groups == weight.shape()[0] && groups > 1 && stride == [1; 3];
    let y = if depthwise {
        let s = *weight.shape();
        let weight = weight.reshape(&[s[0], s[2], s[3], s[4]])?.permute(&[1, 2, 3, 0])?;
        conv3d_depthwise(Conv3dDepthwise { padding }, &x, &weight, bias.as_ref(), None)?
    } else {
        let op = Conv3d { padding, groups, ..Conv3d::new(stride) };
        conv3d(op, &x, &channels_last(&weight)?, bias.as_ref(), None)?
    };
    channels_first(&y)
}

fn loss(case: &Case<'_>) -> Result<Tensor> {
    let (logits, target) = (case.get("input")?, case.get("target")?);
    let reduction = match case.fields.text("reduction") {
        Some("none") => LossReduction::None,
        Some("sum") => LossReduction::Sum,
        _ => LossReduction::Mean,
    };
    match case.fields.text("op") {
        Some("cross_entropy") => {
            let op = CrossEntropy { label_smoothing: case.fields.f32_or("label_smoothing", 0.0), reduction };
            cross_entropy(op, &logits, &target)
        }
        Some("binary_cross_entropy_with_logits") => {
            let weight = case.maybe("pos_weight")?;
            binary_cross_entropy(BinaryCrossEntropy { reduction }, &logits, &target, weight.as_ref())
        }
        other => Err(Error::invalid("op", format!("loss {other:?} is not known"))),
    }
}

fn resize_case(case: &Case<'_>) -> Result<Tensor> {
    let [height, width] = case.fields.array("size")?;
    let filter = if case.fields.text("mode") == Some("bicubic") { Filter::Bicubic } else { Filter::Bilinear };
    let (antialias, align_corners) = (case.fields.bool_or("antialias", false), case.fields.bool_or("align_corners", false));
    let op = Resize { height, width, filter, antialias, align_corners };
    channels_first(&resize(op, &channels_last(&case.get("input")?)?)?)
}

/// A trajectory of steps, each from our own parameters and state of the step before.
fn optimiser(case: &Case<'_>, sheet: &mut Sheet<'_>) -> Result<()> {
    let count = (0..).take_while(|i| case.fixture.has(&format!("{}.param.{i}.init", case.name))).count();
    let mut params = (0..count).map(|i| case.get(&format!("param.{i}.init"))).collect::<Result<Vec<_>>>()?;
    let mut states: Vec<Vec<Tensor>> = vec![Vec::new(); count];
    for step in 1.. {
        if !case.fixture.has(&format!("{}.param.0.step{step}", case.name)) {
            return optimiser_state(case, &states, sheet);
        }
        let gradients = (0..count).map(|i| case.get(&format!("grad.{i}.step{step}"))).collect::<Result<Vec<_>>>()?;
        let scale = clip(&gradients, case.fields.get("clip_grad_norm").and_then(Value::as_f64))?;
        update(case, step, scale, &mut params, &gradients, &mut states)?;
        for (i, param) in params.iter().enumerate() {
            let name = format!("param.{i}.step{step}");
            sheet.compare_absolute(&format!("{}.{name}", case.name), param, &case.get(&name)?, OPTIMIZER)?;
        }
    }
    Ok(())
}

/// The state after the last step, under PyTorch's names.
fn optimiser_state(case: &Case<'_>, states: &[Vec<Tensor>], sheet: &mut Sheet<'_>) -> Result<()> {
    let names: &[&str] = match case.fields.text("optimizer") {
        Some("SGD") => &["momentum_buffer"],
        _ => &["exp_avg", "exp_avg_sq", "max_exp_avg_sq"],
    };
    for (i, state) in states.iter().enumerate() {
        for (name, ours) in names.iter().zip(state) {
            let name = format!("state.{i}.{name}");
            if let Some(expected) = case.maybe(&name)? {
                sheet.compare_absolute(&format!("{}.{name}", case.name), ours, &expected, OPTIMIZER)?;
            }
        }
    }
    Ok(())
}

/// PyTorch's `clip_grad_norm_`: the factor `min(1, limit / (norm + 1e-6))`.
fn clip(gradients: &[Tensor], limit: Option<f64>) -> Result<f64> {
    let Some(limit) = limit else { return Ok(1.0) };
    let mut squares = 0.0;
    for gradient in gradients {
        squares += gradient.to_f64_vec()?.iter().map(|g| g * g).sum::<f64>();
    }
    Ok((limit / (squares.sqrt() + 1e-6)).min(1.0))
}

fn update(
    case: &Case<'_>,
    step: u32,
    gradient_scale: f64,
    params: &mut [Tensor],
    gradients: &[Tensor],
    states: &mut [Vec<Tensor>],
) -> Result<()> {
    let number = |name: &str, default: f64| case.fields.get(name).and_then(Value::as_f64).unwrap_or(default);
    let kind = case.fields.text("optimizer").unwrap_or_default();
    if kind == "SGD" {
        let op = Sgd {
            learning_rate: number("lr", 1e-3),
            momentum: number("momentum", 0.0),
            dampening: number("dampening", 0.0),
            weight_decay: number("weight_decay", 0.0),
            nesterov: case.fields.bool_or("nesterov", false),
            gradient_scale,
        };
        let groups: Vec<_> = (0..params.len()).map(|i| [Some(&params[i]), Some(&gradients[i]), states[i].first()]).collect();
        let results = sgd(op, &groups)?;
        for (i, [param, momentum]) in results.into_iter().enumerate() {
            (params[i], states[i]) = (param, vec![momentum]);
        }
        return Ok(());
    }
    let decoupled = match kind {
        "AdamW" => true,
        "Adam" => false,
        _ => return Err(Error::invalid("optimizer", format!("{kind:?} is not known"))),
    };
    let beta = |i: usize, default: f64| {
        let betas = case.fields.get("betas").and_then(Value::as_array);
        betas.and_then(|betas| betas.get(i)).and_then(Value::as_f64).unwrap_or(default)
    };
    let op = Adam {
        learning_rate: number("lr", 1e-3),
        beta1: beta(0, 0.9),
        beta2: beta(1, 0.999),
        eps: number("eps", 1e-8),
        weight_decay: number("weight_decay", if decoupled { 1e-2 } else { 0.0 }),
        decoupled,
        amsgrad: case.fields.bool_or("amsgrad", false),
        step,
        gradient_scale,
    };
    let groups: Vec<_> = (0..params.len())
        .map(|i| [Some(&params[i]), Some(&gradients[i]), states[i].first(), states[i].get(1), states[i].get(2)])
        .collect();
    let results = adam(op, &groups)?;
    for (i, [param, m, v, largest]) in results.into_iter().enumerate() {
        (params[i], states[i]) = (param, vec![m, v, largest]);
    }
    Ok(())
}
