//! The meter: a backend that computes nothing and counts everything, for models that would never fit this machine.

use std::{
    any::Any,
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::{
    Backend, Cost, DType, DeviceBuffer, MemoryStats, Op, Result, Spec, Tensor,
    ops::{binary::Operator, reduce::Reduction},
};

/// What has been counted since the meter was made or [`Meter::reset`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Sum of the operations' costs.
    pub total: Cost,
    /// Operations run: on a GPU, kernel launches.
    pub launches: u64,
    /// Launches and cost by operation name.
    pub by_operation: BTreeMap<&'static str, (u64, Cost)>,
}

#[derive(Default)]
struct State {
    memory: MemoryStats,
    count: Count,
    tape: Option<Vec<Tensor>>,
}

/// The tensors that the backward pass of `op` needs, which training keeps alive: the operands that enter a product or a nonlinear
/// function, the result where the rule is cheapest in terms of it, and the value before a fused activation.
fn saved_for_backward(op: &Op, inputs: &[Option<&Tensor>], outputs: &[Tensor]) -> Result<Vec<Tensor>> {
    let operands = |which: &[usize]| which.iter().filter_map(|&i| inputs.get(i).copied().flatten().cloned()).collect::<Vec<_>>();
    #[allow(clippy::wildcard_enum_match_arm, reason = "backward operations are not recorded")]
    let mut saved = match op {
        Op::Copy(_) | Op::Concat(_) | Op::Interpolate(_) | Op::Resize(_) | Op::Sgd(_) | Op::Adam(_) => Vec::new(),
        Op::Binary(op) if matches!(op.operator, Operator::Add | Operator::Sub) => Vec::new(),
        Op::Reduce(op) if op.reduction != Reduction::Max => Vec::new(),
        Op::Gather(_) => operands(&[1]),
        Op::Softmax(_) => Vec::new(),
        // With batch statistics, or with the residual sum, the normalised tensor is the operand; scale and shift are parameters.
        Op::LayerNorm(_) | Op::BatchNorm(_) | Op::Unary(_) | Op::Gemm(_) | Op::Conv3d(_) | Op::Conv3dDepthwise(_) => {
            operands(&[0])
        }
        Op::Attention(_) | Op::AttentionTopkStd(_) => operands(&[0, 1, 2]),
        Op::Binary(_) | Op::Reduce(_) | Op::CrossEntropy(_) | Op::BinaryCrossEntropy(_) => operands(&[0, 1]),
        _ => Vec::new(),
    };
    match op {
        Op::Softmax(_) | Op::Attention(_) | Op::AttentionTopkStd(_) => saved.extend(outputs.iter().cloned()),
        Op::Gemm(op) if op.function.is_some() => {
            let result = &outputs[0];
            saved.push(Tensor::empty(result.device(), result.dtype(), result.shape())?);
        }
        _ => {}
    }
    Ok(saved)
}

/// See the [module](self).
#[derive(Clone, Default)]
pub struct Meter(Arc<Mutex<State>>);

struct Phantom {
    bytes: usize,
    meter: Meter,
}

impl DeviceBuffer for Phantom {
    fn as_any(&self) -> &dyn Any {
        self
    }
    fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for Phantom {
    fn drop(&mut self) {
        self.meter.lock().memory.live -= self.bytes;
    }
}

impl Meter {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What has been counted.
    pub fn count(&self) -> Count {
        self.lock().count.clone()
    }

    /// From now on keeps alive what a backward pass would need, so that [`MemoryStats`] show a training step's activations. A model's
    /// frozen part runs before this.
    pub fn start_tape(&self) {
        self.lock().tape = Some(Vec::new());
    }

    /// Frees what [`Meter::start_tape`] kept.
    pub fn drop_tape(&self) {
        // Dropping a tensor locks the meter, so the lock must be gone by then.
        let tape = self.lock().tape.take();
        drop(tape);
    }

    /// Counts from zero again; memory stays as it is.
    pub fn reset(&self) {
        self.lock().count = Count::default();
    }
}

impl Backend for Meter {
    fn name(&self) -> &str {
        "meter"
    }

    fn description(&self) -> String {
        "counts FLOPs, bytes, launches and memory; computes nothing".into()
    }

    fn allocate(&self, bytes: usize) -> Result<Arc<dyn DeviceBuffer>> {
        let memory = &mut self.lock().memory;
        memory.live += bytes;
        memory.peak = memory.peak.max(memory.live);
        Ok(Arc::new(Phantom { bytes, meter: self.clone() }))
    }

    fn upload(&self, _: &[u8], _: &dyn DeviceBuffer, _: usize) -> Result<()> {
        Ok(())
    }

    fn download(&self, _: &dyn DeviceBuffer, _: usize, dst: &mut [u8]) -> Result<()> {
        dst.fill(0);
        Ok(())
    }

    fn synchronize(&self) -> Result<()> {
        Ok(())
    }

    fn run(&self, op: &Op, inputs: &[Option<&Tensor>], outputs: &[Tensor]) -> Result<()> {
        let specs: Vec<Spec> = outputs.iter().map(|x| Spec { dtype: x.dtype(), shape: *x.shape() }).collect();
        let cost = op.cost(inputs, &specs);
        if self.lock().tape.is_some() {
            let saved = saved_for_backward(op, inputs, outputs)?;
            if let Some(tape) = &mut self.lock().tape {
                tape.extend(saved);
            }
        }
        let count = &mut self.lock().count;
        count.launches += 1;
        count.total += cost;
        let entry = count.by_operation.entry(op.name()).or_default();
        entry.0 += 1;
        entry.1 += cost;
        Ok(())
    }

    fn supports(&self, _: DType) -> bool {
        true
    }

    fn memory(&self) -> MemoryStats {
        self.lock().memory
    }

    fn reset_peak(&self) {
        let memory = &mut self.lock().memory;
        memory.peak = memory.live;
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Device, ops::gemm::linear};

    #[test]
    fn counts_what_a_model_too_large_for_any_machine_would_do() {
        let device = Device::meter();
        let x = Tensor::empty(&device, DType::F32, &[1 << 30, 1024]).unwrap();
        let w = Tensor::empty(&device, DType::F32, &[4096, 1024]).unwrap();
        let y = linear(&x, &w, None).unwrap();
        let count = device.downcast::<Meter>().unwrap().count();
        assert_eq!(count.total.flops, 2 * (1 << 30) * 1024 * 4096);
        assert_eq!((count.launches, count.by_operation["gemm"].0), (1, 1));
        let live = 4 * ((1usize << 40) + (1 << 22) + (1 << 42));
        assert_eq!(device.memory().live, live);
        let meter = device.downcast::<Meter>().unwrap();
        meter.start_tape();
        drop(linear(&x, &w, None).unwrap());
        drop((x, w, y));
        assert_eq!(device.memory().live, 1 << 42, "the backward pass of a linear layer needs x");
        meter.drop_tape();
        let live = live + (1 << 44);
        assert_eq!((device.memory().live, device.memory().peak), (0, live));
    }
}
