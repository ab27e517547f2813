//! Every file here is built in the test, apart from those in `data` that PyTorch saved (`data/make.py`).

mod archive;
mod damage;
mod dictionaries;
mod legacy;
mod opaque;
mod pytorch;
mod safetensors;
mod shards;

use std::path::PathBuf;

use super::{Checkpoint, Dictionaries, Entry};
use tubelet_engine::DType;

/// A fresh folder for one test, removed at its end.
struct Folder(PathBuf);

impl Folder {
    fn new(test: &str) -> Self {
        let path = std::env::temp_dir().join(format!("tubelet-checkpoint-{}-{test}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn entry(name: &str, dtype: DType, shape: &[usize]) -> Entry {
    Entry { name: name.into(), dtype, shape: shape.into() }
}

/// Little-endian bytes.
trait Bytes {
    fn append(self, out: &mut Vec<u8>);
}

macro_rules! to_bytes {
    ($($number:ty)*) => {$(
        impl Bytes for $number {
            fn append(self, out: &mut Vec<u8>) {
                out.extend(self.to_le_bytes());
            }
        }
    )*};
}
to_bytes!(i8 u8 i16 u16 i32 u32 i64 u64 f32 f64);

fn bytes<T: Bytes + Copy>(values: &[T]) -> Vec<u8> {
    let mut out = Vec::new();
    values.iter().for_each(|value| value.append(&mut out));
    out
}

fn f32s(file: &Checkpoint, name: &str) -> Vec<f32> {
    assert_eq!(file.entries()[name].dtype, DType::F32, "{name}");
    file.read(name).unwrap().as_chunks::<4>().0.iter().map(|&b| f32::from_le_bytes(b)).collect()
}

fn names(file: &Checkpoint) -> Vec<&str> {
    file.entries().keys().map(String::as_str).collect()
}

/// The message of the refusal of `file`, which names `parts`.
fn refused(file: Vec<u8>, parts: &[&str]) {
    let message = Checkpoint::from_bytes(file).map(|file| names(&file).join(" ")).unwrap_err().to_string();
    for part in parts {
        assert!(message.contains(part), "`{part}` is not in: {message}");
    }
}

/// The message of reading the tensor `name` of a file that opens, which names it and `parts`.
fn unreadable(file: Vec<u8>, name: &str, parts: &[&str]) {
    let file = Checkpoint::from_bytes(file).unwrap();
    assert!(!file.entries().contains_key(name), "{name}");
    let message = file.read(name).unwrap_err().to_string();
    for part in parts.iter().chain(&[format!("`{name}`").as_str()]) {
        assert!(message.contains(part), "`{part}` is not in: {message}");
    }
}

/// The tensors of the dictionary `key`, whatever their number, as they are named in it.
fn dictionary(file: Checkpoint, key: &str) -> Checkpoint {
    let candidates = Dictionaries::new(&file, 0, Some(key)).unwrap().candidates();
    let found = candidates.into_iter().find(|candidate| candidate.key == key).unwrap();
    file.select(&found)
}

#[test]
fn other_files_are_recognised_and_refused_with_advice() {
    refused(vec![], &["empty"]);
    refused(b"PK\x03\x04".to_vec(), &["truncated or damaged"]);
    let tar = [&[b'x'; 257][..], b"ustar\0"].concat();
    refused(tar, &["tar file", "torch.save(torch.load"]);
    refused(b"\x80\x04\x95\x00\x00".to_vec(), &["bare pickle"]);
    refused(b"version https://git-lfs.github.com/spec/v1\n".to_vec(), &["Git LFS", "git lfs pull"]);
    refused(b"\x82\xa9optimizer".to_vec(), &["Flax", "safetensors.flax"]);
    refused(b"{\"weight_map\":{}}".to_vec(), &["index of shards"]);
    refused(b"\x89HDF\r\n\x1a\n".to_vec(), &["neither"]);
}

#[test]
fn unknown_names_and_wrong_buffers_are_errors() {
    let file = Checkpoint::from_bytes(safetensors::file(r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#, 8)).unwrap();
    assert!(file.read("b").unwrap_err().to_string().contains("no tensor `b`"));
    assert!(file.read_into("a", &mut [0; 7]).unwrap_err().to_string().contains("8 bytes, the buffer 7"));
    file.read_into("a", &mut [0; 8]).unwrap();
}

#[test]
fn a_checkpoint_can_be_shared_between_threads() {
    let data: Vec<u8> = (0..=255).collect();
    let header =
        r#"{"a":{"dtype":"U8","shape":[128],"data_offsets":[0,128]},"b":{"dtype":"U8","shape":[128],"data_offsets":[128,256]}}"#;
    let mut bytes = safetensors::file(header, 0);
    bytes.extend(&data);
    let file = Checkpoint::from_bytes(bytes).unwrap();
    std::thread::scope(|scope| {
        for (name, half) in [("a", &data[..128]), ("b", &data[128..])] {
            let file = &file;
            scope.spawn(move || (0..200).for_each(|_| assert_eq!(file.read(name).unwrap(), half)));
        }
    });
}
