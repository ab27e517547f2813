//! The grid has no holes: every operation has its file in every column that exists.

use std::path::Path;

use tubelet_engine::Op;

#[test]
fn every_operation_has_a_file_in_every_column() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let columns = [
        "engine/src/ops",
        "engine/src/reference",
        "engine/src/cpu",
        "engine/src/samples",
        "kernels-wgsl/src",
        "kernels-cuda/src",
        "tests",
        "benches",
    ];
    let mut missing = Vec::new();
    for name in Op::NAMES {
        for column in columns {
            let (file, folder) = (root.join(column).join(format!("{name}.rs")), root.join(column).join(name));
            if !file.exists() && !folder.join("mod.rs").exists() {
                missing.push(format!("{column}/{name}.rs"));
            }
        }
    }
    assert!(missing.is_empty(), "missing cells: {missing:#?}");
    for name in Op::NAMES.iter().filter(|name| tubelet_autograd::has_rule(name)) {
        assert!(root.join(format!("autograd/src/ops/{name}.rs")).exists(), "autograd/src/ops/{name}.rs");
    }
    // Launches the kernels of two other rows.
    for name in Op::NAMES.iter().filter(|name| **name != "layer_norm_gemm") {
        for file in [format!("kernels-cuda/src/{name}.cu"), format!("kernels-cuda/ptx/{name}.ptx")] {
            assert!(root.join(&file).exists(), "{file}");
        }
    }
}
