//! Files as `torch.save` wrote them before version 1.6: built here, and one that PyTorch saved (`data/make.py`).

use super::{
    super::pytorch::opcodes as op,
    archive::{P, one_tensor},
    *,
};

const SAVED: &[u8] = include_bytes!("data/legacy.pth");
const MAGIC: &[u8] = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.";

/// The pickles before the object.
fn head(little_endian: bool) -> Vec<u8> {
    let order = if little_endian { op::NEWTRUE } else { op::NEWFALSE };
    let system = P::new().op(op::EMPTY_DICT).text("little_endian").op(order).op(op::SETITEM).stop();
    [MAGIC, &P::new().int(1001).stop(), &system].concat()
}

/// A list of storage keys.
fn keys(keys: &[&str]) -> Vec<u8> {
    keys.iter().fold(P::new().op(op::EMPTY_LIST), |p, key| p.text(key).op(op::APPEND)).stop()
}

fn storage(count: u64, data: &[u8]) -> Vec<u8> {
    [&count.to_le_bytes(), data].concat()
}

#[test]
fn a_saved_file_is_read() {
    let file = Checkpoint::from_bytes(SAVED.to_vec()).unwrap();
    assert_eq!(names(&file), ["epoch", "state_dict.half", "state_dict.permuted", "state_dict.shared", "state_dict.weight"]);
    assert_eq!(f32s(&file, "state_dict.weight"), (0..6).map(|n| n as f32).collect::<Vec<_>>());
    assert_eq!(f32s(&file, "state_dict.shared"), [2.0, 3.0]);
    assert_eq!(f32s(&file, "state_dict.permuted"), [0.0, 3.0, 1.0, 4.0, 2.0, 5.0]);
    assert_eq!(file.entries()["state_dict.half"], entry("state_dict.half", DType::F16, &[2]));
    assert_eq!(file.read("state_dict.half").unwrap(), bytes(&[0x3800u16, 0xb800]));
    assert_eq!(file.read("epoch").unwrap(), bytes(&[3i32]));
    unreadable(SAVED.to_vec(), "freqs", &["complex64"]);
}

#[test]
fn storages_lie_in_the_order_of_the_list_and_views_in_them() {
    let view = |p: P| {
        let p = p.global("torch._utils", "_rebuild_tensor").op(op::MARK).op(op::MARK).text("storage");
        let p = p.global("torch", "FloatStorage").text("0").text("cpu").int(4);
        let p = p.op(op::MARK).text("view").int(1).int(3).op(op::TUPLE).op(op::TUPLE).op(op::BINPERSID);
        p.int(1).ints(&[2]).ints(&[1]).op(op::TUPLE).op(op::REDUCE)
    };
    let bytes_of = |p: P| {
        let p = p.global("torch._utils", "_rebuild_tensor_v2").op(op::MARK).storage("ByteStorage", "1", 1);
        p.int(0).ints(&[1]).ints(&[1]).op(op::NEWFALSE).op(op::NONE).op(op::TUPLE).op(op::REDUCE)
    };
    let object = view(P::new().op(op::EMPTY_DICT).text("v")).op(op::SETITEM).text("b");
    let object = bytes_of(object).op(op::SETITEM).stop();
    let storages = [storage(1, &[9]), storage(4, &bytes(&[1.0f32, 2.0, 3.0, 4.0]))].concat();
    let file = Checkpoint::from_bytes([head(true), object, keys(&["1", "0"]), storages].concat()).unwrap();
    assert_eq!(f32s(&file, "v"), [3.0, 4.0]);
    assert_eq!(file.read("b").unwrap(), [9]);
}

#[test]
fn a_pickle_may_be_longer_than_what_is_read_at_first() {
    let object = P::new().op(op::EMPTY_DICT).text("x").text(&"long".repeat(1 << 20)).op(op::SETITEM);
    let object = object.text("a").tensor(1, 0, &[1], &[1]).op(op::SETITEM).stop();
    let file = [head(true), object, keys(&["0"]), storage(1, &bytes(&[2.5f32]))].concat();
    assert_eq!(f32s(&Checkpoint::from_bytes(file).unwrap(), "a"), [2.5]);
}

#[test]
fn what_is_damaged_is_refused() {
    let object = || one_tensor(2, 0, &[2], &[1]);
    let data = || storage(2, &[0; 8]);
    let file = |parts: &[Vec<u8>]| [vec![head(true)], parts.to_vec()].concat().concat();
    Checkpoint::from_bytes(file(&[object(), keys(&["0"]), data()])).unwrap();
    refused([head(false), object(), keys(&["0"]), data()].concat(), &["little-endian"]);
    refused([MAGIC, &P::new().int(1000).stop()].concat(), &["protocol version", "1001"]);
    refused(MAGIC.to_vec(), &["before 1.6", "protocol version", "truncated"]);
    refused(file(&[object()]), &["list of storages", "truncated"]);
    refused(file(&[object(), object(), data()]), &["no list"]);
    refused(file(&[object(), keys(&["0"]), storage(3, &[0; 12])]), &["`0`", "3 elements", "say 2"]);
    refused(file(&[object(), keys(&["0"]), storage(2, &[0; 7])]), &["truncated", "`0`", "8 bytes"]);
    refused(file(&[object(), keys(&["1"]), data()]), &["no tensor", "`1`"]);
    unreadable(file(&[object(), keys(&[])]), "a", &["not in the file"]);
}
