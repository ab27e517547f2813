//! Every shader with its specialisations, as validated WGSL and as what the three kinds of driver get. The shaders are those that random
//! samples of every operation need, on a device with the adapter's features and on one without.

mod common;

use std::collections::BTreeSet;

use naga::{
    back::{hlsl, msl, spv},
    valid::{Capabilities, ModuleInfo, ValidationFlags, Validator},
};
use tubelet_engine::{
    DType, Device, Op, Philox,
    samples::{self, Values},
};
use tubelet_wgsl::{Wgpu, WgpuOptions};

/// The shaders that samples of every operation make on a device.
fn shaders(options: WgpuOptions) -> Option<Vec<String>> {
    let plain = options.plain;
    let device = Device::new(common::device(options)?);
    for name in Op::NAMES {
        for dtype in DType::FLOATS {
            for (seed, size) in [(0, 9), (1, 9), (2, 9), (3, 9), (4, 9), (5, 9), (6, 40), (7, 40), (8, 40), (9, 40)] {
                let sample = samples::sample(name, &mut Philox::new(seed), size, dtype, Values::Normal).expect("an operation");
                samples::run(&device, &sample).unwrap_or_else(|error| panic!("{name}: {error}"));
            }
        }
    }
    let texts = device.backend().as_any().downcast_ref::<Wgpu>().expect("our own device").shaders();
    assert!(texts.len() > Op::NAMES.len(), "{} shaders", texts.len());
    // A processor has an attention of its own, unless it is taken for a GPU.
    let own = (!plain && device.backend().description().contains("(Cpu,")).then_some("exp_negative");
    for variant in ["x_load4", "query_tile"].into_iter().chain(own) {
        assert!(texts.iter().any(|text| text.contains(variant)), "no shader with {variant}");
    }
    Some(texts)
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

/// `allowed` are the features that the device had.
fn check(texts: &[String], allowed: Capabilities) {
    for text in texts {
        let module = naga::front::wgsl::parse_str(text).unwrap_or_else(|error| panic!("{}", error.emit_to_string(text)));
        let info = Validator::new(ValidationFlags::all(), allowed).validate(&module);
        let info = info.unwrap_or_else(|error| panic!("{}", error.emit_to_string(text)));
        if let Err(error) = translate(&module, &info) {
            panic!("{error}\n{text}");
        }
    }
}

#[test]
fn shaders_with_all_features_are_valid_for_every_driver() {
    // Measuring makes every tile of a product.
    let Some(texts) = shaders(WgpuOptions { tune: true, ..Default::default() }) else { return };
    // Tiles in workgroup memory, of both sides, and products without it.
    for part in ["const SIDE: u32 = 4u;", "const SIDE: u32 = 8u;", "const ROWS: u32 = 16u;"] {
        assert!(texts.iter().any(|text| text.contains(part)), "no shader with {part}");
    }
    check(&texts, Capabilities::SHADER_FLOAT16 | Capabilities::SHADER_INT16 | Capabilities::SUBGROUP);
}

#[test]
fn shaders_without_features_need_none() {
    let Some(texts) = shaders(WgpuOptions { plain: true, ..Default::default() }) else { return };
    check(&texts, Capabilities::empty());
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
