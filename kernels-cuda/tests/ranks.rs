//! Devices that sum what they found: emulated ones, and what is said where NCCL or a GPU is missing.
#![cfg(feature = "emulator")]
#![allow(clippy::unwrap_used)]

use tubelet_cuda::{Plan, Ranks, driver::channels::communicators, emulated};
use tubelet_engine::{DType, Device, Philox, Result, Tensor};

/// Does `each` on as many threads as there are ranks; what came of it in the order of ranks.
fn on_ranks<T: Send>(size: usize, each: impl Fn(&Ranks, &Device) -> Result<T> + Sync) -> Result<Vec<Result<T>>> {
    let devices: Vec<_> = (0..size).map(|_| emulated::device(Default::default())).collect();
    let ranks = devices.iter().zip(communicators(&devices)?).map(|(device, end)| Ranks::new(device, end));
    let ranks = ranks.collect::<Result<Vec<_>>>()?;
    Ok(std::thread::scope(|scope| {
        let each = &each;
        let threads: Vec<_> =
            ranks.into_iter().zip(&devices).map(|(ranks, device)| scope.spawn(move || each(&ranks, device))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    }))
}

/// A rank's numbers, of very different size so that every order of adding them has other bits; some are -0, which only sums of -0 are.
fn numbers(rank: usize, shapes: &[&[usize]]) -> Vec<Vec<f32>> {
    let mut rng = Philox::new(rank as u64);
    let mut number = || if rng.below(5) == 0 { -0.0 } else { rng.normal() * 10f32.powi(rng.below(6) as i32 - 3) };
    shapes.iter().map(|shape| (0..shape.iter().product()).map(|_| number()).collect()).collect()
}

/// A scalar, nothing, and sizes that no number of ranks divides.
const SHAPES: [&[usize]; 5] = [&[], &[3, 5], &[0, 4], &[127], &[2, 2, 2]];

fn bits(x: &[f32]) -> Vec<u32> {
    x.iter().map(|x| x.to_bits()).collect()
}

#[test]
fn sums_are_taken_in_the_order_of_ranks_and_the_first_is_broadcast() -> Result<()> {
    for size in 1..=4 {
        let own: Vec<_> = (0..size).map(|rank| numbers(rank, &SHAPES)).collect();
        let results = on_ranks(size, |ranks, device| {
            assert_eq!(ranks.size(), size);
            let own = own[ranks.rank()].iter().zip(SHAPES);
            let tensors = own.map(|(x, shape)| Tensor::from_slice(device, shape, x)).collect::<Result<Vec<_>>>()?;
            let (mut sums, mut first) = (tensors.clone(), tensors);
            ranks.all_reduce(&mut sums)?;
            ranks.broadcast(&mut first)?;
            assert!(sums.iter().zip(SHAPES).all(|(sum, shape)| **sum.shape() == *shape));
            let values = |tensors: &[Tensor]| tensors.iter().map(Tensor::to_vec::<f32>).collect::<Result<Vec<_>>>();
            Ok((values(&sums)?, values(&first)?))
        })?;
        assert_eq!(results.len(), size);
        for result in results {
            let (sums, first) = result?;
            for i in 0..SHAPES.len() {
                let in_order = |at| own[1..].iter().fold(own[0][i][at], |sum: f32, other| sum + other[i][at]);
                let expected: Vec<f32> = (0..sums[i].len()).map(in_order).collect();
                assert_eq!(bits(&sums[i]), bits(&expected), "{size} ranks, tensor {i}");
                assert_eq!(bits(&first[i]), bits(&own[0][i]));
            }
        }
    }
    Ok(())
}

/// Nobody waits for a rank that has failed, and what cannot be exchanged is refused before anything is sent.
#[test]
fn what_cannot_be_exchanged_is_an_error() -> Result<()> {
    let results = on_ranks(3, |ranks, device| {
        let dtype = if ranks.rank() == 1 { DType::BF16 } else { DType::F32 };
        ranks.all_reduce(&mut [Tensor::zeros(device, dtype, &[5])?])
    })?;
    let errors: Vec<_> = results.into_iter().map(|result| result.err().map(|e| e.to_string()).unwrap_or_default()).collect();
    assert!(errors[1].contains("ranks exchange f32"), "{errors:?}");
    assert!(errors[0].contains("is gone") && errors[2].contains("is gone"), "{errors:?}");
    let results =
        on_ranks(2, |ranks, device| ranks.broadcast(&mut [Tensor::zeros(device, DType::F32, &[1 + 8 * ranks.rank()])?]))?;
    assert!(results.iter().any(|result| result.as_ref().is_err_and(|e| e.to_string().contains("numbers, expected"))));
    let results = on_ranks(1, |ranks, device| {
        let x = Tensor::zeros(device, DType::F32, &[4])?;
        Plan::capture(device, [&x], |[x]| ranks.all_reduce(&mut [x.clone()]))
    })?;
    assert!(
        results.iter().all(|result| result.as_ref().err().is_some_and(|e| e.to_string().contains("while a plan is captured")))
    );
    assert!(communicators(&[Device::cpu()?]).is_err());
    Ok(())
}

/// Whatever this machine has: an identifier, or an error that says what to install or what NCCL misses. Nothing panics.
#[cfg(feature = "nccl")]
#[test]
fn a_machine_without_nccl_says_so() {
    use tubelet_cuda::driver::nccl::{Id, available};

    match (available(), Id::new()) {
        (Ok(()), Ok(id)) => assert!(id.0.iter().any(|&byte| byte != 0)),
        (Ok(()), Err(error)) => assert!(error.to_string().contains("ncclGetUniqueId"), "{error}"),
        (Err(error), _) => assert!(error.to_string().contains("libnccl2"), "{error}"),
    }
}

#[cfg(feature = "nccl")]
#[test]
fn only_gpus_join_by_nccl() {
    use tubelet_cuda::driver::nccl::{Id, Nccl};

    for device in [Device::cpu().unwrap(), emulated::device(Default::default())] {
        let refused = Nccl::join(&device, Id([0; 128]), 0, 1).err().unwrap().to_string();
        assert!(refused.contains("is not a GPU of NVIDIA's driver"), "{refused}");
    }
}
