//! What the papers claim of training cost and of scaling, beside the same figures from the meter.

use tubelet_engine::{DType, Result};

use super::{
    ADAMW, SGD, measure, measure_training,
    tables::{Row, Section},
};
use crate::registry::Config;

/// Bytes of the paper's TPUs.
const TPU: u64 = 16_000_000_000;
/// What SFA freezes: the tubelet embedding and the spatial encoder.
const SPATIAL: [&str; 2] = ["patch_embed", "spatial"];

/// Every claim that the meter can look at.
///
/// # Errors
/// Of a preset that is gone.
pub fn sections() -> Result<Vec<Section>> {
    Ok(vec![frames_in_memory()?, training_cost()?, separable_memory()?, compact_flops()?, global_block()?, sparse_tubes()?])
}

fn row(label: impl Into<String>, figure: &'static str, paper: Option<f64>, ours: f64, decimals: usize, note: &str) -> Row {
    Row { label: label.into(), figure, paper, ours, decimals, rounding: 0.0, note: note.to_owned() }
}

/// A preset with another number of frames.
fn with_frames(preset: &str, frames: usize) -> Result<Config> {
    let mut config = Config::named(preset)?;
    if let Config::Vivit(vivit) = &mut config {
        vivit.input.frames = frames;
    }
    Ok(config)
}

fn frozen() -> Vec<String> {
    SPATIAL.map(String::from).to_vec()
}

/// SFA, table 4.
fn frames_in_memory() -> Result<Section> {
    const FRAMES: [usize; 12] = [8, 16, 24, 32, 48, 64, 80, 96, 128, 160, 192, 256];
    let most = |preset: &str, freeze: &[String], dtype: DType| -> Result<f64> {
        let mut most = 0;
        for frames in FRAMES {
            if measure_training(&with_frames(preset, frames)?, SGD, 1, dtype, freeze)?.peak_bytes > TPU {
                break;
            }
            most = frames;
        }
        Ok(most as f64)
    };
    let mut rows = Vec::new();
    let note = "SGD with momentum, f32 masters, gradients and velocities (12 bytes a trained parameter), bf16 activations";
    for (size, paper) in [("h", [96.0, 128.0]), ("g", [8.0, 48.0])] {
        let (plain, sfa) = (format!("vivit-{size}-fe"), format!("sfa-vivit-{size}-32"));
        rows.push(row(
            format!("ViViT-{size}, all trained"),
            "frames in 16 GB",
            Some(paper[0]),
            most(&plain, &[], DType::BF16)?,
            0,
            note,
        ));
        rows.push(row(
            format!("SFA-ViViT-{size}"),
            "frames in 16 GB",
            Some(paper[1]),
            most(&sfa, &frozen(), DType::BF16)?,
            0,
            note,
        ));
    }
    Ok(Section { title: "SFA-ViViT, table 4: frames that a training step of one clip takes in 16 GB (tried: 8 … 256)", rows })
}

/// SFA's second stage against training everything.
fn training_cost() -> Result<Section> {
    let mut rows = Vec::new();
    for frames in [8, 16, 32] {
        let all = measure_training(&with_frames("vivit-b-fe", frames)?, ADAMW, 1, DType::F32, &[])?;
        let sfa = measure_training(&with_frames("sfa-vivit-b-32", frames)?, ADAMW, 1, DType::F32, &frozen())?;
        let label = |what: &str| format!("ViViT-B, {frames} frames, {what}");
        rows.push(row(label("all trained"), "GFLOP per step", None, all.flops as f64 / 1e9, 0, ""));
        rows.push(row(
            label("SFA"),
            "GFLOP per step",
            None,
            sfa.flops as f64 / 1e9,
            0,
            "the frozen encoder's forward pass remains",
        ));
        rows.push(row(label("all trained"), "MiB at the peak", None, all.peak_bytes as f64 / f64::from(1 << 20), 0, ""));
        rows.push(row(label("SFA"), "MiB at the peak", None, sfa.peak_bytes as f64 / f64::from(1 << 20), 0, ""));
    }
    Ok(Section {
        title: "SFA-ViViT, section 3: a step of the second stage against one of training everything, batch 1, f32",
        rows,
    })
}

/// VidTr, section 3.2 and table 5b.
fn separable_memory() -> Result<Section> {
    let mut rows = Vec::new();
    let measured = |preset: &str| -> Result<f64> {
        Ok(measure_training(&Config::named(preset)?, ADAMW, 1, DType::F32, &[])?.saved_bytes as f64)
    };
    let (joint, separable) = (measured("vidtr-s-joint")?, measured("vidtr-s")?);
    // Twelve layers of twelve heads; scores and probabilities in f32, as a framework keeps both.
    let matrices = |scores: f64| 12.0 * 12.0 * scores * 2.0 * 4.0;
    let [l, t] = [197.0f64, 9.0];
    let (whole, apart) = (matrices((8.0 * 196.0 + 1.0f64).powi(2)), matrices(l * t * t + t * l * l));
    let mib = f64::from(1 << 20);
    rows.push(row(
        "vanilla, 8 frames",
        "MiB kept for the backward pass",
        None,
        joint / mib,
        0,
        "no matrix of scores is ever stored",
    ));
    rows.push(row(
        "separable, 8 frames",
        "MiB kept for the backward pass",
        None,
        separable / mib,
        0,
        "two attentions a layer, each keeping its result",
    ));
    rows.push(row(
        "vanilla / separable",
        "ratio, here",
        None,
        joint / separable,
        2,
        "what the separation saves is the matrices, which are not there",
    ));
    rows.push(row(
        "vanilla",
        "MiB with the matrices",
        None,
        (joint + whole) / mib,
        0,
        "by arithmetic: 2 matrices of f32 per head and layer",
    ));
    rows.push(row("separable", "MiB with the matrices", None, (separable + apart) / mib, 0, ""));
    rows.push(row("vanilla / separable", "ratio with the matrices", Some(3.3), (joint + whole) / (separable + apart), 2, ""));
    Ok(Section { title: "VidTr, table 5b: training memory of the vanilla and the separable transformer, batch 1, f32", rows })
}

/// C-VidTr.
fn compact_flops() -> Result<Section> {
    let flops = |preset: &str| -> Result<f64> { Ok(measure(&Config::named(preset)?, 1, DType::F32)?.macs() as f64 / 1e9) };
    let mut rows = Vec::new();
    for size in ["s", "m"] {
        let (full, compact) = (flops(&format!("vidtr-{size}"))?, flops(&format!("c-vidtr-{size}"))?);
        let name = size.to_uppercase();
        rows.push(row(format!("VidTr-{name}"), "GMAC", None, full, 1, "in full: both products of attention, all projections"));
        rows.push(row(format!("C-VidTr-{name}"), "GMAC", None, compact, 1, ""));
        rows.push(row(format!("C-VidTr-{name} / VidTr-{name}"), "ratio", None, compact / full, 2, ""));
    }
    Ok(Section { title: "VidTr, section 3.3: FLOPs that topK_std pooling saves", rows })
}

/// UniFormerV2, section 3.2: the cost of one global block over the tokens of a clip.
fn global_block() -> Result<Section> {
    let mut rows = Vec::new();
    let mut first = None;
    for (frames, tokens) in [(1, 196), (2, 392), (4, 784), (8, 1568), (16, 3136), (32, 6272), (64, 12544)] {
        let mut config = Config::named("uniformerv2-b16-k400")?;
        let mut macs = [0.0; 2];
        for (blocks, macs) in macs.iter_mut().enumerate() {
            if let Config::UniformerV2(uniformer) = &mut config {
                uniformer.input.frames = frames;
                uniformer.global_layers = if blocks == 0 { Vec::new() } else { vec![11] };
            }
            *macs = measure(&config, 1, DType::F32)?.macs() as f64 / 1e9;
        }
        let per_token = (macs[1] - macs[0]) * 1e3 / f64::from(tokens);
        let first = *first.get_or_insert(per_token);
        let note = format!("{:.3} of the first row's", per_token / first);
        rows.push(row(format!("{tokens} tokens"), "MMAC per token of a global block", None, per_token, 3, &note));
    }
    Ok(Section { title: "UniFormerV2, section 3.2: a global block costs the same per token, however many there are", rows })
}

/// TubeViT, table 1.
fn sparse_tubes() -> Result<Section> {
    let mut rows = Vec::new();
    for (preset, about) in [("tubevit-b", "sparse tubes"), ("vivit-b-joint", "dense tubelets, joint attention")] {
        let report = measure(&Config::named(preset)?, 1, DType::F32)?;
        rows.push(row(format!("{preset}: {about}"), "tokens", None, report.tokens as f64, 0, ""));
        rows.push(row(format!("{preset}: {about}"), "GMAC", None, report.macs() as f64 / 1e9, 1, ""));
    }
    Ok(Section { title: "TubeViT, section 3: few tokens for a whole clip (its table 1 is in `inspect --tables`)", rows })
}
