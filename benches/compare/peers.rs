//! Processes that time the same work in other libraries.

use std::{
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use serde_json::Value;
use tubelet_engine::Device;

/// A process that answers a case with seconds for as long as it lives, and its name.
pub struct Peer {
    pub name: &'static str,
    child: Child,
    requests: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Peer {
    /// The peers that there are for a device.
    pub fn all(device: &Device, threads: &str) -> Vec<Peer> {
        if device.name().starts_with("wgpu") {
            return Peer::built("burn", threads).into_iter().collect();
        }
        let mut torch = python();
        torch.arg(folder().join("torch_kernels.py")).arg(threads);
        [Peer::spawn("PyTorch", torch), Peer::built("candle", threads)].into_iter().flatten().collect()
    }

    /// A peer that is a crate of its own, built where it is not yet.
    fn built(name: &'static str, threads: &str) -> Option<Peer> {
        let manifest = folder().join(name).join("Cargo.toml");
        eprintln!("building {}", manifest.display());
        let mut build = Command::new("cargo");
        build.args(["build", "--release", "--quiet", "--manifest-path"]).arg(&manifest);
        build.status().ok().filter(|status| status.success())?;
        let mut run = Command::new("cargo");
        // candle's threads are rayon's.
        run.args(["run", "--release", "--quiet", "--manifest-path"]).arg(&manifest).env("RAYON_NUM_THREADS", threads);
        Peer::spawn(name, run)
    }

    fn spawn(name: &'static str, mut command: Command) -> Option<Peer> {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().ok()?;
        let (requests, answers) = (child.stdin.take()?, BufReader::new(child.stdout.take()?));
        Some(Peer { name, child, requests, answers })
    }

    /// Seconds of a case; none where the peer has no such operation.
    pub fn time(&mut self, case: &Value) -> Option<f64> {
        writeln!(self.requests, "{case}").ok()?;
        let mut line = String::new();
        self.answers.read_line(&mut line).ok()?;
        line.trim().parse().ok()
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("peer")
}

/// The Python that has PyTorch.
fn python() -> Command {
    Command::new(std::env::var_os("TUBELET_PYTHON").unwrap_or_else(|| "python3".into()))
}

/// One measurement of a whole model by the peer program: the JSON object that it prints last.
pub fn torch_model(arguments: &[&str]) -> Option<Value> {
    let peer = std::env::var("TUBELET_PEER").unwrap_or_else(|_| "../shared/peers/torch_peer.py".into());
    let mut command = python();
    command.arg(peer).args(arguments);
    last_json(command)
}

/// The JSON object on the last line that a command prints.
pub fn last_json(mut command: Command) -> Option<Value> {
    let output = command.stderr(Stdio::null()).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    serde_json::from_str(text.lines().last()?).ok()
}
