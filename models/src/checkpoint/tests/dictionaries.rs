//! Which dictionaries of a file there are to choose from, and the names in them.

use super::*;

/// A safetensors file of f32 tensors of one element, all zero.
fn file(names: &[&str]) -> Checkpoint {
    let one = |(i, name): (usize, &&str)| {
        let (begin, end) = (4 * i, 4 * i + 4);
        format!(r#""{name}":{{"dtype":"F32","shape":[1],"data_offsets":[{begin},{end}]}}"#)
    };
    let tensors: Vec<String> = names.iter().enumerate().map(one).collect();
    let header = format!("{{{}}}", tensors.join(","));
    Checkpoint::from_bytes(safetensors::file(&header, 4 * names.len())).unwrap()
}

/// Keys and names of what may hold a model of `elements`.
fn candidates(file: &Checkpoint, elements: u64) -> Vec<(String, String)> {
    let all = Dictionaries::new(file, elements, None).unwrap().candidates();
    let joined = |names: Vec<&String>| names.into_iter().map(String::as_str).collect::<Vec<_>>().join(" ");
    all.iter().map(|candidate| (candidate.key.clone(), joined(candidate.names().keys().collect()))).collect()
}

fn pair(key: &str, names: &str) -> (String, String) {
    (key.to_owned(), names.to_owned())
}

#[test]
fn every_beginning_of_names_is_a_dictionary_if_it_is_large_enough() {
    let two = file(&["student.a.w", "student.b", "teacher.a.w", "teacher.b"]);
    let expected = [pair("", "student.a.w student.b teacher.a.w teacher.b"), pair("student", "a.w b"), pair("teacher", "a.w b")];
    assert_eq!(candidates(&two, 4), expected);
    assert_eq!(candidates(&two, 100), expected[..1], "the largest, where none is large enough");
    let all: Vec<String> = candidates(&two, 0).into_iter().map(|(key, _)| key).collect();
    assert_eq!(all, ["", "student", "teacher", "student.a", "teacher.a"]);
}

#[test]
fn wrappers_come_off_anywhere_and_the_counter_of_an_average_is_none_of_the_weights() {
    let wrapped = file(&["module.a._orig_mod.w", "module.b"]);
    let plain = pair("module", "a._orig_mod.w b");
    let found = candidates(&wrapped, 2);
    assert!(found.contains(&plain) && found.contains(&pair("module", "a.w b")), "{found:?}");
    let header = r#"{"n_averaged":{"dtype":"I64","shape":[],"data_offsets":[0,8]},"module.a":{"dtype":"F32","shape":[2],"data_offsets":[8,16]}}"#;
    let averaged = Checkpoint::from_bytes(safetensors::file(header, 16)).unwrap();
    assert!(candidates(&averaged, 2).contains(&pair("module", "a")));
    assert!(candidates(&averaged, 2).iter().all(|(_, names)| !names.contains("n_averaged")));
}

#[test]
fn a_prefix_of_some_of_the_names_comes_off() {
    let partial = file(&["backbone.a", "backbone.b", "head"]);
    let found = Dictionaries::new(&partial, 2, None).unwrap().partial_candidates();
    let names: Vec<Vec<&String>> = found.iter().map(|candidate| candidate.names().keys().collect()).collect();
    assert_eq!(names, [["a", "b", "head"]]);
    let clash = file(&["backbone.a", "backbone.b", "a"]);
    assert_eq!(Dictionaries::new(&clash, 2, None).unwrap().partial_candidates(), []);
}

#[test]
fn a_selection_has_the_new_names_and_the_old_data() {
    let header =
        r#"{"x.a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"y.a":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}}"#;
    let mut bytes = safetensors::file(header, 0);
    bytes.extend([5, 6]);
    let open = || Checkpoint::from_bytes(bytes.clone()).unwrap();
    for (key, value) in [("x", 5), ("y", 6)] {
        let file = dictionary(open(), key);
        assert_eq!(names(&file), ["a"]);
        assert_eq!((file.entries()["a"].name.as_str(), file.read("a").unwrap()), ("a", vec![value]));
    }
}

#[test]
fn a_wrong_key_lists_those_that_there_are() {
    let two = file(&["student.a", "teacher.a"]);
    let message = Dictionaries::new(&two, 1, Some("ema")).unwrap_err().to_string();
    for part in ["--state-dict", "\"ema\"", "\"student\"", "\"teacher\""] {
        assert!(message.contains(part), "`{part}` is not in: {message}");
    }
    assert!(Dictionaries::new(&two, 1, Some("stud")).is_err(), "half a key");
    let many: Vec<String> = (0..300).map(|i| format!("d{i}.a")).collect();
    let many = file(&many.iter().map(String::as_str).collect::<Vec<_>>());
    let message = Dictionaries::new(&many, 1, None).unwrap_err().to_string();
    assert!(message.contains("256") && message.contains("--state-dict"), "{message}");
    let none = Checkpoint::from_bytes(safetensors::file("{}", 0)).unwrap();
    assert!(Dictionaries::new(&none, 1, None).unwrap_err().to_string().contains("no tensors"));
}
