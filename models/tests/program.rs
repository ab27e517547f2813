//! The program as a user meets it: exit status, messages, and what it refuses.
#![cfg(feature = "cli")]
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

/// A folder of its own for each test, removed at the end.
struct Scratch(PathBuf);

impl Scratch {
    fn new(test: &str) -> Self {
        let path = std::env::temp_dir().join(format!("tubelet-{test}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Scratch(path)
    }

    fn file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, content).unwrap();
        path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn tubelet(arguments: &[&dyn AsRef<std::ffi::OsStr>]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tubelet"));
    command.args(arguments.iter().map(AsRef::as_ref)).output().unwrap()
}

fn clip() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("clips/moving_disc.y4m")
}

/// A configuration small enough for a test in milliseconds.
fn tiny(scratch: &Scratch) -> PathBuf {
    let shown = tubelet(&[&"inspect", &"vidtr-tiny", &"--config"]);
    assert!(shown.status.success(), "{}", String::from_utf8_lossy(&shown.stderr));
    scratch.file("tiny.json", shown.stdout)
}

/// Refused with status 1, the message on standard error containing `expected`, and nothing on standard output.
fn refused(output: &Output, expected: &str) {
    let message = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{message}");
    assert!(message.contains(expected), "{message:?} lacks {expected:?}");
    assert!(!message.contains("panicked"), "{message}");
    assert!(output.stdout.is_empty());
}

/// `tubelet inspect --tables | head -1`: whoever closes the pipe has seen enough.
#[test]
fn a_closed_pipe_ends_the_program_quietly() {
    for arguments in [&["inspect", "--tables"][..], &["inspect"], &["verify", "--cases", "1"], &["inspect", "tubevit-b"]] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tubelet"));
        let mut child = command.args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        let message = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && !message.contains("panicked"), "{arguments:?}: {message}");
    }
}

/// Without a model: the one in the box, on the clip in the repository.
#[test]
fn the_model_in_the_box_sees_the_camera_move() {
    let output = tubelet(&[&"classify", &clip().with_file_name("camera.y4m"), &"--json"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let answer: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let labels: Vec<&str> = answer["segments"].as_array().unwrap().iter().map(|s| s["label"].as_str().unwrap()).collect();
    assert_eq!(labels, ["static", "pan left", "zoom in"]);
    refused(&tubelet(&[&"classify", &clip(), &"--weights", &"x.pth"]), "name it");
}

#[test]
fn the_main_job_answers_and_says_that_the_weights_are_random() {
    let scratch = Scratch::new("main");
    let config = tiny(&scratch);
    let output = tubelet(&[&"classify", &clip(), &"--model", &config, &"--top-k", &"3", &"--json"]);
    let message = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{message}");
    assert!(message.contains("RANDOM"));
    let answer: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(answer["predictions"].as_array().unwrap().len(), 3);
    assert_eq!(answer["random_weights"], true);
    let again = tubelet(&[&"classify", &clip(), &"--model", &config, &"--top-k", &"3", &"--json"]);
    assert_eq!(output.stdout, again.stdout, "same input, same bits");
}

#[test]
fn inputs_that_are_no_video() {
    let scratch = Scratch::new("inputs");
    let config = tiny(&scratch);
    let classify = |input: &Path| tubelet(&[&"classify", &input, &"--model", &config]);
    refused(&classify(Path::new("/nowhere.mp4")), "/nowhere.mp4");
    refused(&classify(&scratch.file("none.y4m", "YUV4MPEG2 W64 H64 F25:1 C420jpeg\n")), "none.y4m");
    refused(&classify(&scratch.file("huge.y4m", "YUV4MPEG2 W4294967295 H4294967295 F25:1\nFRAME\n")), "huge.y4m");
    refused(&classify(&scratch.file("short.y4m", "YUV4MPEG2 W64 H64 F25:1 C420jpeg\nFRAME\nxx")), "short.y4m");
    refused(&classify(&scratch.file("empty.mp4", "")), "empty.mp4");
}

/// Names of files are bytes: whatever the program reads and writes works without UTF-8, and JSON shows a name as well as it can.
#[cfg(unix)]
#[test]
fn names_that_are_not_utf8() {
    use std::os::unix::ffi::OsStrExt;
    let scratch = Scratch::new("names");
    let folder = scratch.0.join(std::ffi::OsStr::from_bytes(b"caf\xe9"));
    fs::create_dir_all(&folder).unwrap();
    let name = |suffix: &str| folder.join(std::ffi::OsStr::from_bytes(&[b"\xff", suffix.as_bytes()].concat()));
    let (video, config, picture) = (name(".y4m"), name(".json"), name(".png"));
    fs::copy(clip(), &video).unwrap();
    fs::copy(tiny(&scratch), &config).unwrap();
    let answer = |arguments: &[&dyn AsRef<std::ffi::OsStr>]| -> serde_json::Value {
        let output = tubelet(arguments);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    };
    let shown = |path: &Path| path.to_string_lossy().into_owned();
    assert!(shown(&video).ends_with("caf\u{fffd}/\u{fffd}.y4m"));
    let classified = answer(&[&"classify", &video, &"--model", &config, &"--json"]);
    assert_eq!((&classified["input"], &classified["model"]), (&shown(&video).into(), &shown(&config).into()));
    assert_eq!(answer(&[&"classify", &video, &"--json"])["input"], shown(&video), "the model in the box");
    let drawn = answer(&[&"rollout", &video, &"--model", &config, &"--json", &"-o", &picture]);
    assert_eq!((&drawn["picture"], &drawn["model"]), (&shown(&picture).into(), &shown(&config).into()));
    assert!(fs::read(&picture).unwrap().starts_with(b"\x89PNG"));
    assert_eq!(answer(&[&"bench", &config, &"--passes", &"1", &"--json"])["model"], shown(&config));
    assert!(tubelet(&[&"inspect", &config]).status.success());
    // What is not there is refused by name, as far as it can be shown.
    refused(&tubelet(&[&"inspect", &name(".jsn")]), ".jsn");
    refused(&tubelet(&[&"train", &name(".recipe"), &"--out", &name(".run")]), ".recipe");
    let recipe = name(".recipe");
    fs::write(&recipe, "{}").unwrap();
    refused(&tubelet(&[&"evaluate", &recipe, &"--weights", &name(".pth")]), "not a recipe");
    refused(&tubelet(&[&"train", &recipe, &"--out", &name(".run")]), "not a recipe");
}

/// A configuration whose sizes fit and whose costs do not: every command refuses it, and none wraps around or panics.
#[test]
fn costs_beyond_64_bits_are_refused() {
    let scratch = Scratch::new("overflow");
    let shown = tubelet(&[&"inspect", &"vivit-tiny", &"--config"]);
    let mut config: serde_json::Value = serde_json::from_slice(&shown.stdout).unwrap();
    config["spatial"]["hidden"] = 9_000_000_000_000_000u64.into();
    let config = scratch.file("large.json", config.to_string());
    refused(&tubelet(&[&"inspect", &config]), "the sum of the FLOPs of all operations does not fit into 64 bits");
    refused(&tubelet(&[&"inspect", &config, &"--train"]), "does not fit into 64 bits");
    refused(&tubelet(&[&"inspect", &"vivit-tiny", &"--batch", &"99999999999999999"]), "does not fit");
    refused(&tubelet(&[&"inspect", &"vivit-tiny", &"--batch", &"99999999999", &"--train"]), "out of memory");
    refused(&tubelet(&[&"bench", &config]), "does not fit into 64 bits");
    refused(&tubelet(&[&"bench", &config, &"--train"]), "does not fit into 64 bits");
    refused(&tubelet(&[&"classify", &clip(), &"--model", &config]), "out of memory");
    let none = tubelet(&[&"bench", &"vivit-tiny", &"--batch", &"0"]);
    assert_eq!(none.status.code(), Some(2), "{}", String::from_utf8_lossy(&none.stderr));
}

#[test]
fn weights_that_do_not_load() {
    let scratch = Scratch::new("weights");
    let config = tiny(&scratch);
    let classify = |weights: &Path| tubelet(&[&"classify", &clip(), &"--model", &config, &"--weights", &weights]);
    refused(&classify(Path::new("/nowhere.safetensors")), "/nowhere.safetensors");
    refused(&classify(&scratch.file("garbage.pth", "not a checkpoint")), "garbage.pth");
    let header = br#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#;
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend_from_slice(header);
    refused(&classify(&scratch.file("truncated.safetensors", &file)), "truncated.safetensors");
    file.extend_from_slice(&[0; 8]);
    refused(&classify(&scratch.file("other.safetensors", &file)), "unexpected: a [2]");
    // The pickle protocol's way to run a shell command.
    refused(&classify(&scratch.file("evil.pth", b"cos\nsystem\n(S'true'\ntR.")), "evil.pth");
}

#[test]
fn configurations_that_make_no_sense() {
    let scratch = Scratch::new("configs");
    let classify = |model: &Path| tubelet(&[&"classify", &clip(), &"--model", &model]);
    refused(&classify(Path::new("no-such-model")), "no-such-model");
    refused(&classify(&scratch.file("broken.json", "{")), "broken.json");
    refused(&classify(&scratch.file("unknown.json", r#"{"model": "perceptron"}"#)), "unknown.json");
    let text = fs::read_to_string(tiny(&scratch)).unwrap();
    let mut value: serde_json::Value = serde_json::from_str(&text).unwrap();
    value["surprise"] = 1.into();
    refused(&classify(&scratch.file("surprise.json", value.to_string())), "surprise");
}

#[test]
fn a_memory_limit_is_an_error() {
    let limited = |bytes: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tubelet"));
        command.env("TUBELET_MEMORY_LIMIT", bytes).args(["classify"]).arg(clip()).args(["--model", "vidtr-tiny"]);
        command.output().unwrap()
    };
    refused(&limited("100000"), "out of memory");
    refused(&limited("lots"), "TUBELET_MEMORY_LIMIT");
}

#[test]
fn labels_must_fit_the_model() {
    let scratch = Scratch::new("labels");
    let labels = scratch.file("two.txt", "one\ntwo\n");
    let classify = |labels: &Path| tubelet(&[&"classify", &clip(), &"--model", &"vidtr-tiny", &"--labels", &labels]);
    refused(&classify(&labels), "2 names");
    refused(&classify(&scratch.file("empty.txt", "\n\n")), "empty.txt");
}

#[test]
fn wrong_arguments_have_a_status_of_their_own() {
    assert_eq!(tubelet(&[&"classify"]).status.code(), Some(2));
    assert_eq!(tubelet(&[&"classify", &clip(), &"--views", &"0x3"]).status.code(), Some(2));
    refused(&tubelet(&[&"verify", &"--device", &"abacus"]), "abacus");
}

#[test]
fn devices_and_presets_are_listed() {
    let devices = String::from_utf8(tubelet(&[&"devices"]).stdout).unwrap();
    assert!(devices.contains("cpu") && devices.contains("ready"));
    let presets = String::from_utf8(tubelet(&[&"inspect"]).stdout).unwrap();
    for system in ["tubevit-b", "vivit", "vidtr-s", "uniformerv2"] {
        assert!(presets.contains(system), "{system}");
    }
}
