//! `.cu` to PTX.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::nvrtc::Nvrtc;

/// What the committed PTX comes from: other versions give other bytes.
const VERSION: (i32, i32) = (12, 4);
/// As its PTX says it.
const BUILD: &str = "12.4, V12.4.127";

/// Compiles the operations named, or all.
pub fn run(arguments: &[String]) -> Result<(), String> {
    let check = arguments.iter().any(|a| a == "--check");
    let wanted: Vec<&str> = arguments.iter().map(String::as_str).filter(|a| *a != "--check").collect();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../kernels-cuda");
    let sources = sources(&root.join("src"), &wanted)?;

    let nvrtc = Nvrtc::load()?;
    let version = nvrtc.version()?;
    if version != VERSION {
        return Err(format!("{} is NVRTC {version:?}, expected {VERSION:?}", nvrtc.path.display()));
    }
    let folders = [include(&root.join("src")), include(&headers(&nvrtc)?)];
    let mut different = Vec::new();
    let mut lines = 0;
    for (name, path) in &sources {
        let source = fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
        for target in targets(&source) {
            let [source_folder, headers] = folders.clone();
            let options = [format!("--gpu-architecture={target}"), "--std=c++17".into(), source_folder, headers];
            let ptx = nvrtc.compile(&format!("{name}.cu"), &source, &options);
            let ptx = ptx.map_err(|log| format!("{name}.cu for {target}:\n{log}"))?;
            if !ptx.contains(BUILD) {
                return Err(format!("{} is not build {BUILD}", nvrtc.path.display()));
            }
            let ptx = dense(&ptx);
            lines += ptx.lines().count();
            let file = root.join("ptx").join(file_name(name, target));
            if fs::read_to_string(&file).is_ok_and(|old| old == ptx) {
                continue;
            }
            different.push(file_name(name, target));
            if !check {
                fs::write(&file, ptx).map_err(|error| format!("{}: {error}", file.display()))?;
            }
        }
    }
    println!("{} operations, {lines} lines of PTX, {} changed {}", sources.len(), different.len(), different.join(" "));
    match check && !different.is_empty() {
        true => Err("the committed PTX is not what the sources compile to: run cargo xtask ptx".into()),
        false => Ok(()),
    }
}

/// What every source is compiled for: one text for every chip from Ampere on.
const BASE: &str = "compute_80";
/// For chips of capability 9.0 alone, with what only they have.
pub const HOPPER: &str = "compute_90a";

/// What a source is compiled for: everything the base, and Hopper too where a line of it says just `// Also for compute_90a.`
fn targets(source: &str) -> Vec<&'static str> {
    let also = source.lines().any(|line| line.strip_prefix("// Also for ") == Some(&format!("{HOPPER}.")));
    if also { vec![BASE, HOPPER] } else { vec![BASE] }
}

/// `gemm.ptx`, `gemm.compute_90a.ptx`.
fn file_name(name: &str, target: &str) -> String {
    if target == BASE { format!("{name}.ptx") } else { format!("{name}.{target}.ptx") }
}

/// Without empty lines and the comments around inline assembly, which are a quarter of all lines.
fn dense(ptx: &str) -> String {
    let kept = |line: &&str| !matches!(line.trim(), "" | "// begin inline asm" | "// end inline asm");
    ptx.lines().filter(kept).flat_map(|line| [line, "\n"]).collect()
}

/// `(operation, file)` in alphabetical order.
fn sources(folder: &Path, wanted: &[&str]) -> Result<Vec<(String, PathBuf)>, String> {
    let entries = fs::read_dir(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let paths = entries.flatten().map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|e| e == "cu"));
    let named = paths.filter_map(|path| Some((path.file_stem()?.to_str()?.to_owned(), path)));
    let mut sources: Vec<_> = named.filter(|(name, _)| wanted.is_empty() || wanted.contains(&name.as_str())).collect();
    sources.sort();
    match wanted.iter().find(|name| !sources.iter().any(|(source, _)| source == *name)) {
        Some(name) => Err(format!("{}: no {name}.cu", folder.display())),
        None => Ok(sources),
    }
}

fn include(folder: &Path) -> String {
    format!("-I{}", folder.display())
}

/// The folder of `cuda_bf16.h`: in a toolkit beside the libraries, in the wheels in the one of the runtime.
fn headers(nvrtc: &Nvrtc) -> Result<PathBuf, String> {
    if let Some(folder) = std::env::var_os("TUBELET_CUDA_INCLUDE") {
        return Ok(folder.into());
    }
    let real = nvrtc.path.canonicalize().map_err(|error| format!("{}: {error}", nvrtc.path.display()))?;
    let beside = real.ancestors().skip(2).flat_map(|folder| [folder.join("include"), folder.join("cuda_runtime/include")]);
    let found = beside.take(6).find(|folder| folder.join("cuda_bf16.h").exists());
    found.ok_or_else(|| format!("no cuda_bf16.h beside {}; TUBELET_CUDA_INCLUDE may name its folder", nvrtc.path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_says_whether_hopper_has_a_text_of_its_own() {
        let files = |source| targets(source).into_iter().map(|target| file_name("gemm", target)).collect::<Vec<_>>();
        assert_eq!(files("// Products.\nKERNEL gemm() {}"), ["gemm.ptx"]);
        assert_eq!(files("// Products.\n// Also for compute_90a.\nKERNEL gemm() {}"), ["gemm.ptx", "gemm.compute_90a.ptx"]);
        assert_eq!(files("// Also for compute_90a. Or not."), ["gemm.ptx"]);
    }
}
