//! The papers' tables, beside the same figures from the meter.

use serde::Serialize;
use tubelet_engine::{DType, Error, Result};

use super::{Report, measure};
use crate::{
    registry::Config,
    uniformerv2::UniformerV2Config,
    vidtr::{Pool, VidTrConfig},
};

/// One table.
#[derive(Clone, Debug, Serialize)]
pub struct Section {
    /// Paper and table.
    pub title: &'static str,
    /// Its rows.
    pub rows: Vec<Row>,
}

/// One figure.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// The model and its input.
    pub label: String,
    /// What is counted, with its unit.
    pub figure: &'static str,
    /// The paper's figure, if it gives one.
    pub paper: Option<f64>,
    /// The meter's.
    pub ours: f64,
    /// Decimals worth printing.
    pub decimals: usize,
    /// How far apart the paper's rounding alone can put the two, as a part: half a unit of its last digit.
    pub rounding: f64,
    /// Where and why the two differ.
    pub note: String,
}

const GMAC: &str = "GMAC per view";
const TMAC: &str = "TMAC of all views";
const PARAMETERS: &str = "M parameters";

fn row(label: &str, figure: &'static str, paper: f64, ours: f64, unit: f64, note: &str) -> Row {
    let decimals = if ours < 10.0 { 2 } else { 1 };
    let (label, note) = (label.to_owned(), note.to_owned());
    Row { label, figure, paper: Some(paper), ours, decimals, rounding: unit / 2.0 / paper, note }
}

fn report(config: &Config) -> Result<Report> {
    measure(config, 1, DType::F32)
}

fn preset(name: &str) -> Result<Report> {
    report(&Config::named(name)?)
}

fn giga(report: &Report) -> f64 {
    report.macs() as f64 / 1e9
}

fn millions(report: &Report) -> f64 {
    report.parameters as f64 / 1e6
}

/// Every table.
pub fn sections() -> Result<Vec<Section>> {
    Ok(vec![
        uniformerv2()?,
        uniformerv2_parts()?,
        vivit()?,
        vivit_quoted()?,
        tubevit()?,
        tubevit_tubes()?,
        vidtr()?,
        vidtr_patches()?,
        vidtr_backbones()?,
        vidtr_pooling()?,
    ])
}

fn uniformerv2() -> Result<Section> {
    // Preset, frames × crops × clips as printed, views, parameters, TMAC, unit of the printed TMAC.
    let printed = [
        ("uniformerv2-b16-k400", "B/16 8×3×1", 3.0, 115.0, 0.4, 0.1),
        ("uniformerv2-b16-mit", "B/16 8×3×4", 12.0, 115.0, 1.8, 0.1),
        ("uniformerv2-l14-k400-8", "L/14 8×3×1", 3.0, 354.0, 2.0, 0.1),
        ("uniformerv2-l14-k400-8", "L/14 8×3×4", 12.0, 354.0, 8.0, 0.1),
        ("uniformerv2-l14-k400-32", "L/14 32×3×2", 6.0, 354.0, 16.0, 0.1),
        ("uniformerv2-l14-336-k400-32", "L/14@336 32×3×2", 6.0, 354.0, 37.6, 0.1),
        ("uniformerv2-l14-336-k400-64", "L/14@336 64×3×2", 6.0, 354.0, 75.3, 0.1),
        ("uniformerv2-l14-336-mit-8", "L/14@336 8×3×4", 12.0, 354.0, 18.8, 0.1),
        ("uniformerv2-b16-ssv2-16", "B/16 SSv2 16×3×1", 3.0, 163.0, 0.6, 0.1),
        ("uniformerv2-b16-ssv2-32", "B/16 SSv2 32×3×1", 3.0, 163.0, 1.1, 0.1),
        ("uniformerv2-l14-ssv2-16", "L/14 SSv2 16×3×1", 3.0, 574.0, 2.6, 0.1),
        ("uniformerv2-l14-ssv2-32", "L/14 SSv2 32×3×1", 3.0, 574.0, 5.2, 0.1),
    ];
    let mut rows = Vec::new();
    for (name, label, views, parameters, tmac, unit) in printed {
        let report = preset(name)?;
        let note = if label == "B/16 8×3×4" { "the Kinetics table prints 1.6, four times a rounded 0.4" } else { "" };
        rows.push(row(label, PARAMETERS, parameters, millions(&report), 1.0, ""));
        rows.push(row(label, TMAC, tmac, views * giga(&report) / 1e3, unit, note));
    }
    Ok(Section { title: "UniFormerV2, tables 5 to 12 (its FLOPs are multiply-adds)", rows })
}

fn uniformerv2_parts() -> Result<Section> {
    let Config::UniformerV2(local) = Config::named("uniformerv2-b16-ssv2-16")? else {
        return Err(Error::invalid("preset", "uniformerv2-b16-ssv2-16 is another system"));
    };
    let base = |global: usize, locals: usize, downsample: bool| {
        let mut config = UniformerV2Config { local: locals, temporal_downsample: downsample, ..local.clone() };
        config.global_layers = (config.layers - global..config.layers).collect();
        config.input.frames = if downsample { 16 } else { 8 };
        report(&Config::UniformerV2(config))
    };
    let rows = [
        ("neither", base(0, 0, false)?, 141.0),
        ("global blocks in 4 layers", base(4, 0, false)?, 148.0),
        ("local blocks", base(0, 2, false)?, 170.0),
        ("both, global in 8 layers", base(8, 2, false)?, 186.0),
        ("and downsampling of 16 frames", base(8, 2, true)?, 187.0),
    ];
    let rows = rows.iter().map(|(label, report, paper)| row(label, GMAC, *paper, giga(report), 1.0, "")).collect();
    Ok(Section { title: "UniFormerV2, table 1 (B/16, 8 time steps)", rows })
}

fn vivit() -> Result<Section> {
    let note = "the paper counts some work beside products";
    let mut rows = Vec::new();
    for (name, label, parameters, gmac, unit) in [
        ("vivit-b-joint", "B/16x2 joint (model 1)", Some(88.9), 455.2, 0.1),
        ("vivit-b-fe", "B/16x2 factorised encoder", Some(115.1), 284.4, 0.1),
        ("vivit-b-dot-product", "B/16x2 factorised dot-product attention (model 4)", Some(88.9), 277.1, 0.1),
        ("vivit-b-average", "B/16x2 mean over time", Some(86.7), 283.9, 0.1),
        ("vivit-l-fe", "L/16x2 factorised encoder, 24 temporal layers", None, 995.3, 0.1),
        ("vivit-l-fe-128", "the same with 128 frames", None, 3980.4, 0.1),
        ("vivit-l-joint", "L/16x2 joint at 224 pixels", None, 1446.0, 1.0),
        ("vivit-l-joint-288", "L/16x2 joint at 288 pixels", None, 2919.0, 1.0),
        ("vivit-l-joint-320", "L/16x2 joint at 320 pixels", None, 3992.0, 1.0),
    ] {
        let report = preset(name)?;
        if let Some(parameters) = parameters {
            rows.push(row(label, PARAMETERS, parameters, millions(&report), 0.1, ""));
        }
        rows.push(row(label, GMAC, gmac, giga(&report), unit, note));
    }
    rows.push(row("H/14x2 joint, 4×3 views", TMAC, 47.77, 12.0 * giga(&preset("vivit-h14-joint")?) / 1e3, 0.01, note));
    Ok(Section { title: "ViViT, tables 2, 4 and 6 (its FLOPs are multiply-adds)", rows })
}

fn vivit_quoted() -> Result<Section> {
    let long = preset("vivit-l-fe-128")?;
    let rows = vec![
        row("L/16x2 factorised encoder", PARAMETERS, 612.0, millions(&long), 1.0, "UniFormerV2, tables 10 and 11"),
        row(
            "the same, three crops",
            TMAC,
            11.9,
            3.0 * giga(&long) / 1e3,
            0.1,
            "UniFormerV2 and TubeViT, which write 32 frames; 128 give the figure",
        ),
        row(
            "ViViT-g",
            PARAMETERS,
            1500.0,
            millions(&preset("sfa-vivit-g-48")?),
            100.0,
            "SFA, section 4.7; its layers and widths make 1013 of the image model, and the paper leaves L_t open (4 here)",
        ),
    ];
    Ok(Section { title: "ViViT, as other papers quote it", rows })
}

fn tubevit() -> Result<Section> {
    let tokens = preset("tubevit-b")?.tokens;
    let mut rows = vec![Row {
        label: "tokens at 32×224×224".into(),
        figure: "tokens",
        paper: Some(559.0),
        ours: tokens as f64,
        decimals: 0,
        rounding: 0.0,
        note: "every grid is 7×7 or 14×14, so every sum is a multiple of 49; 559 = 11·49 + 20 is not derivable".into(),
    }];
    for (size, parameters, tflops) in [("b", 90.0, 0.87), ("l", 311.0, 9.53), ("h", 635.0, 17.64)] {
        let name = format!("tubevit-{size}");
        let (short, long) = (preset(&name)?, preset(&format!("{name}-64"))?);
        let label = format!("TubeViT-{}", size.to_uppercase());
        rows.push(row(
            &label,
            PARAMETERS,
            parameters,
            millions(&short),
            1.0,
            "the paper adds its tubes to an ImageNet ViT's total",
        ));
        let note = "unexplained: B fits neither count, L and H lie near twice ours at 64 frames";
        rows.push(row(&format!("{label}, 32 frames"), GMAC, tflops * 1e3 / 12.0, giga(&short), 1.0, note));
        rows.push(row(&format!("{label}, 64 frames"), GMAC, tflops * 1e3 / 12.0, giga(&long), 1.0, note));
    }
    Ok(Section { title: "TubeViT, table 1 (per view: a twelfth of the printed FLOPs)", rows })
}

fn tubevit_tubes() -> Result<Section> {
    let printed = [
        ("tubevit-b-core", "two tubes (section 3.4), table 7b", 71.0),
        ("tubevit-b", "four tubes, table 7b", 72.0),
        ("tubevit-b-s2d-2t", "space-to-depth ×2 in time, table 7c", 72.0),
        ("tubevit-b-s2d-2s", "×2 in space", 72.0),
        ("tubevit-b-s2d-4t", "×4 in time", 72.0),
        ("tubevit-b-s2d-4s", "×4 in space", 72.0),
        ("tubevit-b-s2d-4st", "×4 in time and space", 72.0),
    ];
    let note = "unexplained, as in table 1; which tubes these are the paper does not say";
    let rows = printed.map(|(name, label, paper)| Ok(row(label, GMAC, paper, giga(&preset(name)?), 1.0, note)));
    Ok(Section { title: "TubeViT, tables 7b and 7c (B, 32 frames)", rows: rows.into_iter().collect::<Result<_>>()? })
}

/// What the paper's counter saw: the stem and the MLPs' linear layers, no class tokens, no projections, no attention.
fn counted(config: &VidTrConfig) -> f64 {
    let [t, h, w] = config.grid();
    let (places, width) = (h * w, config.width);
    let stem = t * places * 3 * config.patch.iter().product::<usize>() * width;
    let mut frames = t;
    let mlps: usize = (0..config.layers)
        .map(|i| {
            frames = config.pools.iter().find(|pool| pool.layer == i).map_or(frames, |pool| pool.keep);
            let class = usize::from(!config.pools.is_empty());
            2 * (frames * places + class) * width * config.hidden
        })
        .sum();
    (stem + mlps) as f64 / 1e9
}

fn vidtr_config(name: &str) -> Result<VidTrConfig> {
    match Config::named(name)? {
        Config::VidTr(config) => Ok(config),
        _ => Err(Error::invalid("preset", format!("{name} is another system"))),
    }
}

fn vidtr() -> Result<Section> {
    let as_counted = "as the paper counted: stem and MLPs, without projections, attention and class tokens";
    let full = "in full";
    let mut rows = Vec::new();
    for (name, label, paper, note) in [
        ("vidtr-s", "VidTr-S", 89.0, as_counted),
        ("vidtr-m", "VidTr-M", 179.0, as_counted),
        ("vidtr-l", "VidTr-L", 351.0, "as counted; the paper's figure is 2% lower, unexplained"),
        ("vidtr-s-joint", "vanilla, 8 frames (table 2)", 89.0, as_counted),
        ("c-vidtr-s", "C-VidTr-S, layers 1, 3, 5", 39.0, as_counted),
        (
            "c-vidtr-s-paper",
            "C-VidTr-S, layers 1, 2, 4 as printed",
            39.0,
            "as counted; the released layers 1, 3, 5 give the figure",
        ),
        ("c-vidtr-m", "C-VidTr-M, layers 1, 2, 4", 59.0, "as counted; 59.3 if the MLP ran before pooling"),
    ] {
        let config = vidtr_config(name)?;
        rows.push(row(label, GMAC, paper, counted(&config), 1.0, note));
        rows.push(row(label, GMAC, paper, giga(&report(&Config::VidTr(config))?), 1.0, full));
    }
    Ok(Section { title: "VidTr, table 1: the published FLOPs are an undercount", rows })
}

fn vidtr_patches() -> Result<Section> {
    let printed = [
        ("vidtr-s-patch-4x16", "patches of 4×16×16", 23.0, ""),
        ("vidtr-s-patch-2x16", "patches of 2×16×16", 45.0, ""),
        ("vidtr-s", "patches of 1×16×16", 89.0, ""),
        ("vidtr-s-patch-1x32", "patches of 1×32×32", 21.0, "unexplained"),
    ];
    let rows = printed.map(|(name, label, paper, note)| {
        let config = vidtr_config(name)?;
        Ok(row(label, GMAC, paper, counted(&config), 1.0, note))
    });
    let rows = rows.into_iter().collect::<Result<_>>()?;
    Ok(Section { title: "VidTr, table 5a (as the paper counted)", rows })
}

fn vidtr_backbones() -> Result<Section> {
    let printed = [
        ("vidtr-s", "from ViT-B", 89.0, ""),
        ("vidtr-s-vit-l", "from ViT-L", 358.0, "unexplained: 8/9 of it by the count that fits ViT-B"),
    ];
    let rows = printed.map(|(name, label, paper, note)| {
        let config = vidtr_config(name)?;
        Ok(row(label, GMAC, paper, counted(&config), 1.0, note))
    });
    let mut rows = rows.into_iter().collect::<Result<Vec<_>>>()?;
    for (name, label) in
        [("vidtr-s-t2t-14", "from T2T-ViT-14"), ("vidtr-s-t2t-19", "from T2T-ViT-19"), ("vidtr-s-t2t-24", "from T2T-ViT-24")]
    {
        let note = "which T2T-ViT, and how it makes tokens of a video, is not said";
        rows.push(row(label, GMAC, 34.0, counted(&vidtr_config(name)?), 1.0, note));
    }
    Ok(Section { title: "VidTr, table 5c (as the paper counted)", rows })
}

fn vidtr_pooling() -> Result<Section> {
    let base = vidtr_config("c-vidtr-s")?;
    let printed = [
        (0, 2, 26.0, ""),
        (1, 3, 32.0, ""),
        (2, 4, 47.0, "unexplained"),
        (6, 8, 60.0, ""),
        (1, 2, 30.0, ""),
        (1, 4, 33.0, "unexplained"),
        (1, 5, 34.0, "unexplained"),
    ];
    let rows = printed.map(|(first, second, paper, note)| {
        let pools = vec![Pool { layer: first, keep: 4 }, Pool { layer: second, keep: 2 }];
        let config = VidTrConfig { pools, ..base.clone() };
        row(&format!("pooling to 4 and 2 in layers {first} and {second}"), GMAC, paper, counted(&config), 1.0, note)
    });
    Ok(Section { title: "VidTr, tables 5e and 5f (as the paper counted)", rows: rows.into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Within 1% of the paper, or within the paper's own rounding.
    fn agrees(section: &Section) {
        for row in &section.rows {
            let Some(paper) = row.paper else { continue };
            let off = (row.ours / paper - 1.0).abs();
            assert!(off <= row.rounding.max(0.01), "{} {}: ours {}, paper {paper}", row.label, row.figure, row.ours);
        }
    }

    #[test]
    fn uniformerv2_and_vivit_agree_on_every_row() {
        agrees(&uniformerv2().unwrap());
        agrees(&uniformerv2_parts().unwrap());
        agrees(&vivit().unwrap());
        let mut quoted = vivit_quoted().unwrap();
        quoted.rows.retain(|row| row.label != "ViViT-g");
        assert_eq!(quoted.rows.len(), 2);
        agrees(&quoted);
    }

    #[test]
    fn vidtr_agrees_where_the_counter_is_understood() {
        let mut section = vidtr().unwrap();
        section.rows.retain(|row| row.note.starts_with("as the paper counted"));
        assert_eq!(section.rows.len(), 4);
        section.rows.iter_mut().for_each(|row| row.rounding = row.rounding.max(0.03));
        agrees(&section);
        // The full counts, against an independent count by hand (specification, section 9.3).
        for (name, gmac) in [("vidtr-s", 158.2), ("vidtr-m", 299.5), ("vidtr-l", 583.4), ("c-vidtr-s", 64.6), ("c-vidtr-m", 77.2)]
        {
            let ours = giga(&preset(name).unwrap());
            assert!((ours / gmac - 1.0).abs() < 0.01, "{name}: {ours}");
        }
    }

    #[test]
    fn patches_of_vidtr_agree_where_the_counter_is_understood() {
        let mut section = vidtr_patches().unwrap();
        section.rows.retain(|row| row.note.is_empty());
        assert_eq!(section.rows.len(), 3);
        agrees(&section);
    }

    #[test]
    fn tubevit_has_539_tokens() {
        assert_eq!(preset("tubevit-b").unwrap().tokens, 539);
        assert_eq!(preset("tubevit-b-64").unwrap().tokens, 1176);
        assert_eq!(preset("tubevit-charades").unwrap().clip, [128, 224, 224]);
        for (name, gmac) in [("tubevit-b", 51.6), ("tubevit-l", 177.6), ("tubevit-h", 363.7), ("tubevit-b-64", 126.3)] {
            let ours = giga(&preset(name).unwrap());
            assert!((ours / gmac - 1.0).abs() < 0.01, "{name}: {ours}");
        }
    }
}
