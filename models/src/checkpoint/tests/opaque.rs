//! Whatever lies beside tensors in a pickle is passed over.

use super::{
    super::pytorch::opcodes as op,
    archive::{P, saved},
    *,
};

/// The tensor `a` is read, whatever `beside` pushes.
fn passes_over(beside: impl FnOnce(P) -> P) {
    let file = Checkpoint::from_bytes(saved(P::beside(beside).stop(), &[&bytes(&[2.5f32])])).unwrap();
    assert_eq!(names(&file), ["a"]);
    assert_eq!(f32s(&file, "a"), [2.5]);
}

#[test]
fn code_is_not_run() {
    let names = [("os", "system"), ("builtins", "eval"), ("torch", "load"), ("torch.__torch__", "f"), ("torch", "hub")];
    for (module, name) in names {
        passes_over(|p| p.global(module, name).text("echo").op(op::TUPLE1).op(op::REDUCE));
        passes_over(|p| p.text(module).text(name).op(op::STACK_GLOBAL).op(op::EMPTY_TUPLE).op(op::NEWOBJ));
    }
    // What is called is no name, or a name of something else.
    passes_over(|p| p.text("f").op(op::EMPTY_TUPLE).op(op::REDUCE));
    passes_over(|p| p.global("torch", "FloatStorage").op(op::EMPTY_TUPLE).op(op::REDUCE));
    passes_over(|p| p.global("torch._utils", "_rebuild_parameter").op(op::EMPTY_TUPLE).op(op::REDUCE));
    passes_over(|p| p.global(&"m".repeat(5000), "n"));
    passes_over(|p| p.raw(b"c\xff\xfe\nname\n"));
}

#[test]
fn objects_of_every_protocol_are_not_constructed() {
    let state = |p: P| p.op(op::EMPTY_DICT).text("lr").op(op::BINFLOAT).raw(&[0; 8]).op(op::SETITEM).op(op::BUILD);
    passes_over(|p| state(p.global("argparse", "Namespace").op(op::EMPTY_TUPLE).op(op::NEWOBJ)));
    passes_over(|p| state(p.global("m", "C").op(op::EMPTY_TUPLE).op(op::EMPTY_DICT).op(op::NEWOBJ_EX)));
    passes_over(|p| state(p.op(op::MARK).text("argument").raw(b"im\nC\n")));
    passes_over(|p| state(p.op(op::MARK).global("m", "C").text("argument").op(op::OBJ)));
    passes_over(|p| p.op(op::EXT1).op(1).op(op::POP).op(op::EXT2).raw(&[1, 0]).op(op::POP).op(op::EXT4).raw(&[0; 4]));
    passes_over(|p| p.raw(b"Psome id\n").op(op::POP).text("another").op(op::BINPERSID));
    let scalar = |p: P| p.global("numpy._core.multiarray", "scalar").op(op::NONE).op(op::NONE).op(op::TUPLE2).op(op::REDUCE);
    passes_over(scalar);
    // Sets, buffers, numbers and text of protocols 0 and 1.
    passes_over(|p| p.op(op::EMPTY_SET).op(op::MARK).int(1).op(op::ADDITEMS));
    passes_over(|p| p.op(op::MARK).int(1).op(op::FROZENSET));
    passes_over(|p| p.raw(b"\x96\x02\0\0\0\0\0\0\0ab").op(op::POP).op(op::NEXT_BUFFER).op(op::READONLY_BUFFER));
    passes_over(|p| p.raw(b"I01\nL1208925819614629174706176L\nF0.5\nS'it'\nV\\u00e9\n").op(op::TUPLE3).op(op::TUPLE3));
    passes_over(|p| p.raw(b"(I1\nI2\nl").raw(b"p300\n0g300\n"));
    passes_over(|p| p.raw(b"(V1\nI2\nd"));
    passes_over(|p| p.op(op::MARK).op(op::POP).raw(b"\x8c\x02\xff\xfe"));
    // A dictionary of a class of its own, and a list of one.
    passes_over(|p| p.global("m", "D").op(op::EMPTY_TUPLE).op(op::NEWOBJ).text("k").int(1).op(op::SETITEM));
    passes_over(|p| p.global("m", "L").op(op::EMPTY_TUPLE).op(op::NEWOBJ).int(1).op(op::APPEND));
    let list = |p: P| p.global("builtins", "list").op(op::TUPLE1).op(op::REDUCE);
    passes_over(|p| list(p.global("collections", "defaultdict")).text("k").int(1).op(op::SETITEM));
}

#[test]
fn long_lists_take_no_memory() {
    let values = vec![op::NEWTRUE; 1 << 20];
    // More in all than may be kept at one time.
    passes_over(|p| (0..20).fold(p.op(op::EMPTY_LIST), |p, _| p.op(op::MARK).raw(&values).op(op::APPENDS)));
}

#[test]
fn tensors_in_attributes_of_objects_have_names() {
    let p = P::new().global("m", "Module").op(op::EMPTY_TUPLE).op(op::NEWOBJ).op(op::EMPTY_DICT).text("_parameters");
    let p = p.global("collections", "OrderedDict").op(op::EMPTY_TUPLE).op(op::REDUCE);
    let p = p.text("w").tensor(1, 0, &[1], &[1]).op(op::SETITEM).op(op::SETITEM).op(op::BUILD);
    let file = Checkpoint::from_bytes(saved(p.stop(), &[&bytes(&[2.5f32])])).unwrap();
    assert_eq!(names(&file), ["_parameters.w"]);
    assert_eq!(names(&dictionary(file, "_parameters")), ["w"]);
}

/// Pushes what `_rebuild_tensor_v2` gets up to its hooks, of three f32 numbers.
fn arguments(p: P, storage: &str) -> P {
    let p = p.op(op::MARK).storage(storage, "0", 3).int(0).ints(&[3]).ints(&[1]);
    p.op(op::NEWFALSE).op(op::NONE)
}

/// `{"a": …}` of what `push` pushes, over the numbers 1, -2 and 3 in `data`.
fn one(data: &[u8], push: impl FnOnce(P) -> P) -> Vec<u8> {
    saved(push(P::new().op(op::EMPTY_DICT).text("a")).op(op::SETITEM).stop(), &[data])
}

#[test]
fn metadata_is_applied_or_named() {
    let flag = |key: &'static str, storage: &'static str| {
        move |p: P| {
            let p = arguments(p.global("torch._utils", "_rebuild_tensor_v2"), storage);
            p.op(op::EMPTY_DICT).text(key).op(op::NEWTRUE).op(op::SETITEM).op(op::TUPLE).op(op::REDUCE)
        }
    };
    let floats = bytes(&[1.0f32, -2.0, 3.0]);
    let negative = Checkpoint::from_bytes(one(&floats, flag("neg", "FloatStorage"))).unwrap();
    assert_eq!(f32s(&negative, "a"), [-1.0, 2.0, -3.0]);
    let negative = Checkpoint::from_bytes(one(&bytes(&[1i64, -2, 3]), flag("neg", "LongStorage"))).unwrap();
    assert_eq!(negative.read("a").unwrap(), bytes(&[-1i32, 2, -3]));
    let unsigned = one(&[1, 2, 3], flag("neg", "ByteStorage"));
    unreadable(unsigned, "a", &["unsigned"]);
    unreadable(one(&floats, flag("conj", "FloatStorage")), "a", &["conjugate"]);
    unreadable(one(&floats, flag("strange", "FloatStorage")), "a", &["`strange`"]);
}

#[test]
fn forms_of_tensors_are_read_or_named() {
    let floats = bytes(&[1.0f32, -2.0, 3.0]);
    let reads = |data: &[u8], push: &dyn Fn(P) -> P| Checkpoint::from_bytes(one(data, push)).unwrap();
    let v2 = |p: P| arguments(p.global("torch._utils", "_rebuild_tensor_v2"), "FloatStorage").op(op::TUPLE).op(op::REDUCE);
    let parameter = |p: P| v2(p.global("torch._utils", "_rebuild_parameter_with_state")).op(op::TUPLE1).op(op::REDUCE);
    assert_eq!(f32s(&reads(&floats, &parameter), "a"), [1.0, -2.0, 3.0]);
    let of_type = |p: P| {
        let p = p.global("torch._tensor", "_rebuild_from_type_v2").op(op::MARK);
        let p = p.global("torch._utils", "_rebuild_tensor_v2").global("m", "Kind");
        arguments(p, "FloatStorage").op(op::TUPLE).op(op::NONE).op(op::TUPLE).op(op::REDUCE)
    };
    assert_eq!(f32s(&reads(&floats, &of_type), "a"), [1.0, -2.0, 3.0]);
    let typed = |name: &'static str, bytes: i64| {
        move |p: P| {
            let p = p.global("torch._utils", "_rebuild_tensor_v3").op(op::MARK).storage("UntypedStorage", "0", bytes);
            let p = p.int(0).ints(&[3]).ints(&[1]).op(op::NEWFALSE).op(op::NONE);
            p.global("torch", name).op(op::TUPLE).op(op::REDUCE)
        }
    };
    let shorts = reads(&bytes(&[1u16, 40000, 3]), &typed("uint16", 6));
    assert_eq!(shorts.read("a").unwrap(), bytes(&[1i32, 40000, 3]));
    unreadable(one(&[0; 3], typed("float8_e4m3fn", 3)), "a", &["float8_e4m3fn"]);
    for (function, what) in
        [("_rebuild_sparse_tensor", "sparse"), ("_rebuild_qtensor", "quantised"), ("_rebuild_meta_tensor_no_storage", "meta")]
    {
        let form = |p: P| p.global("torch._utils", function).op(op::EMPTY_TUPLE).op(op::REDUCE);
        unreadable(one(&floats, form), "a", &[what]);
    }
    let array =
        |p: P| p.global("numpy.core.multiarray", "_reconstruct").op(op::EMPTY_TUPLE).op(op::REDUCE).op(op::NONE).op(op::BUILD);
    unreadable(one(&floats, array), "a", &["numpy array"]);
    let short = |p: P| p.global("torch._utils", "_rebuild_tensor_v2").op(op::EMPTY_TUPLE).op(op::REDUCE);
    unreadable(one(&floats, short), "a", &["0 arguments"]);
}
