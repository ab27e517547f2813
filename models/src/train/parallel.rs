//! Several processes that train one model together: each computes a share of every batch, and all make the same step.

use tubelet_engine::{DType, Device, Error, Result, Tensor};

/// The processes, as one of them sees them.
///
/// Tensors are f32 and may lie on any device: MPI copies them through the host's memory, NCCL reads them where they are. Every process calls
/// the same methods in the same order, with as many tensors of the same shapes.
pub trait Group {
    /// Which of them this is, from 0.
    fn rank(&self) -> usize;
    /// How many there are.
    fn size(&self) -> usize;
    /// Every tensor becomes its sum over the processes, taken in the order of ranks: the same bits everywhere, and in every run of as many.
    ///
    /// # Errors
    /// Of the transport and of the device.
    fn all_reduce(&self, tensors: &mut [Tensor]) -> Result<()>;
    /// Every tensor becomes that of rank 0.
    ///
    /// # Errors
    /// As [`Group::all_reduce`].
    fn broadcast(&self, tensors: &mut [Tensor]) -> Result<()>;
}

/// One process by itself.
#[derive(Clone, Copy, Debug, Default)]
pub struct Alone;

impl Group for Alone {
    fn rank(&self) -> usize {
        0
    }

    fn size(&self) -> usize {
        1
    }

    fn all_reduce(&self, _: &mut [Tensor]) -> Result<()> {
        Ok(())
    }

    fn broadcast(&self, _: &mut [Tensor]) -> Result<()> {
        Ok(())
    }
}

/// Numbers that `each` is handed at once, unless a single tensor has more.
const BUCKET: usize = 4 << 20;

/// Applies `each` to the tensors' numbers in the host's memory, some tensors at a time: what a [`Group`] without access to devices does.
///
/// # Errors
/// Of the device and of `each`.
pub fn on_host(tensors: &mut [Tensor], each: &mut dyn FnMut(&mut [f32]) -> Result<()>) -> Result<()> {
    let mut rest = tensors;
    while !rest.is_empty() {
        let (mut count, mut flat) = (0, Vec::new());
        while count < rest.len() && (count == 0 || flat.len() + rest[count].elements() <= BUCKET) {
            flat.extend(rest[count].to_vec::<f32>()?);
            count += 1;
        }
        each(&mut flat)?;
        let (bucket, others) = rest.split_at_mut(count);
        let mut first = 0;
        for tensor in bucket {
            let end = first + tensor.elements();
            *tensor = Tensor::from_slice(tensor.device(), tensor.shape(), &flat[first..end])?;
            first = end;
        }
        rest = others;
    }
    Ok(())
}

/// The sums of `values` over the processes. Whole numbers below 2²⁴ are exact.
pub(super) fn sums<const N: usize>(group: &dyn Group, device: &Device, values: [f32; N]) -> Result<[f32; N]> {
    if group.size() == 1 {
        return Ok(values);
    }
    let mut tensors = [Tensor::from_slice(device, &[N], &values)?];
    group.all_reduce(&mut tensors)?;
    let sums = tensors[0].to_vec::<f32>()?;
    sums.try_into().map_err(|_| Error::invalid("all_reduce", format!("expected {N} numbers")))
}

/// `result`, if every process has one; a failure of one is a failure of all, so that none waits for what never comes.
pub(super) fn agree<T>(group: &dyn Group, device: &Device, result: Result<T>) -> Result<T> {
    let [failed] = sums(group, device, [f32::from(u8::from(result.is_err()))])?;
    match result {
        Ok(_) if failed > 0.0 => {
            Err(Error::invalid("data parallelism", format!("{failed} of {} processes failed", group.size())))
        }
        result => result,
    }
}

/// Each process's part of a batch, in the order of ranks.
///
/// # Errors
/// [`Error::Invalid`] where `batch` clips cannot be shared by the processes in `parts` equal parts each.
pub(super) fn share(group: &dyn Group, batch: usize, parts: usize) -> Result<std::ops::Range<usize>> {
    let (rank, size) = (group.rank(), group.size());
    if !batch.is_multiple_of(size * parts) {
        let message = format!("{batch} clips are no multiple of {size} processes × {parts} parts each");
        return Err(Error::invalid("batch", message));
    }
    Ok(rank * batch / size..(rank + 1) * batch / size)
}

/// An f32 tensor of zeros, as large as `like`.
pub(super) fn zeros(like: &Tensor) -> Result<Tensor> {
    Tensor::zeros(like.device(), DType::F32, like.shape())
}
