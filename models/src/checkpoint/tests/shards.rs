use super::*;

fn shard(name: &str, value: u8) -> Vec<u8> {
    let header = format!(r#"{{"__metadata__":{{"{name}":"x"}},"{name}":{{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}}}"#);
    let mut file = safetensors::file(&header, 0);
    file.push(value);
    file
}

#[test]
fn shards_open_as_one_from_their_index_or_folder() {
    let folder = Folder::new("shards");
    folder.file("1.safetensors", &shard("a", 1));
    folder.file("2.safetensors", &shard("b", 2));
    let index = br#"{"metadata":{"total_size":2},"weight_map":{"a":"1.safetensors","b":"2.safetensors"}}"#;
    let path = folder.file("model.safetensors.index.json", index);
    for file in [Checkpoint::open(&path).unwrap(), Checkpoint::open(&folder.0).unwrap()] {
        assert_eq!(names(&file), ["a", "b"]);
        assert_eq!((file.read("a").unwrap(), file.read("b").unwrap()), (vec![1], vec![2]));
        assert_eq!(file.metadata().len(), 2);
    }
}

#[test]
fn bad_indices_are_refused() {
    let folder = Folder::new("bad-shards");
    folder.file("1.safetensors", &shard("a", 1));
    folder.file("same.safetensors", &shard("a", 2));
    let cases = [
        (r#"{"weight_map":{"a":"gone.safetensors"}}"#, "gone.safetensors"),
        (r#"{"weight_map":{"b":"1.safetensors"}}"#, "`b` is not in"),
        (r#"{"weight_map":{"a":"1.safetensors","b":"same.safetensors"}}"#, "another shard"),
        (r#"{"weight_map":{"a":"../1.safetensors"}}"#, "plain file name"),
        (r#"{"weight_map":{"a":"/etc/passwd"}}"#, "plain file name"),
        (r#"{"weight_map":{"a":".."}}"#, "plain file name"),
        (r#"{"weight_map":[]}"#, "index of shards"),
        (r#"{"weight_map":"#, "index of shards"),
        (r#"{"weight_map":{"a":"index.json"}}"#, "index of shards"),
    ];
    for (index, part) in cases {
        let error = Checkpoint::open(&folder.file("index.json", index.as_bytes())).unwrap_err().to_string();
        assert!(error.contains(part), "`{part}` is not in: {error}");
    }
}

#[test]
fn a_folder_needs_exactly_one_weight_file() {
    let folder = Folder::new("folder");
    let error = |folder: &Folder| Checkpoint::open(&folder.0).unwrap_err().to_string();
    folder.file("README.md", b"");
    assert!(error(&folder).contains("no weight file"));
    folder.file("a.pth", &shard("a", 1));
    assert_eq!(names(&Checkpoint::open(&folder.0).unwrap()), ["a"]);
    folder.file("b.safetensors", &shard("b", 1));
    assert!(error(&folder).contains("a.pth, b.safetensors"));
    folder.file("model.safetensors", &shard("m", 1));
    assert_eq!(names(&Checkpoint::open(&folder.0).unwrap()), ["m"]);
    assert!(Checkpoint::open(&folder.0.join("none.pth")).is_err());
}
