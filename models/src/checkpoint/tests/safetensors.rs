use std::collections::BTreeMap;

use ::safetensors::{Dtype, SafeTensors, tensor::TensorView};
use tubelet_engine::Error;

use super::{super::safetensors::write, *};

/// A header and `data` zero bytes.
pub(super) fn file(header: &str, data: usize) -> Vec<u8> {
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend(header.as_bytes());
    file.resize(file.len() + data, 0);
    file
}

#[test]
fn reads_what_the_official_writer_writes() {
    let (a, b, labels) = (bytes(&[1.0f32, 2.0, 3.0, 4.0, 5.0, 6.0]), bytes(&[true as u8, 0]), bytes(&[7i64, -8]));
    let view = |dtype, shape: &[usize], data| TensorView::new(dtype, shape.to_vec(), data).unwrap();
    let tensors = [
        ("a", view(Dtype::F32, &[2, 3], a.as_slice())),
        ("b", view(Dtype::BOOL, &[2], b.as_slice())),
        ("labels", view(Dtype::I64, &[2], labels.as_slice())),
        ("none", view(Dtype::F16, &[0, 4], &[])),
        ("one", view(Dtype::BF16, &[], &[0x80, 0x3f])),
    ];
    let metadata = [("config".to_owned(), "{\"width\": 3}".to_owned())].into();
    let file = Checkpoint::from_bytes(::safetensors::serialize(tensors, Some(metadata)).unwrap()).unwrap();
    assert_eq!(names(&file), ["a", "b", "labels", "none", "one"]);
    assert_eq!(file.metadata()["config"], "{\"width\": 3}");
    assert_eq!(file.entries()["a"], entry("a", DType::F32, &[2, 3]));
    assert_eq!(file.read("a").unwrap(), a);
    assert_eq!(file.entries()["b"].dtype, DType::U8);
    assert_eq!(file.read("b").unwrap(), b);
    assert_eq!(file.entries()["labels"], entry("labels", DType::I32, &[2]));
    assert_eq!(file.read("labels").unwrap(), bytes(&[7i32, -8]));
    assert!(file.read("none").unwrap().is_empty());
    assert_eq!(file.read("one").unwrap(), [0x80, 0x3f]);
}

#[test]
fn an_integer_beyond_32_bits_is_an_error() {
    let mut file = file(r#"{"n":{"dtype":"I64","shape":[2],"data_offsets":[0,16]}}"#, 0);
    file.extend(bytes(&[i64::from(i32::MIN), i64::from(i32::MAX) + 1]));
    let error = Checkpoint::from_bytes(file).unwrap().read("n").unwrap_err().to_string();
    assert!(error.contains("`n`") && error.contains("2147483648"), "{error}");
}

#[test]
fn other_element_types_keep_no_other_tensor_from_being_read() {
    for (dtype, size) in [("F8_E4M3", 2), ("F8_E5M2", 2), ("F4", 1), ("C64", 16), ("X7", 5)] {
        let next = size + 2;
        let header = format!(
            r#"{{"a":{{"dtype":"{dtype}","shape":[2],"data_offsets":[0,{size}]}},"b":{{"dtype":"U8","shape":[2],"data_offsets":[{size},{next}]}}}}"#
        );
        let mut bytes = file(&header, size);
        bytes.extend([7, 8]);
        let checkpoint = Checkpoint::from_bytes(bytes.clone()).unwrap();
        assert_eq!((names(&checkpoint), checkpoint.read("b").unwrap()), (vec!["b"], vec![7, 8]));
        unreadable(bytes, "a", &[dtype, "not supported"]);
    }
}

#[test]
fn integers_of_every_size_become_32_bits() {
    let values = |dtype: &str, data: Vec<u8>| {
        let header = format!(r#"{{"n":{{"dtype":"{dtype}","shape":[2],"data_offsets":[0,{}]}}}}"#, data.len());
        let checkpoint = Checkpoint::from_bytes([file(&header, 0), data].concat()).unwrap();
        assert_eq!(checkpoint.entries()["n"], entry("n", DType::I32, &[2]));
        checkpoint.read("n").map_err(|error| error.to_string())
    };
    assert_eq!(values("I8", bytes(&[-3i8, 5])).unwrap(), bytes(&[-3i32, 5]));
    assert_eq!(values("I16", bytes(&[-300i16, 5])).unwrap(), bytes(&[-300i32, 5]));
    assert_eq!(values("U16", bytes(&[65535u16, 5])).unwrap(), bytes(&[65535i32, 5]));
    assert_eq!(values("U32", bytes(&[1u32 << 30, 5])).unwrap(), bytes(&[1i32 << 30, 5]));
    assert!(values("U32", bytes(&[1u32 << 31, 5])).unwrap_err().contains("2147483648"));
    assert!(values("U64", bytes(&[u64::MAX, 5])).unwrap_err().contains("18446744073709551615"));
}

#[test]
fn bad_headers_are_refused() {
    let cases: [(&str, usize, &[&str]); 14] = [
        (r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#, 7, &["8 bytes", "has 7"]),
        (r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#, 9, &["8 bytes", "has 9"]),
        (r#"{"a":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}}"#, 8, &["`a`", "12 bytes"]),
        (r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[8,0]}}"#, 8, &["`a`", "8..0"]),
        (r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}}"#, 12, &["`a`", "expected 0.."]),
        (r#"{"a":{"dtype":"F32","shape":[4294967296,4294967296,4],"data_offsets":[0,0]}}"#, 0, &["`a`", "overflows"]),
        (r#"{"a":{"dtype":"F64","shape":[2305843009213693952],"data_offsets":[0,0]}}"#, 0, &["`a`", "overflows"]),
        (r#"{"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}}"#, 4, &["`a`", "invalid"]),
        (r#"{"a":{"dtype":"F8_E4M3","shape":[2],"data_offsets":[0,3]}}"#, 3, &["`a`", "2 bytes for F8_E4M3"]),
        (r#"{"a":{"dtype":"X7","shape":[2],"data_offsets":[2,0]}}"#, 2, &["`a`", "X7"]),
        (
            r#"{"a":{"dtype":"U8","shape":[],"data_offsets":[0,1]},"a":{"dtype":"U8","shape":[],"data_offsets":[1,2]}}"#,
            2,
            &["`a`", "twice"],
        ),
        (r#"{"__metadata__":{},"__metadata__":{}}"#, 0, &["twice"]),
        (r#"{"a":1}"#, 0, &["`a`"]),
        (r#"{"a":"#, 0, &["header"]),
    ];
    for (header, data, parts) in cases {
        refused(file(header, data), parts);
    }
    // Two tensors over the same bytes.
    let overlap = r#"{"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"b":{"dtype":"U8","shape":[2],"data_offsets":[1,3]}}"#;
    refused(file(overlap, 3), &["`b`", "expected 2.."]);
    refused(file(&format!("{{\"a\":{}", "[".repeat(100_000)), 0), &["header"]);
    for length in [3u64, 101, 100_000_001, u64::MAX] {
        let mut bytes = length.to_le_bytes().to_vec();
        bytes.extend(b"{}");
        refused(bytes, &[&format!("a header of {length} bytes")]);
    }
}

#[test]
fn what_is_written_is_read_back_by_both_readers_and_depends_on_nothing_else() {
    let folder = Folder::new("written");
    let path = folder.0.join("model.safetensors");
    let entries = [
        entry("b", DType::U8, &[3]),
        entry("a", DType::F32, &[2]),
        entry("z", DType::F64, &[1]),
        entry("c", DType::I32, &[0, 5]),
        entry("d", DType::BF16, &[]),
    ];
    let metadata: BTreeMap<_, _> = ["one", "two", "three"].map(|k| (k.to_owned(), "\"\n".to_owned())).into();
    let data = |e: &Entry| Ok(vec![e.name.as_bytes()[0]; e.bytes()?]);
    write(&path, &metadata, &entries, data).unwrap();
    let first = std::fs::read(&path).unwrap();
    write(&path, &metadata, entries.iter().rev(), data).unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), first);
    assert_eq!(std::fs::read_dir(&folder.0).unwrap().count(), 1, "no temporary file stays");

    let ours = Checkpoint::open(&path).unwrap();
    let official = SafeTensors::deserialize(&first).unwrap();
    assert_eq!(ours.metadata(), &metadata);
    assert_eq!(official.len(), entries.len());
    for e in &entries {
        assert_eq!(ours.entries()[&e.name], *e);
        assert_eq!(ours.read(&e.name).unwrap(), data(e).unwrap());
        assert_eq!(official.tensor(&e.name).unwrap().data(), data(e).unwrap());
        assert_eq!(official.tensor(&e.name).unwrap().shape(), e.shape);
    }
}

#[test]
fn a_failed_write_leaves_the_old_file_and_nothing_else() {
    let folder = Folder::new("failed");
    let path = folder.file("model.safetensors", b"old");
    let none = BTreeMap::new();
    let a = entry("a", DType::F32, &[2]);
    let short = write(&path, &none, [&a], |_| Ok([0u8; 7])).unwrap_err().to_string();
    assert!(short.contains("`a`") && short.contains("7 bytes"), "{short}");
    write(&path, &none, [&a], |_| Err::<Vec<u8>, _>(Error::invalid("device", "lost"))).unwrap_err();
    write(&path, &none, [&a, &a], |_| Ok([0u8; 8])).unwrap_err();
    write(&path, &none, [&entry("__metadata__", DType::U8, &[])], |_| Ok([0])).unwrap_err();
    write(&path, &none, [&entry("a", DType::F64, &[usize::MAX])], |_| Ok([0])).unwrap_err();
    write(&folder.0.join("no/such/folder"), &none, [&a], |_| Ok([0u8; 8])).unwrap_err();
    write(&folder.0.join(".."), &none, [&a], |_| Ok([0u8; 8])).unwrap_err();
    assert_eq!(std::fs::read(&path).unwrap(), b"old");
    assert_eq!(std::fs::read_dir(&folder.0).unwrap().count(), 1);
}
