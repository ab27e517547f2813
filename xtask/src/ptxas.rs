//! PTX to machine code, for every chip that it is meant for: what each kernel takes of a multiprocessor.
//!
//! The table is committed: a kernel that needs more registers is a difference to look at, and one that spills them to memory is refused.

use std::{
    collections::BTreeMap,
    fmt::Write,
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::Mutex,
    thread,
};

use crate::ptx::HOPPER;

/// Ampere, Ampere's and Ada's cards, Hopper, Blackwell and its cards.
const CHIPS: [&str; 6] = ["sm_80", "sm_86", "sm_89", "sm_90", "sm_100", "sm_120"];
/// As it says of itself. Others give other tables.
const VERSION: &str = "V12.9.86";

/// Of one kernel on one chip.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Use {
    registers: u32,
    /// Bytes of shared memory, without what a launch adds.
    shared: u32,
    /// Bytes of registers stored to memory, and loaded again.
    spilled: u32,
}

type Table = BTreeMap<String, BTreeMap<&'static str, Use>>;

/// Assembles all PTX and writes the table, or with `--check` compares it.
pub fn run(arguments: &[String]) -> Result<(), String> {
    let check = match arguments {
        [] => false,
        [only] if only == "--check" => true,
        _ => return Err("cargo xtask ptxas [--check]".into()),
    };
    let ptxas = assembler()?;
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../kernels-cuda/ptx");
    let table = assemble_all(&ptxas, &folder)?;
    let spilling: Vec<&String> =
        table.iter().filter(|(_, chips)| chips.values().any(|u| u.spilled > 0)).map(|(k, _)| k).collect();
    if !spilling.is_empty() {
        return Err(format!("these kernels spill registers: {spilling:?}"));
    }
    let (text, file) = (written(&table), folder.join("resources.txt"));
    let same = fs::read_to_string(&file).is_ok_and(|old| old == text);
    println!(
        "{} kernels for {} chips, none spills; {} {}",
        table.len(),
        CHIPS.len(),
        file.display(),
        if same { "as it was" } else { "changed" }
    );
    match (same, check) {
        (true, _) => Ok(()),
        (false, true) => Err("kernels take other resources than the committed table says: run cargo xtask ptxas".into()),
        (false, false) => fs::write(&file, text).map_err(|error| format!("{}: {error}", file.display())),
    }
}

/// The assembler, of the right version.
pub fn assembler() -> Result<PathBuf, String> {
    let ptxas = PathBuf::from(std::env::var_os("TUBELET_PTXAS").unwrap_or_else(|| "ptxas".into()));
    let version = output(Command::new(&ptxas).arg("--version"))?;
    match version.contains(VERSION) {
        true => Ok(ptxas),
        false => Err(format!("{} is not ptxas {VERSION}:\n{version}", ptxas.display())),
    }
}

/// Every file for every chip, on all processors.
fn assemble_all(ptxas: &Path, folder: &Path) -> Result<Table, String> {
    let entries = fs::read_dir(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let files = entries.flatten().map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|e| e == "ptx"));
    let work: Vec<(PathBuf, &str)> =
        files.flat_map(|file| chips(&file).iter().map(move |&chip| (file.clone(), chip)).collect::<Vec<_>>()).collect();
    let (next, results) = (Mutex::new(work.iter()), Mutex::new(Vec::new()));
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, Into::into) {
            scope.spawn(|| {
                while let Some((file, chip)) = locked(&next).next() {
                    let result = assemble(ptxas, file, chip);
                    locked(&results).push(result);
                }
            });
        }
    });
    let mut table = Table::new();
    for result in results.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner) {
        for (kernel, chip, used) in result? {
            table.entry(kernel).or_default().insert(chip, used);
        }
    }
    Ok(table)
}

/// The chips that a file is meant for.
fn chips(file: &Path) -> &'static [&'static str] {
    let target = file.file_stem().map(Path::new).and_then(Path::extension);
    if target.is_some_and(|target| target == HOPPER) { &["sm_90a"] } else { &CHIPS }
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn assemble(ptxas: &Path, file: &Path, chip: &'static str) -> Result<Vec<(String, &'static str, Use)>, String> {
    let mut command = Command::new(ptxas);
    command.args(["-v", "-arch", chip, "-o", "/dev/null"]).arg(file);
    Ok(parsed(&output(&mut command)?).into_iter().map(|(kernel, used)| (kernel, chip, used)).collect())
}

/// What a program says on either stream; an error where it fails.
pub fn output(command: &mut Command) -> Result<String, String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output =
        command.output().map_err(|error| format!("{program}: {error}; TUBELET_PTXAS or TUBELET_NVDISASM may name it"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    if output.status.success() { Ok(text) } else { Err(format!("{command:?}:\n{text}")) }
}

/// The report of `ptxas -v`: for each kernel a line with its name, one with spills, one with what it uses.
fn parsed(report: &str) -> Vec<(String, Use)> {
    let mut kernels: Vec<(String, Use)> = Vec::new();
    for line in report.lines() {
        if let Some((_, rest)) = line.split_once("Compiling entry function '") {
            kernels.push((rest.split('\'').next().unwrap_or(rest).to_owned(), Use::default()));
        }
        let Some((_, used)) = kernels.last_mut() else { continue };
        used.spilled += before(line, " bytes spill stores") + before(line, " bytes spill loads");
        used.registers += before(line, " registers");
        used.shared += before(line, " bytes smem");
    }
    kernels
}

/// The number before `unit`; 0 where there is none.
fn before(line: &str, unit: &str) -> u32 {
    let number = line.find(unit).and_then(|end| line[..end].rsplit(' ').next());
    number.and_then(|number| number.parse().ok()).unwrap_or(0)
}

fn written(table: &Table) -> String {
    // The last where there are texts for Hopper alone.
    let columns: Vec<&str> =
        CHIPS.into_iter().chain(table.values().any(|chips| chips.contains_key("sm_90a")).then_some("sm_90a")).collect();
    let mut text = format!(
        "Registers of a thread and bytes of shared memory (beyond what a launch adds); ptxas {VERSION}. No kernel spills.\n\n"
    );
    // Writing to a string does not fail.
    let _ =
        writeln!(text, "{:44} {:>7} {}", "kernel", "shared", columns.iter().map(|chip| format!("{chip:>7}")).collect::<String>());
    for (kernel, chips) in table {
        let shared = chips.values().map(|used| used.shared).max().unwrap_or(0);
        let registers = columns.iter().map(|chip| format!("{:>7}", chips.get(chip).map_or(0, |used| used.registers)));
        let _ = writeln!(text, "{kernel:44} {shared:>7} {}", registers.collect::<String>());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hopper_has_a_column_where_something_is_compiled_for_it() {
        assert_eq!(chips(Path::new("ptx/gemm.ptx")), CHIPS);
        assert_eq!(chips(Path::new("ptx/gemm.compute_90a.ptx")), ["sm_90a"]);
        let used = |registers| Use { registers, ..Use::default() };
        let mut table = Table::from([("gemm".to_owned(), BTreeMap::from(CHIPS.map(|chip| (chip, used(7)))))]);
        assert!(!written(&table).contains("sm_90a"));
        table.entry("gemm".into()).or_default().insert("sm_90a", used(9));
        let text = written(&table);
        let columns = |line: &str| line.split_whitespace().skip(2).map(str::to_owned).collect::<Vec<_>>();
        let rows: Vec<Vec<String>> = text.lines().skip(2).map(columns).collect();
        assert_eq!(rows[0].iter().position(|chip| chip == "sm_90a"), rows[1].iter().position(|registers| registers == "9"));
    }

    #[test]
    fn a_report_is_read() {
        let report = "\
ptxas info    : 304 bytes gmem
ptxas info    : Compiling entry function 'a' for 'sm_80'
ptxas info    : Function properties for a
    8 bytes stack frame, 4 bytes spill stores, 12 bytes spill loads
ptxas info    : Used 32 registers, used 0 barriers, 736 bytes cmem[0]
ptxas info    : Compiling entry function 'b' for 'sm_80'
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 255 registers, used 1 barriers, 4096 bytes smem, 736 bytes cmem[0]";
        let expected = [
            ("a".to_owned(), Use { registers: 32, shared: 0, spilled: 16 }),
            ("b".to_owned(), Use { registers: 255, shared: 4096, spilled: 0 }),
        ];
        assert_eq!(parsed(report), expected);
    }
}
