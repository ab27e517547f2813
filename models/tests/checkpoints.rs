//! Released checkpoints load: proved by names and shapes alone, on the meter. And fixtures of independent implementations agree.
#![cfg(feature = "train")]
#![allow(clippy::unwrap_used)]

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use tubelet_models::{
    Result,
    engine::{DType, Device, Tensor},
    params::{Params, TensorFile},
    parity,
    registry::Config,
};

/// A folder outside of the repository, or a printed reason for going without.
fn outside(variable: &str, default: &str) -> Option<PathBuf> {
    let default = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(default);
    let path = std::env::var_os(variable).map_or(default, PathBuf::from);
    if path.is_dir() {
        return Some(path);
    }
    println!("skipped: {} is not there; set {variable}", path.display());
    None
}

/// Names and shapes of a released state dict: `name<TAB>[shape]<TAB>kind`, and the number of parameters in a comment.
struct StateDict {
    shapes: BTreeMap<String, Vec<usize>>,
    parameters: u64,
}

impl StateDict {
    fn read(path: &Path) -> Self {
        let text = fs::read_to_string(path).unwrap();
        let count = text.lines().find_map(|line| line.split_once("trainable parameters: ")).unwrap().1;
        let parameters = count.split_whitespace().next().unwrap().replace(',', "").parse().unwrap();
        let tensors = text.lines().filter(|line| !line.starts_with('#')).map(|line| {
            let mut columns = line.split('\t');
            let (name, shape) = (columns.next().unwrap(), columns.next().unwrap());
            let numbers = shape.trim_matches(['[', ']']).split(',').map(str::trim).filter(|n| !n.is_empty());
            (name.to_owned(), numbers.map(|n| n.parse().unwrap()).collect())
        });
        StateDict { shapes: tensors.collect(), parameters }
    }
}

impl TensorFile for StateDict {
    fn shapes(&self) -> BTreeMap<String, Vec<usize>> {
        self.shapes.clone()
    }
    fn load(&self, name: &str, device: &Device) -> Result<Tensor> {
        Tensor::empty(device, DType::F32, &self.shapes[name])
    }
}

#[test]
fn every_released_state_dict_loads() {
    let Some(folder) = outside("TUBELET_STATE_DICTS", "shared/spec/state_dicts") else { return };
    let preset_of = [
        ("clip_visual_vit_b16", "clip-b16"),
        ("clip_visual_vit_l14", "clip-l14"),
        ("clip_visual_vit_l14_336", "clip-l14-336"),
        ("cvidtr_m_16x4", "c-vidtr-m"),
        ("cvidtr_s_8x8", "c-vidtr-s"),
        ("hf_vivit_b_16x2_kinetics400", "vivit-b-joint"),
        ("scenic_vivit_b16x2_fe_k400", "vivit-b-fe"),
        ("scenic_vivit_l16x2_fe_k400", "vivit-l-fe"),
        ("tadaconv_vivit_b16x2_fe_k400", "vivit-b-fe-tadaconv"),
        ("timm_vit_base_patch16_224", "vit-b16"),
        ("timm_vit_base_patch16_clip_quickgelu_224_openai", "clip-b16-timm"),
        ("timm_vit_large_patch16_224", "vit-l16"),
        ("torchvision_vit_b_16", "vit-b16"),
        ("tubevit_b_danielcode", "tubevit-b-thirdparty"),
        ("uniformerv2_b16_k400_8x224", "uniformerv2-b16-k400"),
        ("uniformerv2_b16_k710_8x224", "uniformerv2-b16-k710"),
        ("uniformerv2_b16_ssv2_16x224", "uniformerv2-b16-ssv2-16"),
        ("uniformerv2_l14_336_k400", "uniformerv2-l14-336-k400-8"),
        ("uniformerv2_l14_336_k400_frozen", "uniformerv2-l14-336-k400-8-frozen"),
        ("uniformerv2_l14_k400_8x224", "uniformerv2-l14-k400-8"),
        ("uniformerv2_l14_ssv2_16x224", "uniformerv2-l14-ssv2-16"),
        ("vidtr_l_32x2", "vidtr-l"),
        ("vidtr_m_16x4", "vidtr-m"),
        ("vidtr_s_8x8", "vidtr-s"),
    ];
    let files = fs::read_dir(&folder).unwrap().filter(|e| e.as_ref().unwrap().path().extension().is_some_and(|x| x == "tsv"));
    assert_eq!(files.count(), preset_of.len(), "every state dict has its preset here");
    for (file, preset) in preset_of {
        let state = StateDict::read(&folder.join(format!("{file}.tsv")));
        let config = Config::named(preset).unwrap();
        let naming = config.naming(&state, None).unwrap();
        let mut params = Params::from_file(&Device::meter(), DType::F32, &state, &*naming);
        config.build(&mut params).unwrap();
        // The third-party code registers its fixed table of positions as a parameter that takes no gradient.
        let fixed = if file == "tubevit_b_danielcode" { 540 * 768 } else { 0 };
        assert_eq!(params.parameters() + fixed, state.parameters, "{file}: parameters");
        params.finish().unwrap_or_else(|error| panic!("{file} as {preset}, naming {}: {error}", naming.name()));
    }
}

#[test]
fn uniformerv2_loads_without_the_prefix_and_under_mmactions_names() {
    let Some(folder) = outside("TUBELET_STATE_DICTS", "shared/spec/state_dicts") else { return };
    let official = StateDict::read(&folder.join("uniformerv2_b16_ssv2_16x224.tsv"));
    let config = Config::named("uniformerv2-b16-ssv2-16").unwrap();
    let renamed = |rename: &dyn Fn(&str) -> String| StateDict {
        shapes: official.shapes.iter().map(|(name, shape)| (rename(name), shape.clone())).collect(),
        parameters: official.parameters,
    };
    let bare = renamed(&|name| name.trim_start_matches("backbone.").to_owned());
    let mmaction = renamed(&|name| {
        let name = name.replace("transformer.proj.0.", "transformer.norm.");
        name.replace("backbone.transformer.proj.2.", "cls_head.fc_cls.")
    });
    for (state, expected) in [(official, "uniformerv2"), (bare, "uniformerv2"), (mmaction, "uniformerv2-mmaction")] {
        let naming = config.naming(&state, None).unwrap();
        assert_eq!(naming.name(), expected);
        config.with_naming(&Device::meter(), DType::F32, &state, &*naming).unwrap();
    }
}

#[test]
fn fixtures_of_independent_implementations_agree() {
    let Some(folder) = outside("TUBELET_FIXTURES", "shared/fixtures") else { return };
    let report = parity::run(&folder, &Device::cpu().unwrap(), &mut |_| {}).unwrap();
    let failed: Vec<_> = report.rows.iter().filter(|row| !row.ok).collect();
    assert!(failed.is_empty(), "{failed:#?}");
    assert!(report.ok());
}
