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
fn code_is_refused_by_name() {
    let call = |module, name| P::new().global(module, name).text("echo").op(op::TUPLE1).op(op::REDUCE).stop();
    for (module, name) in [("os", "system"), ("builtins", "eval"), ("torch", "load"), ("torch.__torch__", "f"), ("torch", "hub")]
    {
        refused_pickle(call(module, name), &["pickle byte 2", &format!("`{module}.{name}`"), "refused"]);
    }
    let stack_global = P::new().text("posix").text("system").op(op::STACK_GLOBAL).stop();
    refused_pickle(stack_global, &["posix.system"]);
    refused_pickle(P::new().text("f").op(op::EMPTY_TUPLE).op(op::REDUCE).stop(), &["REDUCE", "no name"]);
    refused_pickle(call("torch", "FloatStorage"), &["REDUCE of Storage"]);
    refused_pickle(call("__torch__.A", "B"), &["REDUCE of ScriptClass"]);
    refused_pickle(call("collections", "OrderedDict"), &["REDUCE of OrderedDict with 1"]);
    let object = P::new().global("collections", "OrderedDict").op(op::EMPTY_TUPLE).op(op::NEWOBJ).stop();
    refused_pickle(object, &["NEWOBJ"]);
    refused_pickle(P::new().op(op::EMPTY_LIST).op(op::EMPTY_DICT).op(op::BUILD).stop(), &["BUILD of a list"]);
    let long = P::new().global(&"m".repeat(5000), "n").stop();
    refused_pickle(long, &["name of at most"]);
    let strange = P::new().global("a\u{1b}[2J", "b").stop();
    refused_pickle(strange, &["\\u{1b}"]);
}

#[test]
fn every_other_opcode_is_refused_by_name_and_position() {
    for code in (0..=255).filter(|&code| op::name(code).is_none()) {
        let parts = [format!("pickle byte 3: the opcode {} (0x{code:02x})", op::refused_name(code))];
        refused_pickle(P::new().op(op::NONE).op(code).raw(&[0; 16]).stop(), &[&parts[0]]);
    }
    for (code, name) in [(b'i', "INST"), (b'o', "OBJ"), (0x82, "EXT"), (0x92, "NEWOBJ_EX"), (0x97, "NEXT_BUFFER")] {
        assert_eq!(op::refused_name(code), name);
    }
    for protocol in [0, 1, 6, 255] {
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
        b"NQ",
        b")Q",
        b"N)R",
        b"N)\x81",
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
    refused_pickle(P::new().raw(b"\x8c\x02\xff\xfe").stop(), &["UTF-8"]);
}

#[test]
fn tensors_that_do_not_fit_their_storage_are_errors() {
    const BIG: i64 = i64::MAX;
    // Elements of the storage, offset, shape, strides, what the refusal says.
    type Case = (i64, i64, &'static [i64], &'static [i64], &'static str);
    let cases: [Case; 14] = [
        (5, 0, &[1], &[1], "is not in an entry of 16 bytes"),
        (BIG, 0, &[1], &[1], "is not in an entry"),
        (-1, 0, &[1], &[1], "-1 is no size"),
        (4, -1, &[1], &[1], "-1 is no size"),
        (4, 0, &[-1], &[1], "-1 is no size"),
        (4, 0, &[2], &[-1], "-1 is no size"),
        (4, 0, &[5], &[1], "reach past"),
        (4, 1, &[4], &[1], "reach past"),
        (4, 0, &[2, 2], &[3, 1], "reach past"),
        (4, 0, &[1 << 40], &[0], "reach past"),
        (4, BIG, &[1], &[1], "overflows"),
        (4, 0, &[BIG, BIG], &[1, 1], "overflows"),
        (4, 0, &[2, 2], &[BIG, BIG], "overflows"),
        (4, 0, &[1, 1], &[1], "2 sizes and 1 strides"),
    ];
    for (elements, offset, shape, strides, part) in cases {
        refused_pickle(one_tensor(elements, offset, shape, strides), &[part]);
    }
    refused_pickle(one_tensor(4, 0, &[1; 65], &[1; 65]), &["65 dimensions"]);
    // A repeated dimension that fits its storage is fine.
    let repeated = Checkpoint::from_bytes(saved(one_tensor(4, 3, &[4], &[0]), &[&bytes(&[1.0f32, 2.0, 3.0, 4.0])])).unwrap();
    assert_eq!(f32s(&repeated, "a"), [4.0; 4]);
}

#[test]
fn unsupported_element_types_are_named_with_the_tensor() {
    let p = P::new().op(op::EMPTY_DICT).text("w").global("torch._utils", "_rebuild_tensor_v2").op(op::MARK);
    let p = p.storage("ComplexFloatStorage", "0", 2).int(0).ints(&[2]).ints(&[1]).op(op::NONE).op(op::NONE);
    refused_pickle(p.op(op::TUPLE).op(op::REDUCE).op(op::SETITEM).stop(), &["`w`", "complex64"]);
}

#[test]
fn circles_depth_and_shared_containers_are_bounded() {
    let circle = P::new().op(op::EMPTY_LIST).op(op::DUP).op(op::APPEND).stop();
    refused_pickle(circle, &["circle"]);
    let deep = (0..100_000).fold(P::new(), |p, _| p.op(op::EMPTY_LIST));
    refused_pickle((1..100_000).fold(deep, |p, _| p.op(op::APPEND)).stop(), &["nested"]);
    // 40 levels, each holding the next twice: 2⁴⁰ paths.
    let doubled = (0..40).fold(P::new().op(op::EMPTY_LIST), |p, _| p.op(op::DUP).op(op::TUPLE2));
    refused_pickle(doubled.stop(), &["values"]);
    let doubled_in_a_circle = P::new().op(op::EMPTY_LIST).op(op::DUP).op(op::APPEND).op(op::DUP).op(op::APPEND).stop();
    refused_pickle(doubled_in_a_circle, &["circle"]);
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
    for code in [op::NONE, op::MARK, op::EMPTY_DICT] {
        refused_pickle(P::new().raw(&vec![code; 3 << 20]).stop(), &["more than 2097152 values"]);
    }
    let memo = (0..3u32 << 20).fold(P::new().op(op::NONE), |p, i| p.op(op::LONG_BINPUT).raw(&i.to_le_bytes()));
    refused_pickle(memo.stop(), &["more than 2097152 values"]);
}

#[test]
fn two_tensors_of_one_name_are_refused() {
    let p = P::new().op(op::EMPTY_DICT).text("a.b").tensor(1, 0, &[1], &[1]).op(op::SETITEM);
    let p = p.text("a").op(op::EMPTY_DICT).text("b").tensor(1, 0, &[1], &[1]).op(op::SETITEM).op(op::SETITEM);
    refused_pickle(p.stop(), &["two tensors are named `a.b`"]);
    let p = P::new().op(op::EMPTY_DICT).text("a").tensor(1, 0, &[1], &[1]).op(op::SETITEM);
    refused_pickle(p.text("a").tensor(1, 0, &[1], &[1]).op(op::SETITEM).stop(), &["two tensors are named `a`"]);
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
        saved(one_tensor(4, 0, &[2, 2], &[1, 2]), &[&[0; 16]]),
    ];
    let read_all = |bytes: Vec<u8>| {
        Checkpoint::from_bytes(bytes).map(|file| {
            let file = file.state_dict();
            names(&file).into_iter().for_each(|name| drop(file.read(name)));
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
