//! Every shader with its specialisations, as validated WGSL and as what the three kinds of driver get. The shaders are those that random
//! samples of every operation need, on a device with the adapter's features and on one without.

mod common;

use std::{
    collections::BTreeSet,
    sync::atomic::{AtomicUsize, Ordering},
};

use naga::{
    ShaderStage,
    back::{hlsl, msl, pipeline_constants::process_overrides, spv},
    valid::{Capabilities, ModuleInfo, ValidationFlags, Validator},
};
use tubelet_engine::{
    DType, Device, Op, Philox,
    samples::{self, Values},
};
use tubelet_wgsl::{Shader, Wgpu, WgpuOptions};

/// The shaders that samples of `operations` make on a device.
fn shaders(options: WgpuOptions, operations: &[&str]) -> Option<Vec<Shader>> {
    let device = Device::new(common::device(options)?);
    for name in operations {
        for dtype in DType::FLOATS {
            for seed in 0..60 {
                let size = if seed % 3 == 0 { 40 } else { 9 };
                let sample = samples::sample(name, &mut Philox::new(seed), size, dtype, Values::Normal).expect("an operation");
                samples::run(&device, &sample).unwrap_or_else(|error| panic!("{name}: {error}"));
            }
        }
    }
    Some(device.backend().as_any().downcast_ref::<Wgpu>().expect("our own device").shaders())
}

fn has(shaders: &[Shader], part: &str) -> bool {
    shaders.iter().any(|shader| shader.text.contains(part))
}

/// What a translation does not take is an error with the name of the driver.
fn translate(module: &naga::Module, info: &ModuleInfo) -> Result<(), String> {
    spv::write_vec(module, info, &spv::Options::default(), None).map_err(|error| format!("SPIR-V: {error}"))?;
    let metal = msl::Options { lang_version: (3, 0), fake_missing_bindings: true, ..Default::default() };
    msl::write_string(module, info, &metal, &msl::PipelineOptions::default()).map_err(|error| format!("Metal: {error}"))?;
    let direct = hlsl::Options { shader_model: hlsl::ShaderModel::V6_2, fake_missing_bindings: true, ..Default::default() };
    let mut text = String::new();
    let pipeline = hlsl::PipelineOptions::default();
    hlsl::Writer::new(&mut text, &direct, &pipeline).write(module, info, None).map_err(|error| format!("DX12: {error}"))?;
    Ok(())
}

/// A shader, and each of its pipelines as wgpu makes it; `allowed` are the features that the device had.
fn check_one(shader: &Shader, allowed: Capabilities) -> Result<(), String> {
    let text = &shader.text;
    let module = naga::front::wgsl::parse_str(text).map_err(|error| error.emit_to_string(text))?;
    let validated = Validator::new(ValidationFlags::all(), allowed).validate(&module);
    let info = validated.map_err(|error| error.emit_to_string(text))?;
    for tiles in &shader.tiles {
        let values = tiles.iter().map(|&(name, value)| (name.to_owned(), f64::from(value))).collect();
        let entry = Some((ShaderStage::Compute, "main"));
        let processed =
            process_overrides(&module, &info, entry, &values).map_err(|error| format!("{tiles:?}: {error}\n{text}"))?;
        translate(&processed.0, &processed.1).map_err(|error| format!("{tiles:?}: {error}\n{text}"))?;
    }
    Ok(())
}

/// All of them, by as many threads as there are processors.
fn check(shaders: &[Shader], allowed: Capabilities) {
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while let Some(shader) = shaders.get(next.fetch_add(1, Ordering::Relaxed)) {
                    check_one(shader, allowed).unwrap_or_else(|error| panic!("{error}"));
                }
            });
        }
    });
}

const ALL: Capabilities = Capabilities::SHADER_FLOAT16.union(Capabilities::SHADER_INT16).union(Capabilities::SUBGROUP);

#[test]
fn shaders_with_all_features_are_valid_for_every_driver() {
    let Some(shaders) = shaders(WgpuOptions { dry: true, ..Default::default() }, Op::NAMES) else { return };
    assert!(shaders.len() > Op::NAMES.len(), "{} shaders", shaders.len());
    check(&shaders, ALL);
}

/// Of the operations with tiles: measuring makes every one. A processor has kernels of its own, unless it is taken for a GPU.
#[test]
fn shaders_of_every_tile_are_valid_for_every_driver() {
    let tiled = ["gemm", "conv3d", "conv3d_backward_weight", "attention"];
    let Some(shaders) = shaders(WgpuOptions { dry: true, tune: true, as_gpu: true, ..Default::default() }, &tiled) else {
        return;
    };
    for part in ["const SIDE: u32 = 4u;", "const SIDE: u32 = 8u;", "const ROWS: u32 = 16u;", "query_tile"] {
        assert!(has(&shaders, part), "no shader with {part}");
    }
    for (tile, most) in [("left_tile", 4), ("query_tile", 3)] {
        let tiles = shaders.iter().filter(|shader| shader.text.contains(tile)).map(|shader| shader.tiles.len());
        assert!(tiles.max() >= Some(most), "one text serves every {tile} of its registers");
    }
    check(&shaders, ALL);
}

#[test]
fn shaders_without_features_need_none() {
    let Some(shaders) = shaders(WgpuOptions { dry: true, plain: true, ..Default::default() }, Op::NAMES) else { return };
    for variant in ["x_load4", "query_tile"] {
        assert!(has(&shaders, variant), "no shader with {variant}");
    }
    check(&shaders, Capabilities::empty());
}

/// Shader compilers take a comparison by `!=` with NaN to be false; WGSL says no more than that NaN may not occur.
#[test]
fn sources_compare_floats_for_equality_only() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let wrong: BTreeSet<String> = std::fs::read_dir(folder)
        .expect("the sources")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "wgsl"))
        .filter(|path| std::fs::read_to_string(path).expect("a shader").contains("!= 0.0"))
        .map(|path| path.display().to_string())
        .collect();
    assert!(wrong.is_empty(), "{wrong:?}");
}
