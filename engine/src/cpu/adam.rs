//! Adam steps of many tensors, in one parallel loop over pieces of all of them.

use super::{
    Cpu,
    sgd::{pieces, pointer},
    simd::{Kernel, Simd},
    strided::{load_f32, vectors},
};
use crate::{Result, Tensor, ops::adam::Adam};

/// Results of more than this go past the caches: nobody reads them before the next step, and a line that is fetched only to be overwritten
/// is a third of a step's traffic.
const CACHED: usize = 16 << 20;

pub fn run(op: &Adam, inputs: &[Option<&Tensor>], outputs: &[Tensor], cpu: &Cpu) -> Result<()> {
    let results = op.results();
    let dense: Vec<_> = inputs.iter().map(|x| x.map(Tensor::contiguous).transpose()).collect::<Result<_>>()?;
    let source = dense.iter().map(|x| pointer(x.as_ref(), cpu)).collect::<Result<Vec<_>>>()?;
    let target = outputs.iter().map(|x| pointer(Some(x), cpu)).collect::<Result<Vec<_>>>()?;
    let pieces = pieces(outputs.chunks(results).map(|group| group[0].elements()));
    let past = outputs.iter().map(Tensor::elements).sum::<usize>() * size_of::<f32>() > CACHED;
    let numbers = Numbers::new(op);
    cpu.pool.for_each(pieces.len(), |i| {
        let (group, start, len) = pieces[i];
        // SAFETY: the piece lies in every tensor of the group; absent ones stay null.
        let at = |p: *mut f32| if p.is_null() { p } else { unsafe { p.add(start) } };
        let inputs = [0, 1, 2, 3, 4].map(|k| at(source[5 * group + k].get()).cast_const());
        let outputs =
            [0, 1, 2, 3].map(|k| if k < results { at(target[results * group + k].get()) } else { std::ptr::null_mut() });
        cpu.level.run(Step { numbers: &numbers, inputs, outputs, len, past });
    });
    Ok(())
}

/// What a step multiplies by.
struct Numbers {
    scale: f32,
    beta1: f32,
    rest1: f32,
    beta2: f32,
    rest2: f32,
    /// What is left of a parameter, and how much of it is added to its gradient.
    shrink: f32,
    coupled: f32,
    rate: f32,
    root: f32,
    eps: f32,
}

impl Numbers {
    fn new(op: &Adam) -> Self {
        let correct = |beta: f64| 1.0 - beta.powf(f64::from(op.step));
        Numbers {
            scale: op.gradient_scale as f32,
            beta1: op.beta1 as f32,
            rest1: (1.0 - op.beta1) as f32,
            beta2: op.beta2 as f32,
            rest2: (1.0 - op.beta2) as f32,
            shrink: if op.decoupled { (1.0 - op.learning_rate * op.weight_decay) as f32 } else { 1.0 },
            coupled: if op.decoupled { 0.0 } else { op.weight_decay as f32 },
            rate: (op.learning_rate / correct(op.beta1)) as f32,
            root: (1.0 / correct(op.beta2)).sqrt() as f32,
            eps: op.eps as f32,
        }
    }
}

/// A piece of a group.
struct Step<'a> {
    numbers: &'a Numbers,
    /// `param, gradient, m, v, v̂`; null where absent.
    inputs: [*const f32; 5],
    /// `param, m, v, v̂`; null without amsgrad.
    outputs: [*mut f32; 4],
    len: usize,
    /// Whether results go past the caches.
    past: bool,
}

impl Kernel for Step<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self) {
        let ([p, g, m, v, largest], [new_p, new_m, new_v, new_largest]) = (self.inputs, self.outputs);
        let n = self.numbers;
        vectors::<S>(
            self.len,
            #[inline(always)]
            // SAFETY: what is not null is valid for `len`.
            |j, lanes| unsafe {
                let (p, old) = (load_f32::<S>(p.add(j), lanes), load_f32::<S>(g.add(j), lanes));
                let g = S::fma(p, S::splat(n.coupled), S::mul(old, S::splat(n.scale)));
                let first = S::fma(state::<S>(m, j, lanes), S::splat(n.beta1), S::mul(g, S::splat(n.rest1)));
                let second = S::fma(state::<S>(v, j, lanes), S::splat(n.beta2), S::mul(S::mul(g, S::splat(n.rest2)), g));
                let mut bound = second;
                if !new_largest.is_null() {
                    bound = S::max(state::<S>(largest, j, lanes), second);
                    self.write::<S>(new_largest, j, bound, lanes);
                }
                let divisor = S::fma(S::sqrt(bound), S::splat(n.root), S::splat(n.eps));
                let step = S::div(S::mul(first, S::splat(n.rate)), divisor);
                self.write::<S>(new_m, j, first, lanes);
                self.write::<S>(new_v, j, second, lanes);
                self.write::<S>(new_p, j, S::sub(S::mul(p, S::splat(n.shrink)), step), lanes);
            },
        );
        if self.past {
            // SAFETY: whoever has `S` runs on a machine with its instructions.
            unsafe { S::fence() };
        }
    }
}

impl Step<'_> {
    /// # Safety
    /// `to` is valid for `lanes` at `j`.
    #[inline(always)]
    unsafe fn write<S: Simd>(&self, to: *mut f32, j: usize, y: S::V, lanes: usize) {
        // SAFETY: the caller's word; tensors begin on cache lines, pieces are whole ones, and vectors divide them.
        unsafe {
            match lanes == S::LANES {
                true if self.past => S::stream(to.add(j), y),
                true => S::store(to.add(j), y),
                false => S::store_first(to.add(j), y, lanes),
            }
        }
    }
}

/// A moment; 0 before the first step.
///
/// # Safety
/// `from` is null, or valid for `lanes` at `j`.
#[inline(always)]
unsafe fn state<S: Simd>(from: *const f32, j: usize, lanes: usize) -> S::V {
    // SAFETY: the caller's word.
    unsafe { if from.is_null() { S::splat(0.0) } else { load_f32::<S>(from.add(j), lanes) } }
}
