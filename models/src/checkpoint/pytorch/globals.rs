//! The Python names that have a meaning here. Nothing is imported: every other name stands for a class that is passed over.

use super::{super::place::Stored, value::ElementType};

/// What a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Global<'a> {
    /// `torch._utils._rebuild_tensor(storage, offset, size, stride)`, as `_v2` with
    /// `requires_grad, hooks[, metadata]` behind it.
    RebuildTensor,
    /// `torch._utils._rebuild_tensor_v3(storage, offset, size, stride, requires_grad, hooks, dtype[, metadata])`: the storage is untyped.
    RebuildTyped,
    /// `torch._utils._rebuild_parameter[_with_state](tensor, …)`: the tensor.
    RebuildParameter,
    /// `torch._tensor._rebuild_from_type_v2(function, type, arguments, state)`: what the function makes of the arguments.
    RebuildFromType,
    /// A tensor or an array in a form that is not read: what it is.
    Unreadable(&'static str),
    /// `collections.OrderedDict()`, also of a list of pairs, and `defaultdict`.
    Dict,
    /// `torch.Size(tuple)` and TorchScript's typed lists `torch.jit._pickle.…(list, …)`: the argument.
    Same,
    /// `torch.…Storage`, or an element type such as `torch.uint16`.
    Element(ElementType<'a>),
    /// Any other name.
    Other { module: &'a [u8], name: &'a [u8] },
}

/// The meaning of `module.name`.
pub(super) fn lookup<'a>(module: &'a [u8], name: &'a [u8]) -> Global<'a> {
    let other = Global::Other { module, name };
    let (Ok(module), Ok(name)) = (std::str::from_utf8(module), std::str::from_utf8(name)) else { return other };
    match (module, name) {
        ("torch._utils", "_rebuild_tensor" | "_rebuild_tensor_v2") => Global::RebuildTensor,
        ("torch._utils", "_rebuild_tensor_v3") => Global::RebuildTyped,
        ("torch._utils", "_rebuild_parameter" | "_rebuild_parameter_with_state") => Global::RebuildParameter,
        ("torch._tensor", "_rebuild_from_type_v2") => Global::RebuildFromType,
        ("torch._utils", name) => unreadable(name).map_or(other, Global::Unreadable),
        ("numpy.core.multiarray" | "numpy._core.multiarray", "_reconstruct") => Global::Unreadable("a numpy array"),
        ("numpy.core.numeric" | "numpy._core.numeric", "_frombuffer") => Global::Unreadable("a numpy array"),
        ("collections", "OrderedDict" | "defaultdict") => Global::Dict,
        ("torch", "Size") => Global::Same,
        ("torch.jit._pickle", "build_intlist" | "build_doublelist" | "build_boollist" | "build_tensorlist") => Global::Same,
        ("torch.jit._pickle", "restore_type_tag") => Global::Same,
        ("torch" | "torch.cuda" | "torch.storage", name) => element_type(name).map_or(other, Global::Element),
        _ => other,
    }
}

/// What a function of `torch._utils` rebuilds that is not read.
fn unreadable(function: &str) -> Option<&'static str> {
    Some(match function {
        "_rebuild_qtensor" => "a quantised tensor",
        "_rebuild_sparse_tensor" | "_rebuild_sparse_csr_tensor" => "a sparse tensor",
        "_rebuild_nested_tensor" => "a nested tensor",
        "_rebuild_meta_tensor_no_storage" => "a tensor on the meta device, which has no data",
        "_rebuild_device_tensor_from_numpy" => "a tensor of another device, saved as a numpy array",
        "_rebuild_device_tensor_from_cpu_tensor" => "a tensor of another device",
        "_rebuild_wrapper_subclass" => "a tensor of a class of its own, without data",
        name if name.starts_with("_rebuild_") => "a tensor in a form that this version does not know",
        _ => return None,
    })
}

/// An element type by the name of its storage's class, or by its own.
fn element_type(name: &str) -> Option<ElementType<'_>> {
    let known = |stored| Some(ElementType::Known(stored));
    let other = |name, size| Some(ElementType::Other(name, Some(size)));
    match name {
        "DoubleStorage" | "float64" => known(Stored::F64),
        "FloatStorage" | "float32" => known(Stored::F32),
        "BFloat16Storage" | "bfloat16" => known(Stored::BF16),
        "HalfStorage" | "float16" => known(Stored::F16),
        "BoolStorage" | "bool" => known(Stored::Bool),
        "ByteStorage" | "uint8" => known(Stored::U8),
        "CharStorage" | "int8" => known(Stored::I8),
        "ShortStorage" | "int16" => known(Stored::I16),
        "IntStorage" | "int32" => known(Stored::I32),
        "LongStorage" | "int64" => known(Stored::I64),
        "uint16" => known(Stored::U16),
        "uint32" => known(Stored::U32),
        "uint64" => known(Stored::U64),
        "UntypedStorage" => Some(ElementType::Untyped),
        "ComplexFloatStorage" | "complex64" => other("complex64", 8),
        "ComplexDoubleStorage" | "complex128" => other("complex128", 16),
        "ComplexHalfStorage" | "complex32" => other("complex32", 4),
        "QInt8Storage" => other("qint8", 1),
        "QUInt8Storage" => other("quint8", 1),
        "QInt32Storage" => other("qint32", 4),
        "QUInt4x2Storage" => other("quint4x2", 1),
        "QUInt2x4Storage" => other("quint2x4", 1),
        name if name.ends_with("Storage") || name.starts_with("float") || name.starts_with("bits") => {
            Some(ElementType::Other(name, None))
        }
        _ => None,
    }
}
