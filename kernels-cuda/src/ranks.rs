//! Devices that compute parts of one thing, and sum what they found.
//!
//! Sums are taken in the order of ranks. `ncclAllReduce` promises no order: the library picks a ring or a tree by the machine and by the length, so
//! that three GPUs would find other bits than one GPU with three parts, or than three GPUs elsewhere. So each rank is sent its slice of everybody's
//! numbers, adds the slices up by the kernel that also adds the parts of one process, and sends its sums to all. As many numbers travel as in a ring's
//! all-reduce, twice what a rank has; that the sums are a kernel of their own costs three passes over the numbers in the GPU's own memory, which
//! is some ten times as fast as the links between GPUs.

use tubelet_engine::{
    DType, Device, Error, Result, Tensor,
    ops::{binary::add, concat::concat, copy::copy},
};

use crate::{CudaBackend, driver::Communicator};

/// Numbers that are exchanged at once, unless a single tensor has more: enough to keep links busy, little beside a model.
const BUCKET: usize = 16 << 20;
/// A slice's length is a multiple of it, so that numbers are moved by 16 bytes.
const LANES: usize = 4;

/// A device among several of the same kind, one for each rank.
pub struct Ranks {
    device: Device,
    communicator: Box<dyn Communicator>,
    /// What fills the last slice of a bucket.
    zeros: Tensor,
}

impl Ranks {
    /// `device` as a rank of those that `communicator` connects.
    ///
    /// # Errors
    /// Where the device is not this crate's, or has no memory left.
    pub fn new(device: &Device, communicator: impl Communicator + 'static) -> Result<Self> {
        let zeros = Tensor::zeros(device, DType::F32, &[LANES * communicator.size()])?;
        let ranks = Ranks { device: device.clone(), communicator: Box::new(communicator), zeros };
        ranks.cuda().map(|_| ())?;
        Ok(ranks)
    }

    /// Which this is, from 0.
    pub fn rank(&self) -> usize {
        self.communicator.rank()
    }

    /// How many there are.
    pub fn size(&self) -> usize {
        self.communicator.size()
    }

    /// Every tensor becomes its sum over the ranks, taken in their order: the same bits everywhere. Nothing passes through the host.
    ///
    /// # Errors
    /// For tensors that are not f32 or not of this device, during a capture, and of the transport.
    pub fn all_reduce(&self, tensors: &mut [Tensor]) -> Result<()> {
        self.each_bucket(tensors, |flat| {
            let (cuda, slice) = (self.cuda()?, flat.elements() / self.size());
            let all = Tensor::empty(&self.device, DType::F32, &[self.size(), slice])?;
            self.communicator.all_to_all(cuda.address(flat)?, cuda.address(&all)?, slice)?;
            let mut sum = all.narrow(0, 0, 1)?;
            for rank in 1..self.size() {
                sum = add(&sum, &all.narrow(0, rank, 1)?)?;
            }
            self.communicator.all_gather(cuda.address(&sum)?, cuda.address(flat)?, slice)
        })
    }

    /// Every tensor becomes that of rank 0.
    ///
    /// # Errors
    /// As [`Ranks::all_reduce`].
    pub fn broadcast(&self, tensors: &mut [Tensor]) -> Result<()> {
        self.each_bucket(tensors, |flat| self.communicator.broadcast(self.cuda()?.address(flat)?, flat.elements()))
    }

    /// Applies `each` to the tensors' numbers, some tensors at a time, side by side: as many for each rank.
    fn each_bucket(&self, tensors: &mut [Tensor], each: impl Fn(&Tensor) -> Result<()>) -> Result<()> {
        let mut rest = tensors;
        while !rest.is_empty() {
            let (mut count, mut numbers) = (0, 0);
            while count < rest.len() && (count == 0 || numbers + rest[count].elements() <= BUCKET) {
                numbers += rest[count].elements();
                count += 1;
            }
            let (bucket, others) = rest.split_at_mut(count);
            let flat = self.flat(bucket, numbers)?;
            if numbers > 0 {
                each(&flat)?;
            }
            let mut start = 0;
            for tensor in bucket {
                // In memory of its own: a part of a bucket would keep all of it, and kernels move numbers by 16 bytes where these begin at a
                // multiple of 16.
                let (place, shape) = (flat.narrow(0, start, tensor.elements())?, *tensor.shape());
                start += tensor.elements();
                *tensor = copy(&place.reshape(&shape)?, DType::F32)?;
            }
            rest = others;
        }
        Ok(())
    }

    /// The `numbers` numbers of `tensors` in a row, and zeros until all ranks have slices of one length.
    fn flat(&self, tensors: &[Tensor], numbers: usize) -> Result<Tensor> {
        self.cuda()?;
        if let Some(x) = tensors.iter().find(|x| x.dtype() != DType::F32) {
            return Err(Error::invalid("ranks", format!("{} {}: ranks exchange f32", x.dtype(), x.shape())));
        }
        let unit = self.zeros.elements();
        let gap = numbers.next_multiple_of(unit) - numbers;
        let mut rows = tensors.iter().map(|x| x.detach().reshape(&[x.elements()])).collect::<Result<Vec<_>>>()?;
        rows.push(self.zeros.narrow(0, 0, gap)?);
        concat(&rows.iter().collect::<Vec<_>>(), 0)
    }

    /// The device's backend, unless a plan is captured: an exchange is no part of that.
    fn cuda(&self) -> Result<&CudaBackend> {
        let other = || Error::invalid("ranks", format!("{} is not a CUDA device", self.device.name()));
        let cuda = self.device.downcast::<CudaBackend>().ok_or_else(other)?;
        match cuda.recording(|_| ()) {
            None => Ok(cuda),
            Some(()) => Err(Error::invalid("ranks", "nothing is exchanged while a plan is captured")),
        }
    }
}
