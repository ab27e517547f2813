//! Concatenation, operand by operand; see `concat.cu`.

use tubelet_engine::{Result, Tensor, ops::concat::Concat};

use crate::{
    backend::{CudaBackend, operand, result},
    elementwise::{Elementwise, Lanes, bits},
    nest::Nest,
};

module!("concat");

parameters!(Parameters { x: u64, y: u64, nest: Nest<2>, count: u32, broadcast: u32 });

pub(crate) fn run(cuda: &CudaBackend, op: &Concat, inputs: &[Option<&Tensor>], outputs: &[Tensor]) -> Result<()> {
    let y = result("concat", outputs, 0)?;
    let mut start = 0;
    for i in 0..inputs.len() {
        let x = operand("concat", inputs, i)?;
        let size = x.shape()[op.axis];
        if x.elements() != 0 {
            let place = y.narrow(op.axis, start, size)?;
            let Elementwise { nest, count, broadcast, suffix } =
                Elementwise::new(cuda, "concat", x.shape(), [x, &place], Lanes::of(x.dtype()))?;
            let parameters = Parameters { x: cuda.address(x)?, y: cuda.address(&place)?, nest, count, broadcast };
            cuda.launch_each(&MODULE, &format!("concat_{}{suffix}", bits(x.dtype())), count, &parameters)?;
        }
        start += size;
    }
    Ok(())
}
