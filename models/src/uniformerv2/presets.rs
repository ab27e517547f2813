//! The official configurations.

use super::{Backbone, Fusion, LocalKind, UniformerV2Config};
use crate::model::{Dataset, Input};

/// `(name, about, configuration)` of every official configuration, and a tiny one.
pub fn presets() -> Vec<(String, String, UniformerV2Config)> {
    let mut all = Vec::new();
    let mut push = |name: &str, about: &str, config| all.push((name.to_owned(), about.to_owned(), config));
    for (set, classes) in [("k400", 400), ("k600", 600), ("k700", 700), ("k710", 710), ("mit", 339)] {
        push(&format!("uniformerv2-b16-{set}"), "B/16, 8 frames, global blocks in 4 layers", base(8, classes));
        for frames in [8, 16, 32] {
            let name = format!("uniformerv2-l14-{set}-{frames}");
            push(&name, &format!("L/14, {frames} frames, global blocks in 4 layers"), large(frames, 224, classes));
        }
        for frames in [8, 32, 64] {
            let config = large(frames, 336, classes);
            push(&format!("uniformerv2-l14-336-{set}-{frames}"), &format!("L/14 at 336 pixels, {frames} frames"), config.clone());
            let name = format!("uniformerv2-l14-336-{set}-{frames}-frozen");
            push(&name, "the same with a frozen backbone", UniformerV2Config { frozen: true, ..config });
        }
    }
    for frames in [16, 32] {
        for (set, classes) in [("ssv1", 174), ("ssv2", 174)] {
            let about = format!("{frames} frames, stem with stride 2, local blocks, global blocks in");
            push(&format!("uniformerv2-b16-{set}-{frames}"), &format!("B/16, {about} 8 layers"), local(base(frames, classes), 8));
            push(
                &format!("uniformerv2-l14-{set}-{frames}"),
                &format!("L/14, {about} 16 layers"),
                local(large(frames, 224, classes), 16),
            );
        }
        for (set, classes) in [("anet", 200), ("hacs", 200)] {
            push(&format!("uniformerv2-l14-{set}-{frames}"), &format!("L/14, {frames} frames"), large(frames, 224, classes));
        }
    }
    for (name, about, config) in ablations() {
        push(&format!("uniformerv2-b16-{name}"), about, config);
    }
    push("uniformerv2-tiny", "for tests: 32 pixels, 4 frames, 2 layers", tiny());
    all
}

/// What tables 2 to 5 compare with, on Something-Something V2 and, where they name it, Kinetics-400.
fn ablations() -> Vec<(String, &'static str, UniformerV2Config)> {
    let mut all: Vec<(String, &'static str, UniformerV2Config)> = Vec::new();
    let (k400, ssv2) = (base(8, 400), local(base(16, 174), 8));
    let mut push = |name: &str, about, change: &dyn Fn(&mut UniformerV2Config)| {
        let mut config = if name.starts_with("k400") { k400.clone() } else { ssv2.clone() };
        change(&mut config);
        all.push((name.to_owned(), about, config));
    };
    push("ssv2-16-st-adapter", "ST-Adapters for local blocks, table 2a", &|c| {
        (c.local, c.local_kind) = (1, LocalKind::StAdapter)
    });
    push("ssv2-16-temporal-attention", "attention over time for local blocks, table 2a", &|c| {
        (c.local, c.local_kind) = (1, LocalKind::TemporalAttention)
    });
    push("ssv2-16-temporal-convolution", "convolutions over time for local blocks, table 2a", &|c| {
        (c.local, c.local_kind) = (1, LocalKind::TemporalConvolution)
    });
    push("k400-k600-k700", "trained on three Kinetics sets at once, a head each, table 6", &|c| {
        c.also =
            [("kinetics600", 600), ("kinetics700", 700)].map(|(name, classes)| Dataset { name: name.into(), classes }).into();
    });
    push("ssv2-16-one-local", "one local block in each layer, table 2a", &|c| c.local = 1);
    push("ssv2-16-local-dpe", "one, after a position encoding, table 2a", &|c| (c.local, c.local_dpe) = (1, true));
    for last in [4, 8] {
        let name = format!("ssv2-16-local-1-{last}");
        push(&name, "local blocks in the first layers alone, table 2b", &|c| c.local_layers = Some((0..last).collect()));
    }
    for reduction in [4, 2, 1] {
        let name = format!("ssv2-16-reduction-{reduction}");
        push(&name, "another width of the local blocks, table 2b", &|c| c.local_reduction = f64::from(reduction));
    }
    for (set, firsts) in [("k400", [1, 5]), ("ssv2-16", [1, 9])] {
        push(&format!("{set}-global-9-12-no-dpe"), "global blocks in 4 layers without position encoding, table 3", &|c| {
            (c.global_layers, c.dpe) = ((8..12).collect(), false);
        });
        for first in firsts {
            let name = format!("{set}-global-{first}-12");
            push(&name, "global blocks in other layers, table 3", &|c| c.global_layers = (first - 1..12).collect());
        }
        for (name, about, backbone) in [
            ("vit", "on a plain ViT: of ImageNet-21k, DINO or MAE, table 5", Backbone::VIT),
            ("deit3", "on DeiT III, table 5", Backbone::DEIT3),
            ("beit", "on BEiT, table 5", Backbone::BEIT),
        ] {
            push(&format!("{set}-{name}"), about, &|c| c.backbone = backbone);
        }
    }
    for queries in [4, 16] {
        push(&format!("ssv2-16-queries-{queries}"), "several queries in the global blocks, table 4", &|c| c.queries = queries);
    }
    for (name, fusion) in
        [("parallel", Fusion::Parallel), ("hierarchical-kv", Fusion::HierarchicalKv), ("hierarchical-q", Fusion::HierarchicalQ)]
    {
        push(&format!("ssv2-16-{name}"), "another fusion of the video tokens, table 4", &|c| c.fusion = fusion);
    }
    all
}

fn base(frames: usize, classes: usize) -> UniformerV2Config {
    UniformerV2Config {
        input: Input::new(frames, [224, 224], Input::UNIFORMER),
        patch: 16,
        width: 768,
        layers: 12,
        heads: 12,
        backbone: Backbone::CLIP,
        temporal_downsample: false,
        temporal_kernel: 3,
        local: 0,
        local_reduction: 1.5,
        local_layers: None,
        local_kind: LocalKind::Mhra,
        local_dpe: false,
        global_layers: (8..12).collect(),
        global_heads: 12,
        global_mlp: 4.0,
        dpe: true,
        queries: 1,
        fusion: Fusion::Sequential,
        frozen: false,
        classes,
        also: Vec::new(),
    }
}

fn large(frames: usize, size: usize, classes: usize) -> UniformerV2Config {
    UniformerV2Config {
        input: Input::new(frames, [size, size], Input::UNIFORMER),
        patch: 14,
        width: 1024,
        layers: 24,
        heads: 16,
        global_layers: (20..24).collect(),
        global_heads: 16,
        ..base(frames, classes)
    }
}

/// The Something-Something form: downsampled in time, two local blocks in each layer, global blocks in the last `global`.
fn local(config: UniformerV2Config, global: usize) -> UniformerV2Config {
    let global_layers = (config.layers - global..config.layers).collect();
    UniformerV2Config { temporal_downsample: true, local: 2, global_layers, ..config }
}

fn tiny() -> UniformerV2Config {
    UniformerV2Config {
        input: Input::new(4, [32, 32], Input::UNIFORMER),
        width: 48,
        layers: 2,
        heads: 3,
        local: 1,
        global_layers: vec![0, 1],
        global_heads: 3,
        classes: 10,
        ..base(4, 10)
    }
}
