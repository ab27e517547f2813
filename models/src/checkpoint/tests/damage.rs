//! Hostile and damaged PyTorch archives: each ends in an error that says what is wrong.

use super::{
    super::pytorch::opcodes as op,
    archive::{P, one_tensor, saved},
    *,
};

fn refused_pickle(pickle: Vec<u8>, parts: &[&str]) {
    refused(saved(pickle, &[&[0; 16]]), parts);
}

#[test]
fn bytes_that_are_no_opcodes_are_refused_by_position() {
    for code in (0..=255).filter(|&code| !op::is_known(code)) {
        let part = format!("pickle byte 3: the byte 0x{code:02x} is no opcode");
        refused_pickle(P::new().op(op::NONE).op(code).raw(&[0; 16]).stop(), &[&part]);
    }
    for protocol in [6, 255] {
        refused_pickle(vec![op::PROTO, protocol, op::NONE, op::STOP], &["protocol"]);
    }
}

#[test]
fn a_broken_stack_is_an_error() {
    let opcodes: &[&[u8]] = &[
        b".",
        b"0",
        b"1",
        b"2",
        b"a",
        b"e",
        b"s",
        b"u",
        b"R",
        b"b",
        b"t",
        b"Q",
        b"\x81",
        b"\x93",
        b"q\x00",
        b"h\x07",
        b"N\x86.",
        b"N(\x85.",
        b"NN(\x86t.",
        b"N(.",
        b"NNa",
        b"N(Ne",
        b"}(Nu",
        b"N(NNu",
        b"]NNs",
        b"Q",
        b")R",
        b")\x81",
        b"N)\x92",
        b"gx\n",
        b"p0\n",
        b"o",
        b"ios\nsystem\n",
        b"d",
        b"l",
        b"(Nd",
        b"\x90",
        b"(\x90",
        b"\x91",
        b"\x98",
        b"NN\x93",
    ];
    for code in opcodes {
        refused_pickle(P::new().raw(code).stop(), &["pickle byte"]);
    }
}

#[test]
fn lengths_beyond_the_end_are_errors() {
    let cases: [&[u8]; 8] = [
        b"X\xff\xff\xff\xff",
        b"\x8d\xff\xff\xff\xff\xff\xff\xff\xff",
        b"B\xff\xff\xff\x7f",
        b"\x8c\x09a",
        b"G1",
        b"\x8b\xff\xff\xff\xff",
        b"J1",
        b"\x8a\x09",
    ];
    for code in cases {
        refused_pickle(P::new().raw(code).0, &["truncated"]);
    }
    refused_pickle(P::new().op(op::NONE).0, &["truncated"]);
    refused_pickle(vec![], &["truncated"]);
    refused_pickle(P::new().raw(b"L123").0, &["truncated"]);
}

#[test]
fn tensors_that_do_not_fit_their_storage_are_errors() {
    const BIG: i64 = i64::MAX;
    // Elements of the storage, offset, shape, strides, what the refusal says.
    type Case = (i64, i64, &'static [i64], &'static [i64], &'static str);
    let cases: [Case; 12] = [
        (5, 0, &[1], &[1], "is not in an entry of 16 bytes"),
        (BIG, 0, &[1], &[1], "is not in an entry"),
        (4, -1, &[1], &[1], "-1 is no size"),
        (4, 0, &[-1], &[1], "-1 is no size"),
        (4, 0, &[2], &[-1], "-1 is no size"),
        (4, 0, &[5], &[1], "reach past"),
        (4, 1, &[4], &[1], "reach past"),
        (4, 0, &[2, 2], &[3, 1], "reach past"),
        (4, BIG, &[1], &[1], "overflows"),
        (4, 0, &[BIG, BIG], &[1, 1], "overflows"),
        (4, 0, &[2, 2], &[BIG, BIG], "overflows"),
        (4, 0, &[1, 1], &[1], "2 sizes and 1 strides"),
    ];
    for (elements, offset, shape, strides, part) in cases {
        unreadable(saved(one_tensor(elements, offset, shape, strides), &[&[0; 16]]), "a", &[part]);
    }
    unreadable(saved(one_tensor(4, 0, &[1; 65], &[1; 65]), &[&[0; 16]]), "a", &["65 dimensions"]);
    refused_pickle(one_tensor(-1, 0, &[1], &[1]), &["a storage of -1 elements"]);
    // A repeated dimension is fine.
    let repeated = Checkpoint::from_bytes(saved(one_tensor(4, 3, &[5], &[0]), &[&bytes(&[1.0f32, 2.0, 3.0, 4.0])])).unwrap();
    assert_eq!(f32s(&repeated, "a"), [4.0; 5]);
}

#[test]
fn unsupported_element_types_are_named_with_the_tensor() {
    let p = P::new().op(op::EMPTY_DICT).text("w").global("torch._utils", "_rebuild_tensor_v2").op(op::MARK);
    let p = p.storage("ComplexFloatStorage", "0", 2).int(0).ints(&[2]).ints(&[1]).op(op::NONE).op(op::NONE);
    unreadable(saved(p.op(op::TUPLE).op(op::REDUCE).op(op::SETITEM).stop(), &[&[0; 16]]), "w", &["complex64"]);
}

#[test]
fn circles_depth_and_shared_containers_are_bounded() {
    let opens = |p: P, expected: &[&str]| {
        let file = Checkpoint::from_bytes(saved(p.stop(), &[&[0; 16]])).unwrap();
        assert_eq!(names(&file), expected);
    };
    let circle = P::new().op(op::EMPTY_LIST).op(op::DUP).op(op::APPEND);
    opens(circle.clone(), &[]);
    opens(circle.tensor(1, 0, &[1], &[1]).op(op::APPEND), &["1"]);
    let deep = |p: P| (1..100_000).fold(p, |p, _| p.op(op::TUPLE1));
    opens(deep(P::new().op(op::EMPTY_LIST)), &[]);
    let file = Checkpoint::from_bytes(saved(deep(P::new().tensor(1, 0, &[1], &[1])).stop(), &[&[0; 16]])).unwrap();
    assert!(file.unreadable().all(|(name, _, reason)| name.starts_with("0.0.0") && reason.contains("nested")));
    assert_eq!((names(&file).len(), file.unreadable().count()), (0, 1));
    // 40 levels, each holding the next twice: 2⁴⁰ paths, first without and then with a tensor at their ends.
    let doubled = |p: P| (0..40).fold(p, |p, _| p.op(op::DUP).op(op::TUPLE2));
    opens(doubled(P::new().op(op::EMPTY_LIST)), &[]);
    refused_pickle(doubled(P::new().tensor(1, 0, &[1], &[1])).stop(), &["paths lead to tensors"]);
    // One long key, used for 20 levels twice each.
    let key = "k".repeat(1 << 10);
    let p = P::new().text(&key).op(op::BINPUT).op(0).op(op::POP).text(&"l".repeat(1 << 10)).op(op::BINPUT).op(1).op(op::POP);
    let p = (0..20).fold(p.tensor(1, 0, &[], &[]), |p, i| {
        let p = p.op(op::BINPUT).op(i + 2).op(op::POP).op(op::EMPTY_DICT);
        (0..2).fold(p, |p, k| p.op(op::BINGET).op(k).op(op::BINGET).op(i + 2).op(op::SETITEM))
    });
    refused_pickle(p.stop(), &["names"]);
}

#[test]
fn too_many_values_are_refused_before_they_fill_the_memory() {
    for code in [op::NONE, op::MARK, op::EMPTY_TUPLE] {
        refused_pickle(P::new().raw(&vec![code; 17 << 20]).stop(), &["more than 16777216 values"]);
    }
}

#[test]
fn tensors_of_one_name_are_not_mistaken_for_each_other() {
    let p = P::new().op(op::EMPTY_DICT).text("a.b").tensor(1, 0, &[1], &[1]).op(op::SETITEM);
    let p = p.text("a").op(op::EMPTY_DICT).text("b").tensor(1, 0, &[1], &[1]).op(op::SETITEM).op(op::SETITEM);
    unreadable(saved(p.stop(), &[&[0; 16]]), "a.b", &["two tensors"]);
    // Of one key that is set twice the last value counts, as in Python.
    let p = P::new().op(op::EMPTY_DICT).text("a").tensor(4, 0, &[1], &[1]).op(op::SETITEM);
    let p = p.text("a").tensor(4, 1, &[1], &[1]).op(op::SETITEM);
    let file = Checkpoint::from_bytes(saved(p.stop(), &[&bytes(&[1.0f32, 2.0, 3.0, 4.0])])).unwrap();
    assert_eq!(f32s(&file, "a"), [2.0]);
}

#[test]
fn corrupt_data_is_found_by_its_checksum() {
    let data = bytes(&[1.0f32, 2.0, 3.0, 4.0]);
    let mut file = saved(one_tensor(4, 0, &[4], &[1]), &[&data]);
    let at = file.windows(16).position(|w| w == data).unwrap();
    file[at + 3] ^= 1;
    let error = Checkpoint::from_bytes(file.clone()).unwrap().read("a").unwrap_err().to_string();
    assert!(error.contains("`a`") && error.contains("CRC-32"), "{error}");
    let at = file.windows(8).position(|w| w == b"_rebuild").unwrap();
    file[at] ^= 1;
    refused(file, &["data.pkl` is corrupt"]);
}

/// No truncation and no flipped byte panics, and no truncation passes.
#[test]
fn truncated_and_altered_files_end_in_values_or_errors() {
    let header = r#"{"__metadata__":{"k":"v"},"a":{"dtype":"I64","shape":[1],"data_offsets":[0,8]}}"#;
    let files = [
        safetensors::file(header, 8),
        include_bytes!("data/saved.pth").to_vec(),
        include_bytes!("data/script.pt").to_vec(),
        include_bytes!("data/legacy.pth").to_vec(),
        saved(one_tensor(4, 0, &[2, 2], &[1, 2]), &[&[0; 16]]),
    ];
    let read_all = |bytes: Vec<u8>| {
        Checkpoint::from_bytes(bytes).map(|file| {
            let small = |name: &&str| file.entries()[*name].bytes().is_ok_and(|bytes| bytes < 1 << 20);
            names(&file).into_iter().filter(small).for_each(|name| drop(file.read(name)));
            let _ = Dictionaries::new(&file, 1, None);
        })
    };
    for file in files {
        read_all(file.clone()).unwrap();
        for length in 0..file.len() {
            assert!(read_all(file[..length].to_vec()).is_err(), "cut to {length} bytes of {}", file.len());
        }
        for at in 0..file.len() {
            for mask in [0x01, 0x80, 0xff] {
                let mut altered = file.clone();
                altered[at] ^= mask;
                let _ = read_all(altered);
            }
        }
    }
}
