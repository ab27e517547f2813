//! The models of the paper.

use super::{Dataset, Kernels, Late, Position, Tube, TubeVitConfig};
use crate::{
    model::{Activation, Input},
    vit,
};

/// Shapes, strides and offsets of the paper's tubes; the last one is the image patch.
fn tubes() -> Vec<Tube> {
    let tube = |kernel, stride, offset| Tube { kernel, stride, offset, space_to_depth: [1; 3] };
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
    let mut push = |name: &str, about: &str, config| all.push((name.to_owned(), about.to_owned(), config));
    for size in ["b", "l", "h"] {
        for frames in [32, 64] {
            let Some(config) = base(size, frames) else { continue };
            let name = if frames == 32 { format!("tubevit-{size}") } else { format!("tubevit-{size}-{frames}") };
            push(&name, &format!("four tubes, {frames} frames"), config.clone());
            if size == "h" {
                let late = Some(Late { layer: 26 });
                push(
                    &format!("{name}-scaled"),
                    "image-to-video scaling: tokens once more after layer 26",
                    TubeVitConfig { late, ..config },
                );
            }
        }
    }
    if let Some(config) = base("b", 32) {
        let mut grouped = config.clone();
        grouped.tubes[0].space_to_depth = [2, 1, 1];
        grouped.tubes[1].space_to_depth = [1, 2, 2];
        push("tubevit-b-s2d", "with space-to-depth tubes of fewer channels", grouped);
        let shared = TubeVitConfig { kernels: Kernels::Interpolated { size: [8, 8, 8] }, ..config.clone() };
        push("tubevit-b-interpolated", "one kernel, interpolated", shared.clone());
        let third = TubeVitConfig { class_token: true, position: Position::Stored, activation: Activation::GeluErf, ..shared };
        push("tubevit-b-thirdparty", "as the third-party implementation has it", third);
        push("tubevit-tiny", "for tests: 32 pixels, 8 frames, 2 layers", tiny(&config));
    }
    if let Some(config) = base("l", 128) {
        let mut tubes = config.tubes.clone();
        for (tube, kernel) in tubes.iter_mut().zip([[16, 16, 16], [32, 8, 8], [4, 32, 32], [1, 16, 16]]) {
            tube.kernel = kernel;
        }
        let datasets = vec![Dataset { name: "charades".into(), classes: 157 }];
        let kernels = Kernels::Interpolated { size: [8, 8, 8] };
        push(
            "tubevit-charades",
            "Charades: interpolated kernels of other shapes, 128 frames",
            TubeVitConfig { tubes, kernels, datasets, ..config },
        );
    }
    all
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
        datasets: vec![Dataset { name: "kinetics400".into(), classes: 400 }],
    })
}

fn tiny(base: &TubeVitConfig) -> TubeVitConfig {
    let tube = |kernel, stride| Tube { kernel, stride, offset: [0; 3], space_to_depth: [1; 3] };
    TubeVitConfig {
        input: Input::new(8, [32, 32], Input::SYMMETRIC),
        tubes: vec![tube([4, 8, 8], [4, 16, 16]), tube([1, 16, 16], [8, 16, 16])],
        width: 48,
        layers: 2,
        heads: 3,
        hidden: 96,
        datasets: vec![Dataset { name: "test".into(), classes: 10 }],
        ..base.clone()
    }
}
