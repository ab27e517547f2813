//! Emulated devices that exchange numbers: ranks of one process, on as many threads.

use std::sync::mpsc::{Receiver, Sender, channel};

use tubelet_engine::{Device, Error, Result};

use super::{Communicator, Driver, emulated::Emulated};
use crate::backend::CudaBackend;

/// A rank: a channel to each, and one from each. Who waits for a rank that is gone gets an error.
pub struct Channels {
    rank: usize,
    emulated: Emulated,
    to: Vec<Sender<Vec<u8>>>,
    from: Vec<Receiver<Vec<u8>>>,
}

/// The ranks of emulated devices, in the order of `devices`; each is for a thread of its own.
///
/// # Errors
/// Where one of the devices is not emulated.
pub fn communicators(devices: &[Device]) -> Result<Vec<Channels>> {
    let emulated = |(rank, device): (usize, &Device)| {
        let driver = device.downcast::<CudaBackend>().map(|cuda| cuda.driver().as_any());
        let emulated = driver.and_then(|driver| driver.downcast_ref::<Emulated>()).cloned();
        let other = || Error::invalid("communicators", format!("{} is not emulated", device.name()));
        Ok(Channels { rank, emulated: emulated.ok_or_else(other)?, to: Vec::new(), from: Vec::new() })
    };
    let mut ranks = devices.iter().enumerate().map(emulated).collect::<Result<Vec<_>>>()?;
    for from in 0..ranks.len() {
        for to in 0..ranks.len() {
            let (sender, receiver) = channel();
            ranks[from].to.push(sender);
            ranks[to].from.push(receiver);
        }
    }
    Ok(ranks)
}

impl Channels {
    fn error(&self, message: String) -> Error {
        Error::Device { device: self.emulated.name().into(), message }
    }

    fn send(&self, rank: usize, address: u64, count: usize) -> Result<()> {
        let mut bytes = vec![0; count * 4];
        self.emulated.download(address, &mut bytes)?;
        self.to[rank].send(bytes).map_err(|_| self.error(format!("rank {rank} is gone")))
    }

    fn receive(&self, rank: usize, address: u64, count: usize) -> Result<()> {
        let bytes = self.from[rank].recv().map_err(|_| self.error(format!("rank {rank} is gone")))?;
        if bytes.len() != count * 4 {
            return Err(self.error(format!("rank {rank} sent {} numbers, expected {count}", bytes.len() / 4)));
        }
        self.emulated.upload(&bytes, address)
    }

    /// Where the numbers of `rank` begin.
    fn slice(address: u64, rank: usize, count: usize) -> u64 {
        address + (rank * count * 4) as u64
    }
}

impl Communicator for Channels {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.to.len()
    }

    fn all_to_all(&self, from: u64, to: u64, count: usize) -> Result<()> {
        (0..self.size()).try_for_each(|rank| self.send(rank, Self::slice(from, rank, count), count))?;
        (0..self.size()).try_for_each(|rank| self.receive(rank, Self::slice(to, rank, count), count))
    }

    fn all_gather(&self, from: u64, to: u64, count: usize) -> Result<()> {
        (0..self.size()).try_for_each(|rank| self.send(rank, from, count))?;
        (0..self.size()).try_for_each(|rank| self.receive(rank, Self::slice(to, rank, count), count))
    }

    fn broadcast(&self, address: u64, count: usize) -> Result<()> {
        if self.rank == 0 {
            (0..self.size()).try_for_each(|rank| self.send(rank, address, count))?;
        }
        self.receive(0, address, count)
    }
}
