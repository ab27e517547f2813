//! The models of the paper and of its ablations.

use super::{Centre, Frequencies, Interleaving, Kernels, Late, Position, Tube, TubeVitConfig};
use crate::{
    model::{Activation, Dataset, Input},
    vit,
};

fn tube(kernel: [usize; 3], stride: [usize; 3], offset: [usize; 3]) -> Tube {
    Tube { kernel, stride, offset, space_to_depth: [1; 3] }
}

/// Shapes, strides and offsets of the paper's tubes; the last one is the image patch (table 12).
fn tubes() -> Vec<Tube> {
    vec![
        tube([8, 8, 8], [16, 32, 32], [0, 0, 0]),
        tube([16, 4, 4], [6, 32, 32], [4, 8, 8]),
        tube([4, 12, 12], [16, 32, 32], [0, 16, 16]),
        tube([1, 16, 16], [32, 16, 16], [0, 0, 0]),
    ]
}

/// `(name, about, configuration)`.
pub fn presets() -> Vec<(String, String, TubeVitConfig)> {
    let mut all = Vec::new();
    for size in ["ti", "b", "l", "h"] {
        for frames in [32, 64] {
            let Some(config) = base(size, frames) else { continue };
            let name = if frames == 32 { format!("tubevit-{size}") } else { format!("tubevit-{size}-{frames}") };
            all.push((name.clone(), format!("four tubes, {frames} frames"), config.clone()));
            if size == "h" {
                let late = Some(Late { layer: 26 });
                let about = "image-to-video scaling: tokens once more after layer 26".to_owned();
                all.push((format!("{name}-scaled"), about, TubeVitConfig { late, ..config }));
            }
        }
    }
    if let (Some(b), Some(l), Some(charades)) = (base("b", 32), base("l", 32), base("l", 128)) {
        let one = |name: &str, about: &str, config| (name.to_owned(), about.to_owned(), config);
        all.extend(tube_ablations(&b));
        all.extend(position_ablations(&b));
        all.extend(added_attention(&b));
        all.extend(dense(&l));
        let datasets = [("kinetics600", 600), ("imagenet", 1000)].map(|(name, classes)| Dataset { name: name.into(), classes });
        let joint = TubeVitConfig { datasets: datasets.into(), ..l.clone() };
        all.push(one("tubevit-l-joint", "trained on Kinetics-600 and ImageNet at once, a head each (section 3.5)", joint));
        let ssv2 = vec![Dataset { name: "ssv2".into(), classes: 174 }];
        all.push(one("tubevit-l-ssv2", "Something-Something V2, table 4", TubeVitConfig { datasets: ssv2, ..l }));
        all.push(one("tubevit-charades", "Charades: interpolated kernels of other shapes, 128 frames", for_charades(charades)));
        let shared = TubeVitConfig { kernels: Kernels::Interpolated { size: [8, 8, 8] }, ..b.clone() };
        let third = TubeVitConfig { class_token: true, position: Position::Stored, activation: Activation::GeluErf, ..shared };
        all.push(one("tubevit-b-thirdparty", "as the third-party implementation has it", third));
        all.push(one("tubevit-tiny", "for tests: 32 pixels, 8 frames, 2 layers", tiny(&b)));
    }
    all
}

/// Table 14: `(tube, side of its stride)`; a stride is (16, 16, 16), called iv there, or (32, 32, 32), called v.
const TABLE_14: [&[(char, usize)]; 7] = [
    &[('a', 16), ('b', 32), ('f', 16)],
    &[('c', 16), ('e', 32), ('g', 16)],
    &[('a', 16), ('e', 32), ('g', 16)],
    &[('b', 16), ('e', 32), ('g', 16)],
    &[('a', 16), ('d', 32), ('e', 16), ('h', 32)],
    &[('a', 16), ('b', 32), ('c', 16), ('h', 32)],
    &[('a', 16), ('d', 32), ('e', 16), ('f', 32)],
];

/// The shapes that appendix C calls (a) to (h).
const SHAPES: [[usize; 3]; 8] =
    [[1, 16, 16], [4, 32, 32], [4, 4, 4], [4, 12, 12], [8, 8, 8], [16, 4, 4], [16, 16, 16], [32, 8, 8]];

/// Other tubes: their number (table 7b), space-to-depth (7c), one kernel for all (7e), their shapes (14), and those of a smaller model (9).
fn tube_ablations(base: &TubeVitConfig) -> Vec<(String, String, TubeVitConfig)> {
    let mut all = Vec::new();
    let mut push = |name: &str, about: String, tubes: Vec<Tube>| {
        all.push((format!("tubevit-b-{name}"), about, TubeVitConfig { tubes, ..base.clone() }));
    };
    let [patch, cube] = [[1, 16, 16], [8, 8, 8]].map(|kernel| tube(kernel, [16; 3], [0; 3]));
    push("core", "image patches and 8×8×8 tubes, both at strides of 16 (section 3.4)".into(), vec![cube, patch]);
    let grouped = |factors: [[usize; 3]; 4]| -> Vec<Tube> {
        tubes().into_iter().zip(factors).map(|(tube, space_to_depth)| Tube { space_to_depth, ..tube }).collect()
    };
    let one = [1; 3];
    push("s2d", "with space-to-depth tubes of fewer channels (table 12)".into(), grouped([[2, 1, 1], [1, 2, 2], one, one]));
    // Of the tube whose stride of 6 frames four do not divide the paper does not speak.
    for (name, factor) in [("2t", [2, 1, 1]), ("2s", [1, 2, 1]), ("4t", [4, 1, 1]), ("4s", [1, 2, 2]), ("4st", [2, 2, 1])] {
        let [t, h, w] = factor;
        let about = format!("space-to-depth of {t}×{h}×{w} in the tubes of 8×8×8 and 4×12×12 (table 7c)");
        push(&format!("s2d-{name}"), about, grouped([factor, one, factor, one]));
    }
    for config in TABLE_14 {
        let letters: String = config.iter().map(|(letter, _)| letter).collect();
        let roman = |side: usize| if side == 16 { "iv" } else { "v" };
        let parts: Vec<_> = config.iter().map(|&(letter, side)| format!("({letter}+{})", roman(side))).collect();
        let shape = |letter: char| SHAPES[letter as usize - 'a' as usize];
        let tubes = config.iter().map(|&(letter, side)| tube(shape(letter), [side; 3], [0; 3])).collect();
        push(&format!("tubes-{letters}"), format!("table 14: {}", parts.join(" + ")), tubes);
    }
    // The tubes keep the channels of Ti, 192; four of their tokens make one of B's. The image patches are those of the larger ViT.
    let mut scaled = TubeVitConfig { tubes: grouped([[1, 2, 2], [1, 2, 2], [1, 2, 2], one]), ..base.clone() };
    scaled.late = Some(Late { layer: 7 });
    let about =
        "image-to-video scaling from Ti (table 9): its tubes by space-to-depth, tokens once more before the last 4 layers";
    all.push(("tubevit-b-from-ti".into(), about.into(), scaled));
    let shared = TubeVitConfig { kernels: Kernels::Interpolated { size: [8, 8, 8] }, ..base.clone() };
    all.push(("tubevit-b-interpolated".into(), "one kernel, interpolated (table 7e)".into(), shared));
    all
}

/// Table 7a.
fn position_ablations(base: &TubeVitConfig) -> [(String, String, TubeVitConfig); 4] {
    let without_stride =
        Position::Fixed { frequencies: Frequencies::Geometric, interleaving: Interleaving::ByFrequency, centre: Centre::Index };
    [
        ("none", "without positions (table 7a)", Position::None),
        ("learned", "learned positions (table 7a)", Position::Learned),
        ("relative", "a learned bias for each difference of two tubes' centres (table 7a)", Position::Relative),
        ("no-stride", "fixed positions by the tokens' numbers (table 7a)", without_stride),
    ]
    .map(|(name, about, position)| {
        (format!("tubevit-b-position-{name}"), about.to_owned(), TubeVitConfig { position, ..base.clone() })
    })
}

/// Table 8. Where the layers are added the paper does not say: here, before the first ones.
fn added_attention(base: &TubeVitConfig) -> [(String, String, TubeVitConfig); 4] {
    [1, 2, 4, 8].map(|n| {
        let config = TubeVitConfig { added_attention: (0..n).collect(), ..base.clone() };
        (format!("tubevit-b-added-{n}"), format!("with {n} further attention layers (table 8)"), config)
    })
}

/// What table 5 compares with: every patch of every frame, and every 2×16×16 tubelet.
fn dense(base: &TubeVitConfig) -> [(String, String, TubeVitConfig); 2] {
    [("2d", "dense image patches", [1, 16, 16]), ("3d", "dense tubelets", [2, 16, 16])].map(|(name, about, kernel)| {
        let tubes = vec![tube(kernel, kernel, [0; 3])];
        (format!("tubevit-l-{name}"), format!("{about} instead of tubes (table 5)"), TubeVitConfig { tubes, ..base.clone() })
    })
}

fn for_charades(config: TubeVitConfig) -> TubeVitConfig {
    let mut tubes = config.tubes.clone();
    for (tube, kernel) in tubes.iter_mut().zip([[16, 16, 16], [32, 8, 8], [4, 32, 32], [1, 16, 16]]) {
        tube.kernel = kernel;
    }
    let datasets = vec![Dataset { name: "charades".into(), classes: 157 }];
    TubeVitConfig { tubes, kernels: Kernels::Interpolated { size: [8, 8, 8] }, datasets, ..config }
}

fn base(size: &str, frames: usize) -> Option<TubeVitConfig> {
    let [layers, width, hidden, heads] = vit::size(size)?;
    Some(TubeVitConfig {
        input: Input::new(frames, [224, 224], Input::SYMMETRIC),
        tubes: tubes(),
        kernels: Kernels::Separate,
        position: Position::DEFAULT,
        width,
        layers,
        heads,
        hidden,
        activation: Activation::GeluTanh,
        eps: 1e-6,
        class_token: false,
        representation: None,
        late: None,
        added_attention: Vec::new(),
        datasets: vec![Dataset { name: "kinetics400".into(), classes: 400 }],
    })
}

fn tiny(base: &TubeVitConfig) -> TubeVitConfig {
    TubeVitConfig {
        input: Input::new(8, [32, 32], Input::SYMMETRIC),
        tubes: vec![tube([4, 8, 8], [4, 16, 16], [0; 3]), tube([1, 16, 16], [8, 16, 16], [0; 3])],
        width: 48,
        layers: 2,
        heads: 3,
        hidden: 96,
        datasets: vec![Dataset { name: "test".into(), classes: 10 }],
        ..base.clone()
    }
}
