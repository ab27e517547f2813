//! Dropout with counter-based random numbers; see `dropout.cu`.

use tubelet_engine::{Result, Tensor, ops::dropout::Dropout};

use crate::{
    backend::{CudaBackend, operand, result},
    elementwise::{Elementwise, Lanes},
    nest::Nest,
};

module!("dropout");

parameters!(Parameters {
    x: u64,
    y: u64,
    nest: Nest<1>,
    seed: u64,
    stream: u64,
    step: u64,
    count: u32,
    run: u32,
    probability: f32,
    factor: f32,
});

pub(crate) fn run(cuda: &CudaBackend, op: &Dropout, inputs: &[Option<&Tensor>], outputs: &[Tensor]) -> Result<()> {
    let (x, y) = (operand("dropout", inputs, 0)?, result("dropout", outputs, 0)?);
    let name = cuda.float("dropout", x.dtype())?;
    let run: usize = x.shape().iter().skip(x.rank().saturating_sub(op.shared)).product();
    // Draws are numbered by 32 bits.
    cuda.count("dropout", x.elements())?;
    let pack = 16 / x.dtype().size();
    let lanes = if run == 1 || run.is_multiple_of(pack) { Lanes::UpTo(pack) } else { Lanes::One };
    let Elementwise { nest, count, suffix, .. } = Elementwise::new(cuda, "dropout", x.shape(), [x], lanes)?;
    let parameters = Parameters {
        x: cuda.address(x)?,
        y: cuda.address(y)?,
        nest,
        seed: op.seed,
        stream: op.stream,
        step: cuda.step_numbers(),
        count,
        run: cuda.count("dropout", run)?,
        probability: op.probability,
        factor: 1.0 / (1.0 - op.probability),
    };
    cuda.launch_each(&MODULE, &format!("dropout_{name}{suffix}"), count, &parameters)
}
