use std::collections::BTreeMap;

use tubelet_engine::{DType, Device, Element, Error, Result, Tensor, meter::Meter, with_element};

use super::TensorFile;
use crate::checkpoint::Checkpoint;

impl TensorFile for Checkpoint {
    fn shapes(&self) -> BTreeMap<String, Vec<usize>> {
        let readable = self.entries().iter().map(|(name, entry)| (name.clone(), entry.shape.clone()));
        let unreadable = self.unreadable().filter_map(|(name, shape, _)| Some((name.to_owned(), shape?.to_vec())));
        readable.chain(unreadable).collect()
    }

    /// # Errors
    /// Beside those of reading: a weight that is not a finite number.
    fn load(&self, name: &str, device: &Device) -> Result<Tensor> {
        let on_meter = device.downcast::<Meter>().is_some();
        let Some(entry) = self.entries().get(name) else {
            // The meter asks for shapes alone, which an unreadable tensor may have.
            let shape = self.unreadable().find_map(|(unreadable, shape, _)| shape.filter(|_| on_meter && unreadable == name));
            return match shape {
                Some(shape) => Tensor::empty(device, DType::F32, shape),
                None => Err(self.read(name).err().unwrap_or_else(|| Error::invalid(name, "no such tensor in the checkpoint"))),
            };
        };
        if on_meter {
            return Tensor::empty(device, entry.dtype, &entry.shape);
        }
        let bytes = self.read(name)?;
        if let Some(i) = first_non_finite(entry.dtype, &bytes) {
            return Err(Error::format(
                name,
                format!("element {i} of the checkpoint's tensor {:?} is not a finite number", entry.shape),
            ));
        }
        Tensor::from_bytes(device, entry.dtype, &entry.shape, &bytes)
    }

    /// Devices have no kernels for f64, and not all for integers: these are converted here.
    ///
    /// # Errors
    /// As [`TensorFile::load`]; and a number beyond what f32 holds.
    fn load_as(&self, name: &str, device: &Device, dtype: DType) -> Result<Tensor> {
        let stored = self.entries().get(name).map_or(dtype, |entry| entry.dtype);
        let is_foreign = stored == DType::F64 || !stored.is_float();
        if stored == dtype || !is_foreign || device.downcast::<Meter>().is_some() {
            return self.load(name, device)?.cast(dtype);
        }
        let tensor = self.load(name, &Device::reference())?;
        let wide = tensor.to_f64_vec()?;
        if dtype == DType::F64 {
            return Tensor::from_slice(device, tensor.shape(), &wide);
        }
        let narrow: Vec<f32> = wide.iter().map(|&x| x as f32).collect();
        if let Some(i) = narrow.iter().position(|x| !x.is_finite()) {
            let message =
                format!("element {i} of the checkpoint's tensor {} is {}, beyond what f32 holds", tensor.shape(), wide[i]);
            return Err(Error::format(name, message));
        }
        Tensor::from_slice(device, tensor.shape(), &narrow)?.cast(dtype)
    }

    fn unreadable(&self, name: &str) -> Option<&str> {
        self.unreadable_reason(name)
    }

    /// Integers are indices and counters: no model here has weights of them.
    fn is_spare(&self, name: &str) -> bool {
        self.unreadable_reason(name).is_some() || self.entries().get(name).is_some_and(|entry| !entry.dtype.is_float())
    }
}

fn first_non_finite(dtype: DType, bytes: &[u8]) -> Option<usize> {
    if !dtype.is_float() {
        return None;
    }
    with_element!(dtype, T => {
        bytes.chunks_exact(size_of::<T>()).position(|chunk| {
            // SAFETY: an element accepts every bit pattern, and the chunk has its size.
            let x = unsafe { chunk.as_ptr().cast::<T>().read_unaligned() };
            !x.to_f64().is_finite()
        })
    })
}
