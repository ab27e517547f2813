use std::collections::BTreeMap;

use tubelet_engine::{DType, Device, Element, Error, Result, Tensor, meter::Meter, with_element};

use super::TensorFile;
use crate::checkpoint::Checkpoint;

impl TensorFile for Checkpoint {
    fn shapes(&self) -> BTreeMap<String, Vec<usize>> {
        self.entries().iter().map(|(name, entry)| (name.clone(), entry.shape.clone())).collect()
    }

    /// # Errors
    /// Beside those of reading: a weight that is not a finite number.
    fn load(&self, name: &str, device: &Device) -> Result<Tensor> {
        let entry = self.entries().get(name).ok_or_else(|| Error::invalid(name, "no such tensor in the checkpoint"))?;
        if device.downcast::<Meter>().is_some() {
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
