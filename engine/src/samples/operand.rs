use super::{Choices, Values};
use crate::{DType, Device, Result, Tensor};

/// An operand on the host: values in row-major order, and how they lie in memory.
#[derive(Clone, Debug)]
pub struct Operand {
    dtype: DType,
    shape: Vec<usize>,
    values: Vec<f32>,
    /// The dimensions in the order of memory, outermost first.
    order: Vec<usize>,
    /// Elements before and after along each dimension (of the shape), which belong to something else.
    margin: Vec<(usize, usize)>,
}

impl Operand {
    /// Random values in a random arrangement.
    pub(crate) fn draw(rng: &mut Choices<'_>, dtype: DType, shape: &[usize], values: Values) -> Self {
        let n = shape.iter().product();
        let data = (0..n).map(|_| number(rng, dtype, values)).collect();
        Operand::arranged(rng, dtype, shape, data)
    }

    /// These values in a random arrangement.
    pub(crate) fn arranged(rng: &mut Choices<'_>, dtype: DType, shape: &[usize], values: Vec<f32>) -> Self {
        let rank = shape.len();
        let mut order: Vec<usize> = (0..rank).collect();
        let mut margin = vec![(0, 0); rank];
        if rng.below(3) == 0 {
            (1..rank).for_each(|i| order.swap(i, rng.below(i + 1)));
        }
        if rng.below(3) == 0 {
            margin.iter_mut().for_each(|m| *m = (rng.below(3), rng.below(2)));
        }
        Operand { dtype, shape: shape.to_vec(), values, order, margin }
    }

    /// Without gaps, in row-major order.
    pub(crate) fn dense(mut self) -> Self {
        self.order.sort_unstable();
        self.margin.fill((0, 0));
        self
    }

    /// Whether there is a number that could be NaN.
    pub(crate) fn can_be_nan(&self) -> bool {
        self.dtype.is_float() && !self.values.is_empty()
    }

    /// Makes one number NaN.
    pub(crate) fn set_nan(&mut self, rng: &mut Choices<'_>) {
        let at = rng.below(self.values.len());
        self.values[at] = f32::NAN;
    }

    /// The values in row-major order.
    pub fn values(&self) -> impl Iterator<Item = f64> {
        self.values.iter().map(|&x| f64::from(x))
    }

    /// The sizes.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Type, shape and arrangement, for messages.
    pub fn describe(&self) -> String {
        format!("{} {:?} order {:?} margin {:?}", self.dtype, self.shape, self.order, self.margin)
    }

    /// The operand on a device: a view of a larger tensor whose rest is NaN (255 for bytes, −1 for indices).
    pub fn tensor(&self, device: &Device) -> Result<Tensor> {
        let rank = self.shape.len();
        let size = |d: usize| self.margin[d].0 + self.shape[d] + self.margin[d].1;
        let memory: Vec<usize> = self.order.iter().map(|&d| size(d)).collect();
        let rest = match self.dtype {
            DType::U8 => 255.0,
            DType::I32 => -1.0,
            _ => f32::NAN,
        };
        let mut data = vec![rest; memory.iter().product()];
        // How far neighbours along each dimension lie apart.
        let mut steps = vec![1; rank];
        let mut step = 1;
        for &d in self.order.iter().rev() {
            steps[d] = step;
            step *= size(d);
        }
        let first: usize = (0..rank).map(|d| self.margin[d].0 * steps[d]).sum();
        let (width, step) = (self.shape.last().copied().unwrap_or(1), steps.last().copied().unwrap_or(1));
        let mut index = vec![0; rank];
        for row in self.values.chunks(width.max(1)) {
            let start = first + index.iter().zip(&steps).map(|(i, step)| i * step).sum::<usize>();
            data[start..].iter_mut().step_by(step).zip(row).for_each(|(place, &x)| *place = x);
            for d in (0..rank.saturating_sub(1)).rev() {
                index[d] += 1;
                if index[d] < self.shape[d] {
                    break;
                }
                index[d] = 0;
            }
        }
        let mut place = vec![0; rank];
        self.order.iter().enumerate().for_each(|(i, &d)| place[d] = i);
        let mut tensor = Tensor::from_f32(device, self.dtype, &memory, &data)?.permute(&place)?;
        for d in 0..rank {
            tensor = tensor.narrow(d, self.margin[d].0, self.shape[d])?;
        }
        Ok(tensor)
    }
}

/// One number, representable in `dtype`.
fn number(rng: &mut Choices<'_>, dtype: DType, values: Values) -> f32 {
    if !dtype.is_float() {
        return rng.number(256) as f32;
    }
    let x = match values {
        Values::Integers => rng.number(9) as f32 - 4.0,
        Values::Normal => rng.normal(),
        Values::Special => match rng.number(24) {
            0 => f32::NAN,
            1 => f32::INFINITY,
            2 => f32::NEG_INFINITY,
            3 => 0.0,
            4 => 1e4,
            5 => -1e4,
            _ => rng.normal(),
        },
    };
    crate::with_element!(dtype, T => <T as crate::Element>::to_f32(<T as crate::Element>::from_f32(x)))
}
