//! The candle side of `compare`: reads one case a line as JSON, answers with the seconds of the fastest of some runs, or with why there are none.
//!
//! candle has no convolution in three dimensions, no attention for the CPU and no kernels of its own for backward passes.

use std::{
    io::{BufRead, Write},
    time::Instant,
};

use candle_core::{D, DType, Device, Module, Result, Tensor};
use candle_nn::{Linear, ops};
use serde_json::Value;

type Run = Box<dyn Fn() -> Result<Tensor>>;

fn sizes(value: &Value) -> Vec<usize> {
    value.as_array().map(|list| list.iter().filter_map(|n| n.as_u64().map(|n| n as usize)).collect()).unwrap_or_default()
}

/// The case as something to run.
fn prepare(case: &Value) -> Result<Option<Run>> {
    let dtype = match case["dtype"].as_str() {
        Some("bf16") => DType::BF16,
        Some("f16") => DType::F16,
        _ => DType::F32,
    };
    let shape = sizes(&case["shape"]);
    let random = |shape: &[usize]| Tensor::randn(0f32, 1f32, shape, &Device::Cpu)?.to_dtype(dtype);
    Ok(Some(match (case["kind"].as_str(), &shape[..]) {
        (Some("gemm"), &[m, n, k]) => {
            let (x, layer) = (random(&[m, k])?, Linear::new(random(&[n, k])?, Some(random(&[n])?)));
            Box::new(move || layer.forward(&x))
        }
        (Some("layer_norm"), &[_, width]) => {
            let (x, w) = (random(&shape)?, random(&[width])?);
            Box::new(move || ops::layer_norm(&x, &w, &w, 1e-6))
        }
        (Some("softmax"), _) => {
            let x = random(&shape)?;
            Box::new(move || ops::softmax_last_dim(&x))
        }
        (Some("gelu"), _) => {
            let (x, tanh) = (random(&shape)?, case["approximate"] == "tanh");
            Box::new(move || if tanh { x.gelu() } else { x.gelu_erf() })
        }
        (Some("gelu_quick"), _) => {
            let x = random(&shape)?;
            Box::new(move || &x * ops::sigmoid(&(&x * 1.702)?)?)
        }
        // As its models have it: two products with a softmax between.
        (Some("attention"), &[b, h, _, d]) => {
            let (q, k) = (random(&shape)?, random(&[b, h, case["keys"].as_u64().unwrap_or(0) as usize, d])?);
            let scale = 1.0 / (d as f64).sqrt();
            Box::new(move || {
                let scores = (q.matmul(&k.transpose(D::Minus2, D::Minus1)?)? * scale)?;
                ops::softmax_last_dim(&scores)?.matmul(&k)
            })
        }
        _ => return Ok(None),
    }))
}

fn best(run: &Run, n: usize) -> Result<f64> {
    let mut shortest = f64::INFINITY;
    for _ in 0..n {
        let start = Instant::now();
        std::hint::black_box(run()?);
        shortest = shortest.min(start.elapsed().as_secs_f64());
    }
    Ok(shortest)
}

fn main() {
    let mut prepared: Option<(String, Option<Run>)> = None;
    for line in std::io::stdin().lock().lines().map_while(std::result::Result::ok) {
        let case: Value = serde_json::from_str(&line).unwrap_or(Value::Null);
        if prepared.as_ref().is_none_or(|(known, _)| *known != line) {
            let run = prepare(&case).ok().flatten().filter(|run| best(run, 2).is_ok());
            prepared = Some((line, run));
        }
        let run = prepared.as_ref().and_then(|(_, run)| run.as_ref());
        match run.and_then(|run| best(run, case["runs"].as_u64().unwrap_or(5) as usize).ok()) {
            Some(seconds) => println!("{seconds}"),
            None => println!("not a case"),
        }
        std::io::stdout().flush().expect("a reader");
    }
}
