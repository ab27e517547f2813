//! Views against naive indexing.

use proptest::prelude::*;
use tubelet_engine::{Device, Error, Philox, Tensor};

/// A tensor and its elements by index.
fn counting(shape: &[usize]) -> Tensor {
    let n: usize = shape.iter().product();
    let data: Vec<i32> = (0..n as i32).collect();
    Tensor::from_slice(&Device::reference(), shape, &data).expect("a small tensor")
}

fn flat(shape: &[usize], index: &[usize]) -> i32 {
    index.iter().zip(shape).fold(0, |at, (&i, &n)| at * n + i) as i32
}

proptest! {
    #[test]
    fn permute_and_narrow_reach_what_indices_say(shape in prop::collection::vec(1usize..5, 1..5), seed: u64) {
        let mut rng = Philox::new(seed);
        let rank = shape.len();
        let mut order: Vec<usize> = (0..rank).collect();
        (1..rank).for_each(|i| order.swap(i, rng.below(i + 1)));
        let dim = rng.below(rank);
        let size = shape[order[dim]];
        let start = rng.below(size);
        let len = rng.range(0, size - start);
        let view = counting(&shape).permute(&order).unwrap().narrow(dim, start, len).unwrap();
        let mut expected = Vec::new();
        let mut index = vec![0; rank];
        for _ in 0..view.elements() {
            let mut original = vec![0; rank];
            (0..rank).for_each(|d| original[order[d]] = index[d] + if d == dim { start } else { 0 });
            expected.push(flat(&shape, &original));
            for d in (0..rank).rev() {
                index[d] += 1;
                if index[d] < view.shape()[d] { break; }
                index[d] = 0;
            }
        }
        prop_assert_eq!(view.to_vec::<i32>().unwrap(), expected.clone());
        // A reshape that succeeds keeps the order of the elements.
        if let Ok(flat) = view.reshape(&[view.elements()]) {
            prop_assert_eq!(flat.to_vec::<i32>().unwrap(), expected);
        }
    }
}

#[test]
fn errors_name_shapes() {
    let x = counting(&[2, 3]);
    let message = |e: tubelet_engine::Result<Tensor>| e.unwrap_err().to_string();
    assert!(message(x.reshape(&[4])).contains("[2, 3]"));
    assert!(message(x.narrow(1, 2, 2)).contains("narrow"));
    assert!(message(x.broadcast_to(&[3, 3])).contains("[3, 3]"));
    assert!(matches!(Tensor::from_slice(&Device::reference(), &[3], &[1i32]), Err(Error::Shape { .. })));
    assert!(matches!(x.to_vec::<f32>(), Err(Error::DType { .. })));
}
