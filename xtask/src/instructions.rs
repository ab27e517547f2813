//! How many instructions kernels take on fixed inputs, counted by callgrind: what noise on the machine cannot touch.
//!
//! The table is committed: a kernel that takes over 5% more, or less, is a difference to look at. One thread; the code for AVX2 and the portable code,
//! because valgrind has no AVX-512.

use std::{
    collections::BTreeMap,
    fmt::Write,
    fs,
    path::{Path, PathBuf},
    process::Command,
    thread,
};

use crate::ptxas::output;

/// `TUBELET_SIMD` and `TUBELET_DTYPE` of each column.
const COLUMNS: [[&str; 2]; 4] = [["portable", "f32"], ["portable", "bf16"], ["avx2", "f32"], ["avx2", "bf16"]];
/// Compilers of other versions differ by less.
const ALLOWED: f64 = 0.05;

/// The cases in their order, with a count for each column.
type Table = Vec<(String, [u64; COLUMNS.len()])>;

/// Counts, and writes the table, or with `--check` compares it.
pub fn run(arguments: &[String]) -> Result<(), String> {
    let check = match arguments {
        [] => false,
        [only] if only == "--check" => true,
        _ => return Err("cargo xtask instructions [--check]".into()),
    };
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let table = count(&root)?;
    let file = root.join("benches/results/instructions.txt");
    if !check {
        println!("{} cases in {} columns; {}", table.len(), COLUMNS.len(), file.display());
        return fs::write(&file, written(&table)?).map_err(|error| format!("{}: {error}", file.display()));
    }
    let old = fs::read_to_string(&file).map_err(|error| format!("{}: {error}", file.display()))?;
    let differences = differences(&parsed(&old), &table);
    println!("{} cases in {} columns, {} differ from {}", table.len(), COLUMNS.len(), differences.len(), file.display());
    if differences.is_empty() {
        return Ok(());
    }
    Err(format!("{}\nIf this is meant: cargo xtask instructions, and say why in the commit", differences.join("\n")))
}

/// Builds the program and runs it under callgrind for every column.
fn count(root: &Path) -> Result<Table, String> {
    let mut build = Command::new(env!("CARGO"));
    // With the features of `cargo tubelet`, so that what is built for that is built once. Incremental builds are cut, and inlined, differently.
    build.args(["build", "--release", "--quiet", "--bin", "instructions", "--message-format=json-render-diagnostics"]);
    build.args(["-p", "tubelet-benches", "-p", "tubelet-models", "--features", "tubelet-models/cli"]);
    let built = build.env("CARGO_INCREMENTAL", "0").current_dir(root).output().map_err(|error| format!("cargo: {error}"))?;
    if !built.status.success() {
        return Err(String::from_utf8_lossy(&built.stderr).into_owned());
    }
    let program = &executable(&String::from_utf8_lossy(&built.stdout)).ok_or("cargo names no program")?;
    let columns: Vec<Result<Vec<(String, u64)>, String>> = thread::scope(|scope| {
        let running = COLUMNS.map(|column| scope.spawn(move || callgrind(program, column)));
        running.map(|thread| thread.join().unwrap_or_else(|_| Err("callgrind's thread panicked".into()))).into()
    });
    let mut table = Table::new();
    for (at, column) in columns.into_iter().enumerate() {
        for (row, (case, count)) in column?.into_iter().enumerate() {
            if row == table.len() {
                table.push((case, [0; COLUMNS.len()]));
            }
            table[row].1[at] = count;
        }
    }
    Ok(table)
}

/// The last line of cargo's JSON that names an executable.
fn executable(json: &str) -> Option<PathBuf> {
    let line = json.lines().rev().find_map(|line| line.split_once("\"executable\":\""))?;
    Some(line.1.split('"').next()?.into())
}

/// The counts of one column. Collection is on within the function `measured` alone, and each time that it is left there is a dump.
fn callgrind(program: &Path, [simd, dtype]: [&'static str; 2]) -> Result<Vec<(String, u64)>, String> {
    let folder = std::env::temp_dir().join(format!("tubelet-instructions-{}-{simd}-{dtype}", std::process::id()));
    fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let mut command = Command::new("valgrind");
    command.args([
        "--tool=callgrind",
        "--quiet",
        "--toggle-collect=instructions::measured",
        "--dump-after=instructions::measured",
    ]);
    command.arg(format!("--callgrind-out-file={}/out", folder.display())).arg(program);
    command.env("TUBELET_SIMD", simd).env("TUBELET_DTYPE", dtype).env("TUBELET_THREADS", "1").env_remove("TUBELET_DEVICE");
    let done = command.output().map_err(|error| format!("valgrind: {error}"))?;
    let names = String::from_utf8_lossy(&done.stdout).into_owned();
    let counts = names.lines().enumerate().map(|(i, name)| {
        let path = folder.join(format!("out.{}", i + 1));
        let text = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        let total = text.lines().find_map(|line| line.strip_prefix("summary: ").or(line.strip_prefix("totals: ")));
        let total = total.and_then(|total| total.trim().parse().ok()).filter(|&total: &u64| total > 0);
        Ok((name.to_owned(), total.ok_or_else(|| format!("{simd} {dtype}: nothing was counted for {name}"))?))
    });
    let counts = counts.collect();
    // Left behind where it cannot be removed: a temporary folder.
    let _ = fs::remove_dir_all(&folder);
    match done.status.success() {
        true => counts,
        false => Err(format!("{simd} {dtype}: {}", String::from_utf8_lossy(&done.stderr))),
    }
}

/// The rows that are not in both tables, and the counts that differ by more than is allowed.
fn differences(old: &Table, new: &Table) -> Vec<String> {
    let index = |table: &Table| table.iter().cloned().collect::<BTreeMap<_, _>>();
    let (old, new) = (index(old), index(new));
    let mut found = Vec::new();
    for case in old.keys().filter(|case| !new.contains_key(*case)) {
        found.push(format!("{case}: no longer counted"));
    }
    for (case, counts) in &new {
        let Some(before) = old.get(case) else {
            found.push(format!("{case}: not in the committed table"));
            continue;
        };
        for ((column, &new), &old) in COLUMNS.iter().zip(counts).zip(before) {
            let change = new as f64 / old.max(1) as f64 - 1.0;
            if change.abs() > ALLOWED {
                found.push(format!("{case}, {}: {old} to {new} ({:+.1}%)", column.join(" "), 100.0 * change));
            }
        }
    }
    found
}

fn written(table: &Table) -> Result<String, String> {
    let compiler = output(Command::new("rustc").arg("--version"))?;
    let valgrind = output(Command::new("valgrind").arg("--version"))?;
    let compiler: Vec<&str> = compiler.split_whitespace().take(2).collect();
    let mut text = format!(
        "Instructions of one run on one thread, allocation from a warm pool included; {}, {}. \"cargo xtask instructions\" writes this.\n\n{:38}",
        compiler.join(" "),
        valgrind.trim(),
        "case"
    );
    // Writing to a string does not fail.
    COLUMNS.iter().for_each(|column| _ = write!(text, "{:>15}", column.join(" ")));
    text.push('\n');
    for (case, counts) in table {
        let _ = write!(text, "{case:38}");
        counts.iter().for_each(|count| _ = write!(text, "{count:>15}"));
        text.push('\n');
    }
    Ok(text)
}

/// What [`written`] wrote: a name, which may hold spaces, and a number for each column.
fn parsed(text: &str) -> Table {
    let row = |line: &str| {
        let mut words: Vec<&str> = line.split_whitespace().collect();
        let numbers = words.split_off(words.len().checked_sub(COLUMNS.len())?);
        let counts: Vec<u64> = numbers.iter().map(|number| number.parse().ok()).collect::<Option<_>>()?;
        let name = line.split("  ").next().unwrap_or(line);
        Some((name.to_owned(), counts.try_into().ok()?))
    };
    text.lines().filter_map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_read_back_and_differences_beyond_the_allowed_are_told() {
        let text =
            "Head; 1.95.\n\ncase      a b   c d   e f   g h\nconv3d [2, 16, 16]   100   200   300   400\nold   1   2   3   4\n";
        let old = parsed(text);
        assert_eq!(old[0], ("conv3d [2, 16, 16]".to_owned(), [100, 200, 300, 400]));
        assert_eq!(old.len(), 2);
        let new = vec![("conv3d [2, 16, 16]".to_owned(), [104, 200, 280, 400]), ("new".to_owned(), [1; 4])];
        let found = differences(&old, &new);
        assert_eq!(found.len(), 3, "{found:?}");
        assert!(found.iter().any(|line| line.contains("avx2 f32: 300 to 280 (-6.7%)")), "{found:?}");
        assert!(differences(&old, &old).is_empty());
    }

    #[test]
    fn cargo_names_the_program() {
        let json = "{\"reason\":\"compiler-artifact\",\"executable\":\"/a/b\",\"fresh\":true}\n{\"reason\":\"build-finished\"}";
        assert_eq!(executable(json), Some("/a/b".into()));
    }
}
