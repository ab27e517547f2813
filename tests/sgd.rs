use tubelet_engine::{
    Device, Tensor,
    ops::sgd::{Sgd, sgd},
};
use tubelet_tests::{equals_the_reference, integers};

crate::properties!("sgd");

/// More tensors than a launch takes, some of none and some of thousands of elements, at addresses of every alignment. All constants are powers of two, so
/// that the numbers are exact.
#[test]
fn many_tensors_step_together() {
    let op = Sgd { learning_rate: 0.5, momentum: 0.25, dampening: 0.5, weight_decay: 0.125, nesterov: true, gradient_scale: 2.0 };
    let run = |device: &Device| {
        let many = |seed| -> tubelet_engine::Result<Vec<Tensor>> {
            let size = |i: usize| [0, 1, 3, 9000, 8, 4096, 4097][i % 7];
            let part = |i: usize| integers(device, DType::F32, &[size(i) + i % 5], seed + i as u64)?.narrow(0, i % 5, size(i));
            (0..150).map(part).collect()
        };
        let (params, gradients, buffers) = (many(1)?, many(1000)?, many(2000)?);
        let groups: Vec<_> = (0..params.len()).map(|i| [&params[i], &gradients[i], &buffers[i]].map(Some)).collect();
        Ok(sgd(op, &groups)?.into_iter().flatten().collect())
    };
    equals_the_reference("sgd", run).unwrap_or_else(|error| panic!("{error}"));
}
