//! Data sets as users have them: names of classes, lists, labels, and clips that are left out, by the program.
#![cfg(feature = "cli")]
#![allow(clippy::unwrap_used)]

mod common;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use common::{folder, small};
use serde_json::{Value, json};

/// A clip of 12 frames of one level of grey.
fn y4m(level: u8) -> Vec<u8> {
    let mut y4m = b"YUV4MPEG2 W32 H32 F25:1 C444\n".to_vec();
    for t in 0..12u8 {
        y4m.extend_from_slice(b"FRAME\n");
        y4m.extend((0..32 * 32).map(|p| level.wrapping_add((p as u8).wrapping_mul(t) % 20)));
        y4m.extend([128u8; 2 * 32 * 32]);
    }
    y4m
}

/// Three classes that differ in their level of grey, two clips of each.
fn classes(here: &Path, names: &[(&str, u8)]) {
    for (name, level) in names {
        fs::create_dir_all(here.join(name)).unwrap();
        for i in 0..2 {
            fs::write(here.join(name).join(format!("{i}.y4m")), y4m(*level + 4 * i)).unwrap();
        }
    }
}

const CLASSES: [(&str, u8); 3] = [("dark", 20), ("grey", 110), ("light", 220)];

struct Case {
    here: PathBuf,
    recipe: Value,
}

impl Case {
    /// A recipe for three classes, and a folder of them.
    fn new(name: &str) -> Self {
        let here = folder(name);
        classes(&here.join("train"), &CLASSES);
        let mut recipe = serde_json::to_value(small("vivit")).unwrap();
        recipe["model"]["classes"] = 3.into();
        for field in ["regularisation", "augmentation", "average"] {
            recipe.as_object_mut().unwrap().remove(field);
        }
        recipe["schedule"] = json!({ "kind": "constant" });
        recipe["steps"] = 60.into();
        recipe["data"] = json!({ "kind": "files", "train": here.join("train"), "validation": here.join("train") });
        Case { here, recipe }
    }

    fn run(&self, arguments: &[&str], data: Value) -> Output {
        let mut recipe = self.recipe.clone();
        data.as_object().unwrap().iter().for_each(|(field, value)| recipe["data"][field] = value.clone());
        fs::write(self.here.join("recipe.json"), recipe.to_string()).unwrap();
        Command::new(env!("CARGO_BIN_EXE_tubelet")).args(arguments).current_dir(&self.here).output().unwrap()
    }

    fn trained(name: &str) -> Self {
        let case = Case::new(name);
        let output = case.run(&["train", "recipe.json", "--out", "run"], json!({}));
        assert!(output.status.success(), "{}", text(&output));
        case
    }

    fn evaluate(&self, data: Value) -> Output {
        self.run(&["evaluate", "recipe.json", "--weights", "run/weights.safetensors"], data)
    }
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[track_caller]
fn refused(output: &Output, parts: &[&str]) {
    let text = text(output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(parts.iter().all(|part| text.contains(part)), "{text}");
}

#[track_caller]
fn says(output: &Output, parts: &[&str]) {
    let text = text(output);
    assert!(output.status.success() && parts.iter().all(|part| text.contains(part)), "{text}");
}

#[test]
fn evaluation_matches_classes_by_name_and_lists_by_number() {
    let case = Case::trained("datasets-evaluate");
    says(&case.evaluate(json!({})), &["top-1 100.0%", "on 6 clips", "decoding"]);
    // A part of the classes, and a hidden folder.
    classes(&case.here.join("part"), &CLASSES[1..]);
    classes(&case.here.join("part"), &[(".hidden", 60)]);
    says(&case.evaluate(json!({ "validation": "part" })), &["top-1 100.0%", "on 4 clips", "no folder for the classes dark"]);
    // The names are in the weights: the training folder need not be there.
    says(&case.evaluate(json!({ "train": "gone", "validation": "part" })), &["top-1 100.0%", "on 4 clips"]);
    classes(&case.here.join("other"), &[("dark", 20), ("violet", 90)]);
    refused(&case.evaluate(json!({ "validation": "other" })), &["other", "violet"]);
    refused(&case.evaluate(json!({ "train": "other" })), &["unknown to the weights: violet", "missing here: grey, light"]);
    // Lists.
    let list = |name: &str, content: &[u8]| {
        fs::write(case.here.join(name), content).unwrap();
        case.evaluate(json!({ "validation": name }))
    };
    let marked = b"\xef\xbb\xbftrain/dark/0.y4m 0\n\"train/grey/1.y4m\",1\n# a comment\n#1 light.y4m 2\n";
    fs::write(case.here.join("#1 light.y4m"), y4m(222)).unwrap();
    says(&list("marked.csv", marked), &["top-1 100.0%", "on 3 clips"]);
    let from_1 = list("from-1.txt", b"train/dark/0.y4m 1\ntrain/light/0.y4m 3");
    refused(&from_1, &["from-1.txt, line 2", "label 3, but the model has 3 classes (0 to 2)", "counted from 1"]);
    refused(&list("several.txt", b"train/dark/0.y4m 0;1"), &["several.txt, line 1", "multi_label"]);
    refused(&list("empty.txt", b"\n"), &["empty.txt", "no videos"]);
    says(
        &list("missing.txt", b"train/dark/0.y4m 0\ngone.y4m 1"),
        &["on 1 clips", "1 of 2 files are missing", "gone.y4m (line 2)"],
    );
    let strict = ["evaluate", "recipe.json", "--weights", "run/weights.safetensors", "--strict"];
    refused(&case.run(&strict, json!({ "validation": "missing.txt" })), &["gone.y4m (line 2)"]);
}

#[test]
fn logits_that_are_not_finite_name_clip_view_and_operation() {
    let mut case = Case::new("datasets-overflow");
    // One step so long that parameters leave the range of f16.
    case.recipe["steps"] = 1.into();
    case.recipe["learning_rate"] = 1e5.into();
    says(&case.run(&["train", "recipe.json", "--out", "run"], json!({})), &["weights.safetensors"]);
    let output = case.run(&["evaluate", "recipe.json", "--weights", "run/weights.safetensors", "--dtype", "f16"], json!({}));
    refused(&output, &["train/dark/0.y4m", "view 1 of 1", "the first operation"]);
}

#[test]
fn training_refuses_what_it_cannot_learn_and_tells_what_is_missing() {
    let case = Case::new("datasets-train");
    let train = |out: &str, data: Value| case.run(&["train", "recipe.json", "--steps", "2", "--out", out], data);
    fs::write(case.here.join("list.txt"), "train/dark/0.y4m 0\ngone/1.y4m 1\ngone/2.y4m 1\ntrain/light/0.y4m 2\n").unwrap();
    let told = ["2 of 4 files are missing", "gone/1.y4m (line 2)", "2 of 2 of class 1", "no clip is left of class 1"];
    let output = train("a", json!({ "train": "list.txt", "validation": "list.txt" }));
    says(&output, &told);
    let log = fs::read_to_string(case.here.join("a/metrics.jsonl")).unwrap();
    assert!(log.contains(r#""missing":{"files":2"#), "{log}");
    fs::write(case.here.join("several.txt"), "train/dark/0.y4m 0\ntrain/light/0.y4m 1;2\n").unwrap();
    refused(&train("b", json!({ "train": "several.txt", "validation": null })), &["several.txt, line 2", "multi_label"]);
    classes(&case.here.join("more"), &CLASSES);
    classes(&case.here.join("more"), &[("violet", 70)]);
    refused(&train("c", json!({ "train": "more" })), &["more", "4 classes (dark, grey, light, violet)", "the model has 3"]);
    refused(&train("d", json!({ "validation": "more" })), &["more", "violet"]);
    assert!(!case.here.join("c").exists() && !case.here.join("d").exists(), "nothing was begun");
}

#[test]
fn check_finds_what_is_wrong_with_clips() {
    let case = Case::new("datasets-check");
    let check = |arguments: &[&str]| case.run(&[&["check"], arguments].concat(), json!({}));
    says(&check(&["train"]), &["6 clips, 0 unreadable or damaged, 0 other problems"]);
    says(&check(&["recipe.json", "--quick"]), &["12 clips, 0 unreadable"]);
    let whole = y4m(90);
    fs::write(case.here.join("train/dark/2.y4m"), &whole[..whole.len() - 10]).unwrap();
    fs::write(case.here.join("train/dark/3.y4m"), "").unwrap();
    let output = check(&["train", "--threads", "2"]);
    refused(&output, &["2.y4m", "damaged", "3.y4m", "unreadable", "8 clips, 2 unreadable or damaged"]);
    let output = check(&["train", "--json"]);
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    let kinds: Vec<_> = answer["problems"].as_array().unwrap().iter().map(|problem| problem["kind"].as_str().unwrap()).collect();
    assert_eq!((output.status.code(), kinds), (Some(1), vec!["damaged", "unreadable"]));
    refused(&check(&["nothing"]), &["no such folder, list or recipe"]);
}

/// Bytes of memory that a process had at most, and the number of its children.
#[cfg(target_os = "linux")]
fn usage(process: u32) -> Option<(u64, usize)> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?.trim().trim_end_matches(" kB");
    let threads = fs::read_dir(format!("/proc/{process}/task")).ok()?;
    let children = threads.filter_map(|thread| fs::read_to_string(thread.ok()?.path().join("children")).ok());
    let children = children.map(|list| list.split_ascii_whitespace().count()).sum();
    Some((peak.parse::<u64>().ok()? * 1024, children))
}

#[cfg(target_os = "linux")]
#[test]
fn training_on_large_frames_keeps_few_of_them() {
    let mut case = Case::new("datasets-memory");
    let clip = case.here.join("train/dark/large.mp4");
    let encoded = Command::new("ffmpeg")
        .args(["-nostdin", "-v", "error", "-f", "lavfi", "-i", "testsrc2=size=1920x1080:rate=30:duration=1"])
        .args(["-pix_fmt", "yuv420p", "-c:v", "libx264", "-preset", "ultrafast"])
        .arg(&clip)
        .status();
    if !encoded.is_ok_and(|status| status.success()) {
        println!("skipped: ffmpeg with libx264 is not installed");
        return;
    }
    let list = case.here.join("large.txt");
    fs::write(&list, format!("{0} 0\n{0} 1\n{0} 2\n", clip.display())).unwrap();
    case.recipe["steps"] = 4.into();
    case.recipe["data"] = json!({ "kind": "files", "train": list });
    fs::write(case.here.join("recipe.json"), case.recipe.to_string()).unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_tubelet"))
        .args(["train", "recipe.json", "--out", "run", "--threads", "4"])
        .current_dir(&case.here)
        .spawn()
        .unwrap();
    let (mut peak, mut decoders) = (0, 0);
    while child.try_wait().unwrap().is_none() {
        let (bytes, children) = usage(child.id()).unwrap_or_default();
        (peak, decoders) = (peak.max(bytes), decoders.max(children));
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    assert!(child.wait().unwrap().success());
    // A frame has 6 MB: two readers of one frame each, and what the program takes by itself. Four clips of eight whole
    // frames would be 200 MB.
    assert!(peak < 130 << 20, "{} MiB", peak >> 20);
    assert!(decoders <= 2, "{decoders} decoders at a time");
    assert!(decoders > 0, "nothing was decoded while somebody looked");
}
