//! Writes archives and pickles, good and bad.

use std::io::Write;

use super::super::pytorch::opcodes as op;

/// A zip archive of stored entries.
pub(super) fn zip(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut archive = rawzip::ZipArchiveWriter::new(&mut out);
    for (name, data) in entries {
        let (mut entry, config) = archive.new_file(*name).start().unwrap();
        let mut writer = config.wrap(&mut entry);
        writer.write_all(data).unwrap();
        let (_, descriptor) = writer.finish().unwrap();
        entry.finish(descriptor).unwrap();
    }
    archive.finish().unwrap();
    out
}

/// An archive of a pickle and the storages `0`, `1` …
pub(super) fn saved(pickle: Vec<u8>, storages: &[&[u8]]) -> Vec<u8> {
    let names: Vec<String> = (0..storages.len()).map(|i| format!("x/data/{i}")).collect();
    let mut entries = vec![("x/data.pkl", pickle.as_slice())];
    entries.extend(names.iter().map(String::as_str).zip(storages.iter().copied()));
    zip(&entries)
}

/// A pickle under construction.
#[derive(Clone)]
pub(super) struct P(pub(super) Vec<u8>);

impl P {
    pub(super) fn new() -> Self {
        P(vec![op::PROTO, 2])
    }

    pub(super) fn op(mut self, code: u8) -> Self {
        self.0.push(code);
        self
    }

    pub(super) fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend(bytes);
        self
    }

    /// `{"a": tensor}` beside what `beside` pushes, under the key `x`.
    pub(super) fn beside(beside: impl FnOnce(P) -> P) -> Self {
        let p = P::new().op(op::EMPTY_DICT).text("a").tensor(1, 0, &[1], &[1]).op(op::SETITEM);
        beside(p.text("x")).op(op::SETITEM)
    }

    pub(super) fn global(self, module: &str, name: &str) -> Self {
        self.op(op::GLOBAL).raw(format!("{module}\n{name}\n").as_bytes())
    }

    pub(super) fn text(self, text: &str) -> Self {
        self.op(op::BINUNICODE).raw(&(text.len() as u32).to_le_bytes()).raw(text.as_bytes())
    }

    /// Any integer of 64 bits.
    pub(super) fn int(self, n: i64) -> Self {
        self.op(op::LONG1).op(8).raw(&n.to_le_bytes())
    }

    pub(super) fn ints(self, values: &[i64]) -> Self {
        values.iter().fold(self.op(op::MARK), |p, &n| p.int(n)).op(op::TUPLE)
    }

    /// Storage number `key` of `elements` elements.
    pub(super) fn storage(self, storage: &str, key: &str, elements: i64) -> Self {
        let p = self.op(op::MARK).text("storage").global("torch", storage).text(key).text("cpu").int(elements);
        p.op(op::TUPLE).op(op::BINPERSID)
    }

    /// A f32 tensor over storage `0`.
    pub(super) fn tensor(self, elements: i64, offset: i64, shape: &[i64], strides: &[i64]) -> Self {
        let p = self.global("torch._utils", "_rebuild_tensor_v2").op(op::MARK).storage("FloatStorage", "0", elements);
        p.int(offset).ints(shape).ints(strides).op(op::NEWFALSE).op(op::NONE).op(op::TUPLE).op(op::REDUCE)
    }

    pub(super) fn stop(self) -> Vec<u8> {
        self.op(op::STOP).0
    }
}

/// `{"a": tensor}` over storage `0` of f32.
pub(super) fn one_tensor(elements: i64, offset: i64, shape: &[i64], strides: &[i64]) -> Vec<u8> {
    P::new().op(op::EMPTY_DICT).text("a").tensor(elements, offset, shape, strides).op(op::SETITEM).stop()
}
