//! The burn side of `compare`: reads one case a line as JSON, answers with the seconds of the fastest of some runs, or with why there are none.

use std::{
    io::{BufRead, Write},
    time::Instant,
};

use burn::tensor::{
    Device, DeviceKind, Distribution, Tensor, activation,
    module::{attention, conv3d, layer_norm, linear},
    ops::{AttentionModuleOptions, ConvOptions},
};
use serde_json::Value;

fn random<const D: usize>(device: &Device, shape: [usize; D]) -> Tensor<D> {
    Tensor::random(shape, Distribution::Normal(0.0, 1.0), device)
}

fn sizes<const N: usize>(value: &Value) -> Option<[usize; N]> {
    let list = value.as_array()?.iter().map(|n| n.as_u64().map(|n| n as usize)).collect::<Option<Vec<_>>>()?;
    list.try_into().ok()
}

/// Reads one element, because burn does not compute what nobody reads.
fn done<const D: usize>(y: Tensor<D>) {
    let one = y.slice([(); D].map(|()| 0..1)).into_data();
    std::hint::black_box(one);
}

/// The case as something to run, to its end.
fn prepare(case: &Value, device: &Device) -> Option<Box<dyn Fn()>> {
    let shape = &case["shape"];
    match case["kind"].as_str()? {
        "gemm" => {
            let [m, n, k] = sizes(shape)?;
            let (x, w, b) = (random(device, [m, k]), random(device, [k, n]), random::<1>(device, [n]));
            Some(Box::new(move || done(linear(x.clone(), w.clone(), Some(b.clone())))))
        }
        "attention" => {
            let s: [usize; 4] = sizes(shape)?;
            let keys = case["keys"].as_u64()? as usize;
            let (q, k) = (random(device, s), random(device, [s[0], s[1], keys, s[3]]));
            let options = || AttentionModuleOptions::default();
            Some(Box::new(move || done(attention(q.clone(), k.clone(), k.clone(), None, None, options()))))
        }
        "conv3d" => {
            let [t, h, w] = sizes(shape)?;
            let stride = sizes(&case["stride"])?;
            let (x, weight) = (random(device, [1, 3, 32, 224, 224]), random(device, [768, 3, t, h, w]));
            Some(Box::new(move || {
                let options = ConvOptions::new(stride, [0; 3], [1; 3], 1);
                done(conv3d(x.clone(), weight.clone(), None, options));
            }))
        }
        "conv3d_depthwise" => {
            let [t, h, w] = sizes(shape)?;
            let padding = sizes(&case["padding"])?;
            let (x, weight) = (random(device, [1, 768, 8, 14, 14]), random(device, [768, 1, t, h, w]));
            Some(Box::new(move || {
                let options = ConvOptions::new([1; 3], padding, [1; 3], 768);
                done(conv3d(x.clone(), weight.clone(), None, options));
            }))
        }
        "layer_norm" => {
            let [rows, columns] = sizes(shape)?;
            let (x, w) = (random(device, [rows, columns]), random::<1>(device, [columns]));
            Some(Box::new(move || done(layer_norm(x.clone(), w.clone(), Some(w.clone()), 1e-6))))
        }
        "softmax" => {
            let s: Vec<usize> = shape.as_array()?.iter().filter_map(|n| n.as_u64().map(|n| n as usize)).collect();
            let (columns, rows) = s.split_last().map(|(c, r)| (*c, r.iter().product()))?;
            let x = random(device, [rows, columns]);
            Some(Box::new(move || done(activation::softmax(x.clone(), 1))))
        }
        "gelu" => {
            let s: Vec<usize> = shape.as_array()?.iter().filter_map(|n| n.as_u64().map(|n| n as usize)).collect();
            let x = random(device, [s.iter().product()]);
            let tanh = case["approximate"] == "tanh";
            Some(Box::new(move || {
                done(if tanh { activation::gelu_approximate(x.clone()) } else { activation::gelu(x.clone()) });
            }))
        }
        _ => None,
    }
}

fn best(run: &dyn Fn(), device: &Device, n: usize) -> f64 {
    let time = || {
        let start = Instant::now();
        run();
        device.sync().expect("the device");
        start.elapsed().as_secs_f64()
    };
    (0..n).map(|_| time()).fold(f64::INFINITY, f64::min)
}

fn main() {
    let device = Device::wgpu(DeviceKind::DefaultDevice);
    let mut prepared: Option<(String, Box<dyn Fn()>)> = None;
    for line in std::io::stdin().lock().lines().map_while(Result::ok) {
        if prepared.as_ref().is_none_or(|(known, _)| *known != line) {
            drop(prepared.take());
            let case = serde_json::from_str(&line).unwrap_or(Value::Null);
            prepared = prepare(&case, &device).map(|run| {
                device.sync().expect("the device");
                // Tries its variants.
                best(&*run, &device, 2);
                (line.clone(), run)
            });
        }
        match &prepared {
            Some((case, run)) => {
                let case: Value = serde_json::from_str(case).unwrap_or(Value::Null);
                println!("{}", best(&**run, &device, case["runs"].as_u64().unwrap_or(5) as usize));
            }
            None => println!("not a case"),
        }
        std::io::stdout().flush().expect("a reader");
    }
}
