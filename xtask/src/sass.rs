//! What the kernels for Hopper became in machine code: that they run on its tensor cores and its copy engine is seen there alone.
//!
//! The table is committed: a kernel that loses its instructions, or a new one without, is a difference to look at.

use std::{
    collections::BTreeMap,
    fmt::Write,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    ptx::HOPPER,
    ptxas::{assembler, output},
};

/// As it says of itself. Others name instructions in other ways.
const VERSION: &str = "V13.5.37";
/// Products of warpgroups, products of warps, tiles by the copy engine to shared memory and from it, registers stored to memory and loaded again.
const COUNTED: [&str; 6] = ["HGMMA", "HMMA", "UTMALDG", "UTMASTG", "STL", "LDL"];

type Table = BTreeMap<String, [u32; COUNTED.len()]>;

/// Disassembles all kernels for Hopper that use what it has of its own, and writes the table, or with `--check` compares it.
pub fn run(arguments: &[String]) -> Result<(), String> {
    let check = match arguments {
        [] => false,
        [only] if only == "--check" => true,
        _ => return Err("cargo xtask sass [--check]".into()),
    };
    let disassembler = PathBuf::from(std::env::var_os("TUBELET_NVDISASM").unwrap_or_else(|| "nvdisasm".into()));
    let version = output(Command::new(&disassembler).arg("--version"))?;
    if !version.contains(VERSION) {
        return Err(format!("{} is not nvdisasm {VERSION}:\n{version}", disassembler.display()));
    }
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../kernels-cuda/ptx");
    let cubin = std::env::temp_dir().join(format!("tubelet-{}.cubin", std::process::id()));
    let table = disassemble_all(&disassembler, &folder, &cubin);
    // Left behind where it cannot be removed: a temporary file.
    let _ = fs::remove_file(&cubin);
    let (text, file) = (written(&table?), folder.join("sass.txt"));
    let same = fs::read_to_string(&file).is_ok_and(|old| old == text);
    println!("{} {}", file.display(), if same { "as it was" } else { "changed" });
    match (same, check) {
        (true, _) => Ok(()),
        (false, true) => Err("kernels became other machine code than the committed table says: run cargo xtask sass".into()),
        (false, false) => fs::write(&file, text).map_err(|error| format!("{}: {error}", file.display())),
    }
}

fn disassemble_all(disassembler: &Path, folder: &Path, cubin: &Path) -> Result<Table, String> {
    let entries = fs::read_dir(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let hopper = format!(".{HOPPER}.ptx");
    let files = entries.flatten().map(|entry| entry.path()).filter(|path| path.to_string_lossy().ends_with(&hopper));
    let (assembler, mut table) = (assembler()?, Table::new());
    for file in files {
        output(Command::new(&assembler).args(["-arch", "sm_90a", "-o"]).arg(cubin).arg(&file))?;
        table.extend(counted(&output(Command::new(disassembler).arg("-c").arg(cubin))?));
    }
    // Kernels that every chip has run as they do elsewhere.
    table.retain(|kernel, _| kernel.contains("hopper"));
    Ok(table)
}

/// The instructions of each kernel: a section with its name, and lines of `/*0010*/ @P0 NAME.MODIFIERS operands ;`.
fn counted(text: &str) -> Table {
    let mut table = Table::new();
    let mut kernel = None;
    for line in text.lines() {
        if let Some((_, rest)) = line.split_once(".section\t.text.") {
            let name = rest.split([',', '"']).next().unwrap_or(rest);
            kernel = Some(table.entry(name.to_owned()).or_default());
        }
        let Some((_, code)) = line.split_once("*/") else { continue };
        let mut words = code.split_whitespace().skip_while(|word| word.starts_with('@'));
        let name = words.next().and_then(|word| word.split(['.', ';']).next());
        let at = COUNTED.iter().position(|counted| name == Some(counted));
        if let Some((counts, at)) = kernel.as_mut().zip(at) {
            counts[at] += 1;
        }
    }
    table
}

fn written(table: &Table) -> String {
    let mut text =
        format!("Instructions in the machine code of the kernels for Hopper (sm_90a); nvdisasm {VERSION}.\n\n{:44}", "kernel");
    // Writing to a string does not fail.
    COUNTED.iter().for_each(|name| _ = write!(text, "{name:>8}"));
    text.push('\n');
    for (kernel, counts) in table {
        let _ = write!(text, "{kernel:44}");
        counts.iter().for_each(|count| _ = write!(text, "{count:>8}"));
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instructions_are_counted_by_kernel() {
        let text = "\t.section\t.text.gemm_hopper,\"ax\",@progbits\n\
            \x20       /*0010*/              @P0  HGMMA.64x256x16.F32.BF16 R24, gdesc[UR4], R24 ;\n\
            \x20       /*0020*/                   UTMALDG.3D [UR8], [UR4] ;\n\
            \x20       /*0030*/              @!P1 HGMMA.64x256x16.F32.BF16 R24, gdesc[UR4], R24 ;\n\
            \t.section\t.text.other,\"ax\",@progbits\n\
            \x20       /*0010*/                   EXIT ;";
        let expected = [("gemm_hopper".to_owned(), [2, 0, 1, 0, 0, 0]), ("other".to_owned(), [0; 6])];
        assert_eq!(counted(text), Table::from(expected));
        assert!(written(&counted(text)).contains("HGMMA"));
    }
}
