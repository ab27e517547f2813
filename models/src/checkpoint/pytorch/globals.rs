//! The Python names that a file of weights may mention. Nothing is imported: each has a meaning of its own here.

use super::super::place::Stored;

/// What a recognised name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Global {
    /// `torch._utils._rebuild_tensor_v2(storage, offset, size, stride, requires_grad, hooks[, metadata])`.
    RebuildTensor,
    /// `torch._utils._rebuild_parameter[_with_state](tensor, …)`: the tensor.
    RebuildParameter,
    /// `collections.OrderedDict()`.
    OrderedDict,
    /// `torch.Size(tuple)` and TorchScript's typed lists `torch.jit._pickle.…(list, …)`: the argument.
    Same,
    /// `torch.device(…)`, element types, layouts: values that say nothing about weights.
    Plain,
    /// `torch.…Storage`: an element type, or the name of one that the engine lacks.
    Storage(Result<Stored, &'static str>),
    /// A class compiled by TorchScript: a container of attributes.
    ScriptClass,
}

/// The meaning of `module.name`, if it has one here.
pub(super) fn lookup(module: &str, name: &str) -> Option<Global> {
    if module == "__torch__" || module.starts_with("__torch__.") {
        return Some(Global::ScriptClass);
    }
    Some(match (module, name) {
        ("torch._utils", "_rebuild_tensor_v2") => Global::RebuildTensor,
        ("torch._utils", "_rebuild_parameter" | "_rebuild_parameter_with_state") => Global::RebuildParameter,
        ("collections", "OrderedDict") => Global::OrderedDict,
        ("torch", "Size") => Global::Same,
        ("torch.jit._pickle", "build_intlist" | "build_doublelist" | "build_boollist" | "build_tensorlist") => Global::Same,
        ("torch.jit._pickle", "restore_type_tag") => Global::Same,
        ("torch", "device" | "strided") => Global::Plain,
        ("torch", "float64" | "float32" | "float16" | "bfloat16" | "uint8" | "int8" | "int16" | "int32" | "int64" | "bool") => {
            Global::Plain
        }
        ("torch", storage) => Global::Storage(storage_type(storage)?),
        _ => return None,
    })
}

fn storage_type(name: &str) -> Option<Result<Stored, &'static str>> {
    Some(match name {
        "DoubleStorage" => Ok(Stored::F64),
        "FloatStorage" => Ok(Stored::F32),
        "BFloat16Storage" => Ok(Stored::BF16),
        "HalfStorage" => Ok(Stored::F16),
        "ByteStorage" => Ok(Stored::U8),
        "BoolStorage" => Ok(Stored::Bool),
        "IntStorage" => Ok(Stored::I32),
        "LongStorage" => Ok(Stored::I64),
        "CharStorage" => Err("int8"),
        "ShortStorage" => Err("int16"),
        "ComplexFloatStorage" => Err("complex64"),
        "ComplexDoubleStorage" => Err("complex128"),
        "QInt8Storage" => Err("qint8"),
        "QUInt8Storage" => Err("quint8"),
        "QInt32Storage" => Err("qint32"),
        _ => return None,
    })
}
