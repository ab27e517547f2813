use tubelet_engine::{
    Device, Tensor,
    ops::adam::{Adam, adam},
};
use tubelet_tests::equals_the_reference;

crate::properties!("adam");

/// More tensors than a launch takes, some of none and some of thousands of elements, at addresses of every alignment. Gradients of 0 and ±4 and constants that
/// are powers of two make every number exact.
#[test]
fn many_tensors_step_together() {
    let op = Adam {
        learning_rate: 0.5,
        beta1: 0.5,
        beta2: 0.75,
        eps: 4.0,
        weight_decay: 0.25,
        decoupled: true,
        amsgrad: false,
        step: 1,
        gradient_scale: 1.0,
    };
    let run = |device: &Device| {
        let many = |values: &dyn Fn(usize) -> f32| -> tubelet_engine::Result<Vec<Tensor>> {
            let size = |i: usize| [0, 1, 3, 9000, 8, 4096, 4097][i % 7];
            let data = |i: usize| (0..size(i) + i % 5).map(|j| values(i + j)).collect::<Vec<f32>>();
            let part = |i: usize| Tensor::from_slice(device, &[size(i) + i % 5], &data(i))?.narrow(0, i % 5, size(i));
            (0..100).map(part).collect()
        };
        let (params, gradients) = (many(&|i| (i % 11) as f32 - 5.0)?, many(&|i| (i % 3) as f32 * 4.0 - 4.0)?);
        let groups: Vec<_> = params.iter().zip(&gradients).map(|(p, g)| [Some(p), Some(g), None, None, None]).collect();
        Ok(adam(op, &groups)?.into_iter().flatten().collect())
    };
    equals_the_reference("adam", run).unwrap_or_else(|error| panic!("{error}"));
}
