//! Gradients against finite differences.

use tubelet_engine::{DType, Error, Philox, Result, Tensor};

use crate::{Variable, backward_from, without_recording};

/// How [`gradcheck`] measures.
#[derive(Clone, Copy, Debug)]
pub struct GradientCheck {
    /// Half the distance of the inner points of the difference formula, as a part of `max(1, |x|)`.
    pub step: f64,
    /// Allowed difference, relative to the largest gradient of the input (and at least to 1).
    pub tolerance: f64,
}

impl Default for GradientCheck {
    /// The formula of order 4 is off by `step⁴/30` fifth derivatives and `2⁻⁵³/step` of the value: 1e-10 of each at this step.
    fn default() -> Self {
        GradientCheck { step: 1e-3, tolerance: 1e-6 }
    }
}

/// Compares the gradients of `function` at `inputs`, which are f64 and so on the reference device, with finite differences, and returns the largest difference
/// as a part of the largest gradient of its input (at least 1). The gradient of the results is random, the same for every run.
///
/// # Errors
/// An [`Error::Invalid`] that names input, element and both numbers where they differ by more than the tolerance; what the function says.
pub fn gradcheck<F>(options: GradientCheck, inputs: &[Tensor], function: F) -> Result<f64>
where
    F: Fn(&[Tensor]) -> Result<Tensor>,
{
    let device = inputs.first().ok_or_else(|| Error::invalid("gradcheck", "no inputs"))?.device().clone();
    if let Some(x) = inputs.iter().find(|x| x.dtype() != DType::F64) {
        return Err(Error::DType { op: "gradcheck", operand: "input", got: x.dtype(), expected: "f64" });
    }
    let values = inputs.iter().map(Tensor::to_f64_vec).collect::<Result<Vec<_>>>()?;
    let tensor = |i: usize, values: &[f64]| Tensor::from_slice(&device, inputs[i].shape(), values);
    let variables = values.iter().enumerate().map(|(i, x)| Variable::new(tensor(i, x)?)).collect::<Result<Vec<_>>>()?;
    let variables: Vec<Tensor> = variables.iter().map(|x| (**x).clone()).collect();
    let result = function(&variables)?;
    if result.dtype() != DType::F64 {
        return Err(Error::DType { op: "gradcheck", operand: "result", got: result.dtype(), expected: "f64" });
    }
    let mut rng = Philox::new(0x6772_6164);
    let weights: Vec<f64> = (0..result.elements()).map(|_| f64::from(rng.normal())).collect();
    let mut gradients = backward_from(&[(&result, &Tensor::from_slice(&device, result.shape(), &weights)?)])?;
    // The weighted sum of the results, with element `at` of input `i` moved.
    let moved = |i: usize, at: usize, by: f64| -> Result<f64> {
        let mut changed = values[i].clone();
        changed[at] += by;
        let mut tensors = variables.iter().map(Tensor::detach).collect::<Vec<_>>();
        tensors[i] = tensor(i, &changed)?;
        let result = without_recording(|| function(&tensors))?.to_f64_vec()?;
        Ok(result.iter().zip(&weights).map(|(x, w)| x * w).sum())
    };
    let mut worst = 0f64;
    for (i, variable) in variables.iter().enumerate() {
        let ours = gradients.take(variable).map_or_else(|| Ok(vec![0.0; values[i].len()]), |g| g.to_f64_vec())?;
        let scale = ours.iter().fold(1f64, |m, x| m.max(x.abs()));
        for (at, &ours) in ours.iter().enumerate() {
            let h = options.step * values[i][at].abs().max(1.0);
            let [far, near] = [2.0, 1.0].map(|n| Ok::<_, Error>(moved(i, at, n * h)? - moved(i, at, -n * h)?));
            let expected = (8.0 * near? - far?) / (12.0 * h);
            let difference = (ours - expected).abs() / scale;
            if difference.is_nan() || difference > options.tolerance {
                let message = format!("input {i} {}, element {at}: {ours:e}, by differences {expected:e}", inputs[i].shape());
                return Err(Error::invalid("gradcheck", message));
            }
            worst = worst.max(difference);
        }
    }
    Ok(worst)
}
