//! ViViT's factorised dot-product attention (model 4) against a plain f64 implementation that reads scenic's tensors.
#![allow(clippy::unwrap_used)]

use std::{collections::BTreeMap, f64::consts::PI};

use tubelet_models::{
    Pass, Result,
    engine::{DType, Device, Tensor},
    params::{Naming, Params, Reader, TensorFile},
    registry::Config,
};

const FRAMES: usize = 4;
const SIDE: usize = 8;
const GRID: [usize; 3] = [2, 2, 2];
const TUBE: [usize; 3] = [2, 4, 4];
const WIDTH: usize = 8;
const HEADS: usize = 4;
const HEAD: usize = WIDTH / HEADS;
const HIDDEN: usize = 12;
const LAYERS: usize = 2;
const CLASSES: usize = 5;

fn config(heads: usize, class_token: bool) -> Config {
    let Config::Vivit(tiny) = Config::named("vivit-tiny").unwrap() else { panic!("another system") };
    let mut value = serde_json::to_value(Config::Vivit(tiny)).unwrap();
    value["input"]["frames"] = FRAMES.into();
    value["input"]["size"] = serde_json::json!([SIDE, SIDE]);
    value["tubelet"] = serde_json::json!(TUBE);
    value["width"] = WIDTH.into();
    value["spatial"] = serde_json::json!({ "layers": LAYERS, "heads": heads, "hidden": HIDDEN });
    value["temporal"] = serde_json::json!({ "kind": "dot_product" });
    value["class_token"] = class_token.into();
    value["classes"] = CLASSES.into();
    serde_json::from_value(value).unwrap()
}

/// Numbers that depend on a name and a place, and are exact in f32.
fn numbers(name: &str, shape: &[usize]) -> Vec<f64> {
    let first = name.bytes().map(usize::from).sum::<usize>();
    let centre = if name.ends_with("scale") { 1.0 } else { 0.0 };
    (0..shape.iter().product()).map(|i| ((i * 37 + first * 11) % 101) as f64 / 128.0 - 0.390_625 + centre).collect()
}

/// A checkpoint under scenic's names: the tensors that its code makes for this model.
struct Scenic(BTreeMap<String, Vec<usize>>);

impl Scenic {
    fn new() -> Self {
        let [t, h, w] = GRID;
        let mut all: Vec<(String, Vec<usize>)> = vec![
            ("embedding/kernel".into(), vec![TUBE[0], TUBE[1], TUBE[2], 3, WIDTH]),
            ("embedding/bias".into(), vec![WIDTH]),
            ("Transformer/posembed_input/pos_embedding".into(), vec![1, t * h * w, WIDTH]),
            ("Transformer/encoder_norm/scale".into(), vec![WIDTH]),
            ("Transformer/encoder_norm/bias".into(), vec![WIDTH]),
            ("output_projection/kernel".into(), vec![WIDTH, CLASSES]),
            ("output_projection/bias".into(), vec![CLASSES]),
        ];
        for i in 0..LAYERS {
            let block = |rest: &str| format!("Transformer/encoderblock_{i}/{rest}");
            for norm in ["LayerNorm_0", "LayerNorm_1"] {
                all.extend(["scale", "bias"].map(|part| (block(&format!("{norm}/{part}")), vec![WIDTH])));
            }
            let attention = |rest: &str| block(&format!("MultiHeadDotProductAttention_0/{rest}"));
            for which in ["query", "key", "value"] {
                all.push((attention(&format!("{which}/kernel")), vec![WIDTH, HEADS, HEAD]));
                all.push((attention(&format!("{which}/bias")), vec![HEADS, HEAD]));
            }
            all.push((attention("out/kernel"), vec![HEADS, HEAD, WIDTH]));
            all.push((attention("out/bias"), vec![WIDTH]));
            for (dense, [from, to]) in [("Dense_0", [WIDTH, HIDDEN]), ("Dense_1", [HIDDEN, WIDTH])] {
                all.push((block(&format!("MlpBlock_0/{dense}/kernel")), vec![from, to]));
                all.push((block(&format!("MlpBlock_0/{dense}/bias")), vec![to]));
            }
        }
        Scenic(all.into_iter().collect())
    }

    fn get(&self, name: &str) -> Vec<f64> {
        numbers(name, &self.0[name])
    }

    /// `x·kernel + bias`.
    fn dense(&self, name: &str, x: &[f64]) -> Vec<f64> {
        let (kernel, bias) = (self.get(&format!("{name}/kernel")), self.get(&format!("{name}/bias")));
        let term = |j: usize| x.iter().enumerate().map(|(i, x)| x * kernel[i * bias.len() + j]).sum::<f64>();
        (0..bias.len()).map(|j| bias[j] + term(j)).collect()
    }

    fn norm(&self, name: &str, x: &[f64]) -> Vec<f64> {
        let (scale, bias) = (self.get(&format!("{name}/scale")), self.get(&format!("{name}/bias")));
        let n = x.len() as f64;
        let mean = x.iter().sum::<f64>() / n;
        let variance = x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n;
        x.iter().enumerate().map(|(i, x)| (x - mean) / (variance + f64::from(1e-6f32)).sqrt() * scale[i] + bias[i]).collect()
    }
}

impl TensorFile for Scenic {
    fn shapes(&self) -> BTreeMap<String, Vec<usize>> {
        self.0.clone()
    }

    fn load(&self, name: &str, device: &Device) -> Result<Tensor> {
        let values: Vec<f32> = self.get(name).into_iter().map(|x| x as f32).collect();
        Tensor::from_f32(device, DType::F32, &self.0[name], &values)
    }
}

fn gelu(x: f64) -> f64 {
    0.5 * x * (1.0 + ((2.0 / PI).sqrt() * (x + 0.044715 * x.powi(3))).tanh())
}

fn pixels() -> Vec<f64> {
    numbers("video", &[FRAMES, SIDE, SIDE, 3])
}

/// The logits of one clip, by the definition.
fn plain(file: &Scenic) -> Vec<f64> {
    let ([_, h, w], video, embedding) = (GRID, pixels(), file.get("embedding/kernel"));
    let (bias, position) = (file.get("embedding/bias"), file.get("Transformer/posembed_input/pos_embedding"));
    let place = |token: usize| [token / (h * w), token / w % h, token % w];
    let tokens = GRID.iter().product::<usize>();
    let embed = |token: usize, c: usize| {
        let mut sum = bias[c] + position[token * WIDTH + c];
        for i in 0..TUBE.iter().product::<usize>() * 3 {
            let tap = [i / 3 / TUBE[2] / TUBE[1], i / 3 / TUBE[2] % TUBE[1], i / 3 % TUBE[2]];
            let [t, y, x] = [0, 1, 2].map(|axis| place(token)[axis] * TUBE[axis] + tap[axis]);
            sum += video[((t * SIDE + y) * SIDE + x) * 3 + i % 3] * embedding[i * WIDTH + c];
        }
        sum
    };
    let mut x: Vec<Vec<f64>> = (0..tokens).map(|token| (0..WIDTH).map(|c| embed(token, c)).collect()).collect();
    for i in 0..LAYERS {
        let block = |rest: &str| format!("Transformer/encoderblock_{i}/{rest}");
        let normed: Vec<_> = x.iter().map(|x| file.norm(&block("LayerNorm_0"), x)).collect();
        let [q, k, v] = ["query", "key", "value"].map(|which| {
            let name = block(&format!("MultiHeadDotProductAttention_0/{which}"));
            normed.iter().map(|x| file.dense(&name, x)).collect::<Vec<_>>()
        });
        let mixed = |token: usize| -> Vec<f64> {
            let channel = |c: usize| {
                let head = c / HEAD;
                // The first half of the heads sees the same place at all times, the second half all places at this time.
                let sees = |other: usize| match head < HEADS / 2 {
                    true => place(token)[1..] == place(other)[1..],
                    false => place(token)[0] == place(other)[0],
                };
                let score = |other: usize| -> f64 {
                    let products = (head * HEAD..(head + 1) * HEAD).map(|c| q[token][c] * k[other][c]);
                    // The operation's factor is an f32.
                    (products.sum::<f64>() * f64::from((HEAD as f32).sqrt().recip())).exp()
                };
                let seen: Vec<usize> = (0..tokens).filter(|&other| sees(other)).collect();
                let total: f64 = seen.iter().map(|&other| score(other)).sum();
                seen.iter().map(|&other| score(other) / total * v[other][c]).sum::<f64>()
            };
            (0..WIDTH).map(channel).collect()
        };
        let attended: Vec<_> = (0..tokens).map(mixed).collect();
        for (x, mixed) in x.iter_mut().zip(&attended) {
            let added = file.dense(&block("MultiHeadDotProductAttention_0/out"), mixed);
            x.iter_mut().zip(added).for_each(|(x, added)| *x += added);
            let hidden = file.dense(&block("MlpBlock_0/Dense_0"), &file.norm(&block("LayerNorm_1"), x));
            let added = file.dense(&block("MlpBlock_0/Dense_1"), &hidden.into_iter().map(gelu).collect::<Vec<_>>());
            x.iter_mut().zip(added).for_each(|(x, added)| *x += added);
        }
    }
    let last: Vec<_> = x.iter().map(|x| file.norm("Transformer/encoder_norm", x)).collect();
    let mean: Vec<f64> = (0..WIDTH).map(|c| last.iter().map(|x| x[c]).sum::<f64>() / tokens as f64).collect();
    file.dense("output_projection", &mean)
}

#[test]
fn scenics_checkpoints_load_and_give_the_logits_of_the_definition() {
    let (file, config) = (Scenic::new(), config(HEADS, false));
    let naming = config.naming(&file, None).unwrap();
    assert_eq!(naming.name(), "scenic");
    let expected = plain(&file);
    for (device, dtype, tolerance) in [(Device::reference(), DType::F64, 1e-12), (Device::cpu().unwrap(), DType::F32, 1e-5)] {
        // Every tensor of the file is taken, or it would be listed as unexpected.
        let model = config.with_naming(&device, dtype, &file, &*naming).unwrap();
        let video: Vec<f32> = pixels().into_iter().map(|x| x as f32).collect();
        let video = Tensor::from_f32(&device, dtype, &[1, FRAMES, SIDE, SIDE, 3], &video).unwrap();
        let logits = model.forward(&video, &mut Pass::inference()).unwrap().to_f64_vec().unwrap();
        assert_eq!(logits.len(), expected.len());
        for (a, b) in logits.iter().zip(&expected) {
            assert!((a - b).abs() < tolerance, "{dtype}: {logits:?}, expected {expected:?}");
        }
    }
}

/// scenic's fields mean this configuration.
#[test]
fn scenics_fields_are_understood() {
    let fields = serde_json::json!({
        "attention_config": { "type": "factorized_dot_product_attention" },
        "patch_size_hwt": [TUBE[1], TUBE[2], TUBE[0]], "num_layers": LAYERS, "num_heads": HEADS, "mlp_dim": HIDDEN,
        "hidden_size": WIDTH, "num_classes": CLASSES, "classifier": "gap",
    });
    let input = [1, FRAMES, SIDE, SIDE, 3];
    let found = Config::from_official("ViViT (scenic)", &fields, &input).unwrap().unwrap();
    assert_eq!(found, config(HEADS, false));
}

#[test]
fn what_cannot_be_split_is_refused() {
    let refusal = |config: Config| {
        let built = config.build(&mut Params::empty(&Device::meter(), DType::F32));
        built.err().map(|error| error.to_string()).unwrap_or_default()
    };
    assert!(refusal(config(1, false)).contains("their number is odd"));
    assert!(refusal(config(HEADS, true)).contains("no class token"));
}

#[cfg(feature = "train")]
mod gradients {
    use tubelet_autograd::{GradientCheck, gradcheck};

    use super::*;

    /// Scenic's tensors, but for some of our own names.
    struct Given<'a> {
        tensors: BTreeMap<&'static str, Tensor>,
        others: &'a dyn Naming,
    }

    impl Naming for Given<'_> {
        fn name(&self) -> &'static str {
            "given"
        }

        fn translate(&self, name: &str, shape: &[usize], file: &mut Reader<'_>) -> Result<Option<Tensor>> {
            match self.tensors.get(name) {
                Some(tensor) => Ok(Some(tensor.clone())),
                None => self.others.translate(name, shape, file),
            }
        }
    }

    #[test]
    fn gradients_are_those_of_finite_differences() {
        let (file, config, device) = (Scenic::new(), config(HEADS, false), Device::reference());
        let naming = config.naming(&file, None).unwrap();
        let names = ["spatial.blocks.0.attn.qkv.weight", "spatial.blocks.1.attn.proj.weight", "spatial.pos_embed"];
        let shapes: [&[usize]; 3] = [&[3 * WIDTH, WIDTH], &[WIDTH, WIDTH], &[1, 1, 8, WIDTH]];
        let value = |i: usize| Tensor::from_slice(&device, shapes[i], &numbers(names[i], shapes[i])).unwrap();
        let video = Tensor::from_slice(&device, &[1, FRAMES, SIDE, SIDE, 3], &pixels()).unwrap();
        let logits = |inputs: &[Tensor]| {
            let given = Given { tensors: names.into_iter().zip(inputs.iter().cloned()).collect(), others: &*naming };
            let mut params = Params::from_file(&device, DType::F64, &file, &given).without_preparing();
            config.build(&mut params)?.forward(&video, &mut Pass::inference())
        };
        gradcheck(GradientCheck::default(), &[0, 1, 2].map(value), logits).unwrap();
    }
}
