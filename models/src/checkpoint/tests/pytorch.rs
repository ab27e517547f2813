use super::{
    super::pytorch::opcodes as op,
    archive::{P, one_tensor, saved, zip},
    *,
};

const SAVED: &[u8] = include_bytes!("data/saved.pth");
const SCRIPT: &[u8] = include_bytes!("data/script.pt");

fn open(bytes: &[u8]) -> Checkpoint {
    Checkpoint::from_bytes(bytes.to_vec()).unwrap()
}

#[test]
fn a_saved_training_state_gives_its_weights() {
    let all = open(SAVED);
    assert!(all.entries().contains_key("optimizer_state.state.0.exp_avg"));
    assert!(all.entries().contains_key("model_state.module.fc.weight"));
    let file = dictionary(all, "model_state.module");
    let network = ["bn.bias", "bn.num_batches_tracked", "bn.running_mean", "bn.running_var", "bn.weight"];
    assert_eq!(names(&file)[..5], network);
    assert_eq!(names(&file)[5..9], ["fc.bias", "fc.weight", "layers.0.weight", "scale"]);
    assert_eq!(file.entries().len(), 9 + 12);
    assert_eq!(file.entries()["fc.weight"], entry("fc.weight", DType::F32, &[2, 3]));
    assert_eq!(f32s(&file, "fc.weight"), [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
    assert_eq!(f32s(&file, "fc.bias"), [7.0, 8.0]);
    assert_eq!(file.entries()["bn.num_batches_tracked"], entry("bn.num_batches_tracked", DType::I32, &[]));
    assert_eq!(file.read("bn.num_batches_tracked").unwrap(), bytes(&[5i32]));
}

#[test]
fn saved_views_are_gathered() {
    let file = dictionary(open(SAVED), "model_state.module");
    let at = |i: usize, j: usize, k: usize| (12 * i + 4 * j + k) as f32;
    let permuted: Vec<f32> = (0..24).map(|n| at(n / 3 % 2, n % 3, n / 6)).collect();
    assert_eq!(file.entries()["t.permuted"].shape, [4, 2, 3]);
    assert_eq!(f32s(&file, "t.permuted"), permuted);
    assert_eq!(file.entries()["t.sliced"].shape, [2, 2, 2]);
    assert_eq!(f32s(&file, "t.sliced"), [4.0, 6.0, 8.0, 10.0, 16.0, 18.0, 20.0, 22.0]);
    assert_eq!(file.entries()["t.channels_last"].shape, [1, 2, 3, 4]);
    assert_eq!(f32s(&file, "t.channels_last"), (0..24).map(|n| n as f32).collect::<Vec<_>>());
}

#[test]
fn saved_element_types_are_read() {
    let file = dictionary(open(SAVED), "model_state.module");
    let cases: [(&str, DType, &[usize], Vec<u8>); 9] = [
        ("scale", DType::F16, &[2], bytes(&[0x3800u16, 0xb800])),
        ("t.bf16", DType::BF16, &[2], bytes(&[0x3fc0u16, 0xc000])),
        ("t.f64", DType::F64, &[2], bytes(&[1.5f64, -2.0])),
        ("t.u8", DType::U8, &[2], vec![1, 255]),
        ("t.bool", DType::U8, &[2], vec![1, 0]),
        ("t.i32", DType::I32, &[2], bytes(&[1i32, -2])),
        ("t.i64", DType::I32, &[2, 1], bytes(&[3i32, -4])),
        ("t.scalar", DType::F32, &[], bytes(&[3.5f32])),
        ("t.empty", DType::F32, &[0, 3], vec![]),
    ];
    for (name, dtype, shape, data) in cases {
        assert_eq!(file.entries()[name], entry(name, dtype, shape));
        assert_eq!(file.read(name).unwrap(), data, "{name}");
    }
    assert_eq!(f32s(&file, "t.parameter"), [9.0]);
}

#[test]
fn torchscript_attributes_are_read_without_the_code() {
    let file = open(SCRIPT);
    let expected = ["bn.bias", "bn.num_batches_tracked", "bn.running_mean", "bn.running_var", "bn.weight"];
    assert_eq!(names(&file)[..5], expected);
    assert_eq!(names(&file)[5..], ["fc.bias", "fc.weight", "layers.0.weight", "scale"]);
    assert_eq!(f32s(&file, "fc.weight"), [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
    assert_eq!(f32s(&file, "layers.0.weight"), [1.0, 0.0, 0.0, 1.0]);
}

#[test]
fn a_bare_tensor_and_lists_have_names() {
    let file = open(&saved(P::new().tensor(1, 0, &[], &[]).stop(), &[&bytes(&[2.5f32])]));
    assert_eq!(f32s(&file, "tensor"), [2.5]);
    let list = P::new().op(op::EMPTY_LIST).int(1).op(op::APPEND).tensor(1, 0, &[1], &[1]).op(op::APPEND).stop();
    assert_eq!(names(&open(&saved(list, &[&[0; 4]]))), ["1"]);
}

#[test]
fn pickled_protocol_4_reads_the_same() {
    let p = P::new().raw(&[op::PROTO, 4, op::FRAME]).raw(&[9; 8]).op(op::EMPTY_DICT).op(op::MEMOIZE);
    let p = p.op(op::SHORT_BINUNICODE).op(1).raw(b"a").op(op::MEMOIZE).op(op::SHORT_BINUNICODE).op(12).raw(b"torch._utils");
    let p = p.op(op::SHORT_BINUNICODE).op(18).raw(b"_rebuild_tensor_v2").op(op::STACK_GLOBAL).op(op::MARK);
    let p = p.storage("FloatStorage", "0", 2).int(0).int(2).op(op::TUPLE1).int(1).op(op::TUPLE1).op(op::NEWFALSE);
    let p = p.op(op::NONE).op(op::TUPLE).op(op::REDUCE).op(op::SETITEM).op(op::BINGET).op(0);
    assert_eq!(f32s(&open(&saved(p.stop(), &[&bytes(&[1.0f32, 2.0])])), "a"), [1.0, 2.0]);
}

#[test]
fn only_storages_in_little_endian_order_and_uncompressed_are_read() {
    let (pickle, data) = (one_tensor(1, 0, &[1], &[1]), [0; 4]);
    let with = |order: &[u8]| zip(&[("x/data.pkl", &pickle), ("x/byteorder", order), ("x/data/0", &data)]);
    open(&with(b"little"));
    refused(with(b"big"), &["little-endian"]);
    open(&zip(&[("data.pkl", &pickle), ("data/0", &data)]));
    unreadable(zip(&[("x/data.pkl", &pickle), ("y/data/0", &data)]), "a", &["`x/data/0` is missing"]);
    refused(zip(&[("x/data.pkl", &pickle), ("y/data.pkl", &pickle)]), &["several"]);
    refused(zip(&[("x/mydata.pkl", &pickle)]), &["without `data.pkl`"]);
    refused(zip(&[("x/data.pkl", &pickle), ("x/data/0", &data), ("x/data/0", &data)]), &["`x/data/0` is there twice"]);
    // Compression method 8 (deflate) in the table of contents: two bytes at 10 after each signature.
    let mut deflated = saved(pickle, &[&data]);
    let headers: Vec<usize> = (0..deflated.len() - 4).filter(|&i| deflated[i..].starts_with(b"PK\x01\x02")).collect();
    deflated[headers[1] + 10] = 8;
    unreadable(deflated, "a", &["`x/data/0` is compressed"]);
}
