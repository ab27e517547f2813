//! Processes with a GPU each, which exchange gradients through NCCL.
//!
//! How they find each other is left to the group that has started them, that of `mpirun`: it says who is which rank, and carries NCCL's identifier from
//! rank 0 to the others. After that it waits for the end, and ends the others where a process panics.

use tubelet_cuda::{
    Ranks,
    driver::nccl::{Id, Nccl, available},
};
use tubelet_engine::{Device, Error, Result, Tensor};

use super::parallel::{Group, agree};

/// Where Open MPI says which of its machine's processes this is.
const LOCAL_RANK: &str = "OMPI_COMM_WORLD_LOCAL_RANK";

/// The name of the device that is this process's: a GPU of its own for each process of a machine, where `name` does not say which.
///
/// # Errors
/// [`Error::Invalid`] where `mpirun` says something else than a number.
pub fn device_name(name: &str) -> Result<String> {
    match (name, std::env::var(LOCAL_RANK)) {
        ("cuda", Ok(rank)) => {
            let rank: usize = rank.parse().map_err(|_| Error::invalid(LOCAL_RANK, format!("{rank:?} is no number")))?;
            Ok(format!("cuda:{rank}"))
        }
        _ => Ok(name.to_owned()),
    }
}

/// The processes of `group`, each with its GPU `device`.
///
/// # Errors
/// On every process where one has no NCCL; and where `device` is no GPU, or NCCL does not reach the others.
pub fn join(group: &dyn Group, device: &Device) -> Result<Ranks> {
    let host = Device::cpu()?;
    let own = if group.rank() == 0 { Id::new() } else { available().map(|()| Id([0; 128])) };
    let id = carry(group, &host, agree(group, &host, own)?)?;
    Ranks::new(device, Nccl::join(device, id, group.rank(), group.size())?)
}

/// Rank 0's identifier, by numbers that an f32 holds exactly.
fn carry(group: &dyn Group, host: &Device, id: Id) -> Result<Id> {
    let mut numbers = [Tensor::from_slice(host, &[id.0.len()], &id.0.map(f32::from))?];
    group.broadcast(&mut numbers)?;
    let bytes: Vec<u8> = numbers[0].to_vec::<f32>()?.into_iter().map(|byte| byte as u8).collect();
    let wrong = |_| Error::invalid("nccl", "the identifier has another length");
    Ok(Id(bytes.try_into().map_err(wrong)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is broadcast by one who hears of another's identifier.
    struct Told([f32; 128]);

    impl Group for Told {
        fn rank(&self) -> usize {
            1
        }
        fn size(&self) -> usize {
            2
        }
        fn all_reduce(&self, _: &mut [Tensor]) -> Result<()> {
            Ok(())
        }
        fn broadcast(&self, tensors: &mut [Tensor]) -> Result<()> {
            tensors[0] = Tensor::from_slice(&Device::cpu()?, &[128], &self.0)?;
            Ok(())
        }
    }

    #[test]
    fn the_identifier_arrives_whole() -> Result<()> {
        let bytes: [u8; 128] = std::array::from_fn(|i| (i * 37 + 200) as u8);
        let heard = carry(&Told(bytes.map(f32::from)), &Device::cpu()?, Id([7; 128]))?;
        assert_eq!(heard.0, bytes);
        Ok(())
    }

    #[test]
    fn a_device_that_is_no_gpu_does_not_join() -> Result<()> {
        // Without NCCL that is what is missing; with it, the GPU.
        let error = join(&Told([0.0; 128]), &Device::cpu()?).err().map(|error| error.to_string()).unwrap_or_default();
        assert!(error.contains("libnccl2") || error.contains("cpu is not a GPU"), "{error}");
        Ok(())
    }
}
