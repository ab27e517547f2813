//! Every kernel of the grid at the shapes of its benchmarks, below the roofs of this processor:
//! `cargo run --release -p tubelet-benches --bin roofline` draws `benches/results/roofline-cpu.svg`, or the file that an argument names.
//!
//! To the left kernels made of products, by their intensity (FLOPs of products by compulsory bytes, as the operation counts them); to the right those
//! that move memory alone, by their bandwidth. An element type is settled once for a process, so that the program runs itself for each.

use std::process::{Command, ExitCode, Stdio};

use plotters::{
    coord::Shift,
    prelude::*,
    style::text_anchor::{HPos, Pos, VPos},
};
use serde_json::{Value, json};
use tubelet_benches::{Case, Roofline, best, device, dtype, provenance};
use tubelet_engine::{DType, Device};

/// The benchmarks as modules, and their cases.
macro_rules! grid {
    ($($name:ident,)*) => {
        $(#[allow(dead_code, reason = "its main is the benchmark's")]
        mod $name;)*

        fn grid(d: &Device) -> Vec<(&'static str, Vec<Case>)> {
            vec![$((stringify!($name), $name::cases(d)),)*]
        }
    };
}

grid! {
    adam,
    attention,
    attention_backward,
    attention_topk_std,
    attention_topk_std_backward,
    batch_norm,
    batch_norm_backward,
    binary,
    binary_cross_entropy,
    binary_cross_entropy_backward,
    concat,
    conv3d,
    conv3d_backward_video,
    conv3d_backward_weight,
    conv3d_depthwise,
    conv3d_depthwise_backward,
    copy,
    cross_entropy,
    cross_entropy_backward,
    dropout,
    gather,
    gather_backward,
    gemm,
    interpolate,
    interpolate_backward,
    layer_norm,
    layer_norm_backward,
    layer_norm_gemm,
    reduce,
    resize,
    resize_backward,
    sgd,
    softmax,
    softmax_backward,
    unary,
    unary_backward,
}

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// A kernel's measurements in one element type.
#[derive(Clone, Copy)]
struct Point {
    flops: f64,
    bytes: f64,
    seconds: f64,
    bf16: bool,
}

impl Point {
    fn colour(self) -> RGBColor {
        if self.bf16 { RGBColor(200, 60, 20) } else { RGBColor(20, 80, 180) }
    }
}

/// A kernel: its name, and what was measured.
struct Kernel {
    name: String,
    points: Vec<Point>,
}

/// In the child: one JSON object a line, the roofs first.
fn measure() {
    let d = device();
    let roofline = Roofline::measure();
    let said = format!("{}; {}", d.backend().description(), roofline.said());
    println!("{}", json!({ "flops": roofline.flops, "pairs": roofline.pairs, "bytes": roofline.bytes, "said": said }));
    for (group, cases) in grid(&d) {
        for case in cases {
            // Operations that only come in f32 have no point in another type.
            if !case.fits() {
                eprintln!("{group} {}: not in {}", case.label, dtype());
                continue;
            }
            eprintln!("{group} {} {}", case.label, dtype());
            let (flops, bytes) = case.cost();
            let seconds = best(5, || drop(std::hint::black_box(case.run())));
            println!(
                "{}",
                json!({ "name": format!("{group} {}", case.label), "flops": flops, "bytes": bytes, "seconds": seconds })
            );
        }
    }
}

/// The child's lines.
fn child(dtype: DType) -> Result<Vec<Value>, String> {
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let mut command = Command::new(program);
    let output = command.arg("--measure").env("TUBELET_DTYPE", dtype.name()).stderr(Stdio::inherit()).output();
    let output = output.map_err(|error| error.to_string())?;
    if !output.status.success() {
        return Err(format!("the measurements in {dtype} failed"));
    }
    String::from_utf8_lossy(&output.stdout).lines().map(|line| serde_json::from_str(line).map_err(|e| e.to_string())).collect()
}

/// The picture's lists: kernels of products, and of memory alone.
fn gather(all: &[(bool, Vec<Value>)]) -> [Vec<Kernel>; 2] {
    let mut kernels: [Vec<Kernel>; 2] = Default::default();
    for (bf16, lines) in all {
        for line in lines.iter().skip(1) {
            let number = |key: &str| line[key].as_f64().unwrap_or(f64::NAN);
            let point = Point { flops: number("flops"), bytes: number("bytes"), seconds: number("seconds"), bf16: *bf16 };
            let name = line["name"].as_str().unwrap_or_default();
            let list = &mut kernels[usize::from(point.flops == 0.0)];
            match list.iter_mut().find(|kernel| kernel.name == name) {
                Some(kernel) => kernel.points.push(point),
                None => list.push(Kernel { name: name.into(), points: vec![point] }),
            }
        }
    }
    kernels
}

fn text<E: std::fmt::Display>(error: E) -> String {
    error.to_string()
}

fn centred(size: u32, colour: &RGBColor) -> TextStyle<'static> {
    ("sans-serif", size).into_font().color(colour).pos(Pos::new(HPos::Center, VPos::Center)).into_text_style(&(1, 1))
}

/// The log-log chart, its points numbered.
fn roofs(area: &Area<'_>, kernels: &[Kernel], roofline: &Roofline) -> Result<(), String> {
    let points = || kernels.iter().flat_map(|kernel| &kernel.points);
    let intensities = || points().map(|p| p.flops / p.bytes);
    let (left, right) = (intensities().fold(1.0, f64::min) / 2.0, intensities().fold(100.0, f64::max) * 2.0);
    let rates = || points().map(|p| p.flops / p.seconds * 1e-9);
    // What lies in a cache may be above the roofs.
    let top = rates().fold(roofline.peak(DType::BF16) * 1e-9, f64::max) * 2.0;
    let bottom = rates().fold(1.0, f64::min) / 2.0;
    let mut chart = ChartBuilder::on(area)
        .margin(10)
        .x_label_area_size(45)
        .y_label_area_size(60)
        .build_cartesian_2d((left..right).log_scale(), (bottom..top).log_scale())
        .map_err(text)?;
    let mut mesh = chart.configure_mesh();
    mesh.x_desc("FLOPs of products by compulsory byte").y_desc("GFLOP/s").light_line_style(WHITE).label_style(("sans-serif", 14));
    mesh.draw().map_err(text)?;
    let (x0, y0) = area.get_base_pixel();
    let mut taken: Vec<[i32; 4]> = Vec::new();
    for (peak, bf16) in [(roofline.flops, false), (roofline.peak(DType::BF16), true)] {
        let colour = Point { flops: 0.0, bytes: 0.0, seconds: 0.0, bf16 }.colour();
        let start = left.max(bottom * 1e9 / roofline.bytes);
        let line = [start, peak / roofline.bytes, right].map(|x| (x, (x * roofline.bytes).min(peak) * 1e-9));
        chart.draw_series(LineSeries::new(line, colour.stroke_width(2))).map_err(text)?;
        // One above its line, the other below: the two peaks may be close.
        let (x, y) = chart.backend_coord(&(right, peak * 1e-9));
        let (x, y) = (x - x0 - 70, y - y0 + if bf16 { -9 } else { 10 });
        let label = format!("{} peak {:.0} GFLOP/s", if bf16 { "bf16" } else { "f32" }, peak * 1e-9);
        area.draw(&Text::new(label, (x, y), centred(12, &colour))).map_err(text)?;
        taken.push([x - 70, y - 8, x + 70, y + 8]);
    }
    let place = |p: &Point| chart.backend_coord(&(p.flops / p.bytes, p.flops / p.seconds * 1e-9));
    for point in points() {
        let (x, y) = place(point);
        taken.push([x - x0 - 4, y - y0 - 4, x - x0 + 4, y - y0 + 4]);
        area.draw(&Circle::new((x - x0, y - y0), 3, point.colour().filled())).map_err(text)?;
    }
    for (i, kernel) in kernels.iter().enumerate() {
        for point in &kernel.points {
            let (x, y) = place(point);
            let (x, y) = free(&mut taken, (x - x0, y - y0));
            area.draw(&Text::new((i + 1).to_string(), (x, y), centred(12, &point.colour()))).map_err(text)?;
        }
    }
    Ok(())
}

/// Where a number near a point hides nothing: the nearest free place on circles around it.
fn free(taken: &mut Vec<[i32; 4]>, (x, y): (i32, i32)) -> (i32, i32) {
    let ring = |r: i32| (0..16).map(move |k| (f64::from(r), f64::from(k) * std::f64::consts::TAU / 16.0));
    let places = (10..80).step_by(3).flat_map(ring).map(|(r, a)| (x + (r * a.cos()) as i32, y + (r * a.sin()) as i32));
    let around = |(x, y): (i32, i32)| [x - 8, y - 6, x + 8, y + 6];
    let hits = |a: [i32; 4], b: &[i32; 4]| a[0] < b[2] && b[0] < a[2] && a[1] < b[3] && b[1] < a[3];
    let found = places.into_iter().find(|&place| !taken.iter().any(|other| hits(around(place), other)));
    let place = found.unwrap_or((x, y - 10));
    taken.push(around(place));
    place
}

/// What the numbers mean.
fn list(area: &Area<'_>, kernels: &[Kernel]) -> Result<(), String> {
    for (i, kernel) in kernels.iter().enumerate() {
        let rate = |p: &Point| format!("{:.0}", p.flops / p.seconds * 1e-9);
        let rates: Vec<String> = kernel.points.iter().map(rate).collect();
        let line = format!("{}  {}: {} GFLOP/s", i + 1, kernel.name, rates.join(", "));
        area.draw(&Text::new(line, (10, 14 * i as i32 + 4), ("sans-serif", 12).into_font())).map_err(text)?;
    }
    Ok(())
}

/// Bandwidths, a line for each kernel, and the triad's.
fn bandwidths(area: &Area<'_>, kernels: &[Kernel], roofline: &Roofline) -> Result<(), String> {
    let rate = |p: &Point| p.bytes / p.seconds * 1e-9;
    let most = kernels.iter().flat_map(|kernel| &kernel.points).map(rate).fold(roofline.bytes * 1e-9, f64::max) * 1.05;
    let (names, width) = (330, area.dim_in_pixel().0 as i32 - 350);
    let across = |rate: f64| names + (rate / most * f64::from(width)) as i32;
    let bottom = 16 * kernels.len() as i32 + 4;
    let triad = across(roofline.bytes * 1e-9);
    area.draw(&PathElement::new([(triad, 0), (triad, bottom)], BLACK.stroke_width(1))).map_err(text)?;
    let caption = format!("triad {:.1} GB/s", roofline.bytes * 1e-9);
    area.draw(&Text::new(caption, (triad, bottom + 10), centred(12, &BLACK))).map_err(text)?;
    for (i, kernel) in kernels.iter().enumerate() {
        let y = 16 * i as i32 + 8;
        let rates: Vec<String> = kernel.points.iter().map(|point| format!("{:.1}", rate(point))).collect();
        let name = format!("{}: {} GB/s", kernel.name, rates.join(", "));
        area.draw(&Text::new(name, (10, y - 6), ("sans-serif", 12).into_font())).map_err(text)?;
        area.draw(&PathElement::new([(names, y), (names + width, y)], BLACK.mix(0.15))).map_err(text)?;
        for point in &kernel.points {
            area.draw(&Circle::new((across(rate(point)), y), 4, point.colour().filled())).map_err(text)?;
        }
    }
    Ok(())
}

fn draw(path: &str) -> Result<(), String> {
    let all = [(false, child(DType::F32)?), (true, child(DType::BF16)?)];
    let head = all[0].1.first().cloned().unwrap_or_default();
    let number = |key: &str| head[key].as_f64();
    let roofline = Roofline {
        flops: number("flops").ok_or("no roofs were measured")?,
        pairs: number("pairs"),
        bytes: number("bytes").ok_or("no roofs were measured")?,
    };
    let [products, memory] = gather(&all);
    let height = 110 + (14 * products.len()).max(16 * memory.len() + 30) as u32;
    let root = SVGBackend::new(path, (1700, height)).into_drawing_area();
    root.fill(&WHITE).map_err(text)?;
    let (title, body) = root.split_vertically(60);
    let heading = format!("Kernels of the CPU column, {}", provenance());
    title.draw(&Text::new(heading, (10, 8), ("sans-serif", 18).into_font())).map_err(text)?;
    let said = format!("{}. Blue: f32; red: bf16.", head["said"].as_str().unwrap_or_default());
    title.draw(&Text::new(said, (10, 34), ("sans-serif", 13).into_font())).map_err(text)?;
    let (left, rest) = body.split_horizontally(720);
    let (middle, right) = rest.split_horizontally(420);
    roofs(&left, &products, &roofline)?;
    list(&middle, &products)?;
    bandwidths(&right, &memory, &roofline)?;
    root.present().map_err(text)
}

fn main() -> ExitCode {
    let argument = std::env::args().nth(1);
    if argument.as_deref() == Some("--measure") {
        measure();
        return ExitCode::SUCCESS;
    }
    let path = argument.unwrap_or_else(|| concat!(env!("CARGO_MANIFEST_DIR"), "/results/roofline-cpu.svg").into());
    match draw(&path) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("roofline: {message}");
            ExitCode::FAILURE
        }
    }
}
