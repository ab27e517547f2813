//! Which tensors of a checkpoint become a model's weights.
#![allow(clippy::unwrap_used)]

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use tubelet_models::{
    checkpoint::{Entry, safetensors::write},
    engine::{DType, Device},
    params::Params,
    registry::Config,
    weights::{Choice, Weights},
};

type Tensors = BTreeMap<String, (Vec<usize>, Vec<f64>)>;

/// A model of a few thousand parameters.
fn config() -> Config {
    let text = r#"{"model": "vivit", "input": {"frames": 4, "size": [16, 16], "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]},
        "tubelet": [2, 8, 8], "width": 16, "spatial": {"layers": 2, "heads": 2, "hidden": 32},
        "temporal": {"kind": "encoder", "layers": 1, "heads": 2, "hidden": 32}, "class_token": true, "activation": "gelu_tanh",
        "qkv_bias": true, "eps": 1e-06, "adapter": null, "representation": null, "classes": 4}"#;
    serde_json::from_str(text).unwrap()
}

/// Every parameter under our names.
fn collected(mut params: Params<'_>) -> Tensors {
    params = params.without_preparing().collecting();
    config().build(&mut params).unwrap();
    let all = params.take_collected();
    params.finish().unwrap();
    all.into_iter()
        .map(|p| (p.name, (p.value.shape().to_vec(), p.value.cast(DType::F32).unwrap().to_f64_vec().unwrap())))
        .collect()
}

/// Whole numbers, which every element type holds.
fn numbers() -> Tensors {
    let random = collected(Params::random(&Device::cpu().unwrap(), DType::F32, 0));
    let count = |n: usize| (0..n).map(|i| (i % 7) as f64).collect();
    random.into_iter().map(|(name, (shape, values))| (name, (shape, count(values.len())))).collect()
}

fn zeros() -> Tensors {
    numbers().into_iter().map(|(name, (shape, values))| (name, (shape, vec![0.0; values.len()]))).collect()
}

fn prefixed(prefix: &str, tensors: Tensors) -> Tensors {
    tensors.into_iter().map(|(name, tensor)| (format!("{prefix}{name}"), tensor)).collect()
}

fn joined(all: impl IntoIterator<Item = Tensors>) -> Tensors {
    all.into_iter().flatten().collect()
}

/// Removes the file at its end.
struct File(PathBuf);

impl File {
    fn new(name: &str, tensors: &Tensors, dtype: DType) -> Self {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("weights-{name}.safetensors"));
        let entry =
            |(name, (shape, _)): (&String, &(Vec<usize>, Vec<f64>))| Entry { name: name.clone(), dtype, shape: shape.clone() };
        let entries: Vec<Entry> = tensors.iter().map(entry).collect();
        let bytes = |x: f64| match dtype {
            DType::F64 => x.to_le_bytes().to_vec(),
            DType::F32 => (x as f32).to_le_bytes().to_vec(),
            DType::BF16 => ((x as f32).to_bits() >> 16).to_le_bytes()[..2].to_vec(),
            DType::I32 => (x as i32).to_le_bytes().to_vec(),
            DType::U8 => vec![x as u8],
            DType::F16 => half(x).to_le_bytes().to_vec(),
        };
        let data = |entry: &Entry| Ok(tensors[&entry.name].1.iter().flat_map(|&x| bytes(x)).collect::<Vec<u8>>());
        write(&path, &BTreeMap::new(), &entries, data).unwrap();
        File(path)
    }

    fn open(&self, state_dict: Option<&str>) -> Result<Weights, String> {
        Weights::open(&config(), &self.0, Choice { naming: None, state_dict }).map_err(|error| error.to_string())
    }

    /// The parameters as the model gets them, and the note.
    fn load(&self, state_dict: Option<&str>) -> (Tensors, Option<String>) {
        let weights = self.open(state_dict).unwrap();
        let device = Device::cpu().unwrap();
        let params = Params::from_file(&device, DType::F32, &weights.file, &*weights.naming);
        (collected(params), weights.note)
    }

    fn error(&self, state_dict: Option<&str>) -> String {
        let built = self.open(state_dict).and_then(|weights| {
            weights.build(&config(), &Device::cpu().unwrap(), DType::F32).map(drop).map_err(|error| error.to_string())
        });
        built.unwrap_err()
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Small whole numbers as f16.
fn half(x: f64) -> u16 {
    if x == 0.0 {
        return 0;
    }
    let bits = (x as f32).to_bits();
    (((bits >> 23) - 127 + 15) << 10 | ((bits >> 13) & 0x3ff)) as u16
}

#[track_caller]
fn has(message: &str, parts: &[&str]) {
    for part in parts {
        assert!(message.contains(part), "`{part}` is not in: {message}");
    }
}

#[test]
fn prefixes_of_wrappers_come_off_in_any_order_and_number() {
    let prefixes =
        ["", "module.", "_orig_mod.", "module._orig_mod.", "state_dict.model.", "_orig_mod.module.model.backbone.", "net.x."];
    for (i, prefix) in prefixes.into_iter().enumerate() {
        let file = File::new(&format!("prefix-{i}"), &prefixed(prefix, numbers()), DType::F32);
        assert_eq!(file.load(None), (numbers(), None), "{prefix}");
    }
    let inside = numbers()
        .into_iter()
        .map(|(name, x)| (name.replace("blocks.0.", "blocks.0._orig_mod.").replace("blocks.1.", "module.blocks.1."), x));
    assert_eq!(File::new("inside", &inside.collect(), DType::F32).load(None).0, numbers());
    let backbone = |name: String| if name.starts_with("head") { name } else { format!("backbone.{name}") };
    let beside = numbers().into_iter().map(|(name, x)| (format!("module.{}", backbone(name)), x)).collect();
    assert_eq!(File::new("beside", &beside, DType::F32).load(None), (numbers(), None));
}

#[test]
fn of_several_that_fit_the_field_has_a_convention_and_a_line_says_so() {
    // The dictionary that is taken, and another that fits.
    let pairs = [
        ("teacher", "student"),
        ("state_dict_ema", "state_dict"),
        ("model_ema", "model"),
        ("ema.shadow", "model"),
        ("modelEMA", "model"),
        ("state_dict.teacher.backbone", "state_dict.student.backbone"),
        ("state_dict", "optimizer.exp_avg"),
        ("model", "another"),
        ("state_dict", "model"),
        ("model", "optimizer.ema"),
        ("target_encoder", "encoder"),
        ("encoder_q", "encoder_k"),
    ];
    for (i, (taken, other)) in pairs.into_iter().enumerate() {
        let both = joined([prefixed(&format!("{taken}."), numbers()), prefixed(&format!("{other}."), zeros())]);
        let file = File::new(&format!("pair-{i}"), &both, DType::F32);
        let (weights, note) = file.load(None);
        assert_eq!(weights, numbers(), "{taken} over {other}");
        has(&note.unwrap(), &[&format!("are `{taken}`"), &format!("`{other}` fits"), "--state-dict"]);
        assert_eq!(file.load(Some(other)), (zeros(), None));
        assert_eq!(file.load(Some(taken)), (numbers(), None));
    }
}

#[test]
fn counts_do_not_decide_and_equal_ones_are_refused() {
    let parts = ["optimizer.exp_avg.0.", "optimizer.exp_avg.1.", "optimizer.exp_avg.2."];
    let lists = parts.map(|prefix| {
        let tensors = zeros().into_values().enumerate();
        tensors.map(|(i, tensor)| (format!("{prefix}{i}"), tensor)).collect::<Tensors>()
    });
    let all = joined(lists.into_iter().chain([prefixed("zoo.", numbers())]));
    assert_eq!(File::new("lists", &all, DType::F32).load(None), (numbers(), None));

    let tie = joined([prefixed("net_a.", numbers()), prefixed("net_b.", zeros())]);
    let tie = File::new("tie", &tie, DType::F32);
    has(&tie.error(None), &["`net_a`", "`net_b`", "--state-dict", "weights-tie.safetensors"]);
    assert_eq!(tie.load(Some("net_b")), (zeros(), None));
    has(&tie.error(Some("net_c")), &["\"net_c\"", "\"net_a\"", "\"net_b\""]);
}

#[test]
fn element_types_become_the_models() {
    for dtype in [DType::F64, DType::F32, DType::BF16, DType::F16, DType::I32, DType::U8] {
        let file = File::new(dtype.name(), &numbers(), dtype);
        assert_eq!(file.load(None), (numbers(), None), "{dtype}");
    }
    let mut large = numbers();
    large.get_mut("head.bias").unwrap().1[2] = 1e300;
    has(&File::new("large", &large, DType::F64).error(None), &["head.bias", "element 2", "f32"]);
}

/// A safetensors file with the header changed from one text to another of the same length.
fn altered(file: &File, from: &str, to: &str) {
    assert_eq!(from.len(), to.len());
    let mut bytes = std::fs::read(&file.0).unwrap();
    let at = bytes.windows(from.len()).position(|window| window == from.as_bytes()).unwrap();
    bytes[at..at + to.len()].copy_from_slice(to.as_bytes());
    std::fs::write(&file.0, bytes).unwrap();
}

#[test]
fn what_the_model_does_not_need_is_left_and_what_it_needs_is_named() {
    let extra = |name: &str| joined([numbers(), BTreeMap::from([(name.to_owned(), (vec![3], vec![0.0; 3]))])]);
    let float = File::new("extra-float", &extra("aux.weight"), DType::F32);
    has(&float.error(None), &["1 unexpected", "aux.weight"]);
    let header = r#""aux.weight":{"dtype":"F32""#;
    for (i, other) in ["I32", "U32", "X32"].into_iter().enumerate() {
        let file = File::new(&format!("extra-{i}"), &extra("aux.weight"), DType::F32);
        altered(&file, header, &header.replace("F32", other));
        assert_eq!(file.load(None), (numbers(), None), "{other}");
    }
    let needed = File::new("needed", &numbers(), DType::F32);
    altered(&needed, r#""head.bias":{"dtype":"F32""#, r#""head.bias":{"dtype":"X32""#);
    has(&needed.error(None), &["`head.bias`", "X32"]);
}
