//! The meter: a backend that computes nothing and counts everything, for models that would never fit this machine.

use std::{
    any::Any,
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::{Backend, Cost, DType, DeviceBuffer, Error, MemoryStats, Op, Result, Spec, Tensor};

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
        let live = memory.live.checked_add(bytes);
        memory.live = live.ok_or_else(|| Error::Overflow { what: format!("{bytes} bytes more than {}", memory.live) })?;
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
        let cost = op.cost(inputs, &specs)?;
        let count = &mut self.lock().count;
        // No operation's figures exceed the total's, whose sum is checked here.
        count.total = count.total.checked_add(cost)?;
        count.launches += 1;
        let entry = count.by_operation.entry(op.name()).or_default();
        *entry = (entry.0 + 1, entry.1.checked_add(cost)?);
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
        drop((x, w, y));
        assert_eq!((device.memory().live, device.memory().peak), (0, live));
    }

    #[test]
    fn figures_beyond_64_bits_are_refused_by_name() {
        let device = Device::meter();
        let meter = device.downcast::<Meter>().unwrap();
        let make = |shape: [usize; 2]| Tensor::empty(&device, DType::F32, &shape).unwrap();
        let product = |m: usize, n: usize, k: usize| linear(&make([m, k]), &make([n, k]), None).map(drop);
        let counted = "the number of FLOPs of gemm, 36893488147419103232, does not fit into 64 bits";
        assert_eq!(product(1 << 25, 1 << 25, 1 << 14).unwrap_err().to_string(), counted);
        assert_eq!(meter.count(), Count::default(), "what is refused is not counted");
        // Each of two such products can be counted, their sum cannot.
        product(1 << 25, 1 << 25, 1 << 12).unwrap();
        let before = meter.count();
        let summed = "the sum of the FLOPs of all operations does not fit into 64 bits";
        assert_eq!(product(1 << 25, 1 << 25, 1 << 12).unwrap_err().to_string(), summed);
        assert_eq!(meter.count(), before);
        // Memory: five tensors of 2⁶² bytes exceed what can be addressed.
        let tensors: Result<Vec<_>> = (0..5).map(|_| Tensor::empty(&device, DType::F32, &[1 << 60])).collect();
        assert!(matches!(tensors, Err(Error::Overflow { .. })));
    }
}
