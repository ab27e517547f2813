//! What a shader sees of an operand: a buffer of its element type, and functions that load from it or store to it.

use std::fmt::Write;

use tubelet_engine::{DType, Layout, Tensor};
use wgpu::Features;

use crate::device::Wgpu;

/// How a kernel indexes an operand.
#[derive(Clone)]
pub(crate) enum View {
    /// By the row-major index of the element; the sizes and strides of dimensions joined where they can be.
    Flat(Vec<[usize; 2]>),
    /// By row and column.
    Rows(Vec<[usize; 2]>),
    /// By the strides of the given number of dimensions.
    Strided(usize),
    Written,
}

/// What a shader sees in a buffer.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Element {
    Float,
    Integer,
    Float16,
    /// The bits of a half.
    Integer16,
    /// Words with several elements each.
    Packed,
}

impl Element {
    pub fn of(dtype: DType, gpu: &Wgpu) -> Element {
        match dtype {
            _ if gpu.is_packed(dtype) => Element::Packed,
            DType::F16 if gpu.features.contains(Features::SHADER_F16) => Element::Float16,
            DType::BF16 | DType::F16 => Element::Integer16,
            DType::I32 => Element::Integer,
            _ => Element::Float,
        }
    }
}

/// An operand with a name.
#[derive(Clone)]
pub(crate) struct Bound<'a> {
    pub name: &'static str,
    /// Absent operands have none.
    pub tensor: Option<&'a Tensor>,
    pub view: View,
    /// Whether the shader sees four elements at a time.
    pub fours: bool,
}

impl Bound<'_> {
    pub fn is_written(&self) -> bool {
        matches!(self.view, View::Written)
    }

    /// What its accessors depend on.
    pub fn key(&self) -> String {
        let dtype = self.tensor.map_or("none", |tensor| tensor.dtype().name());
        let view = match &self.view {
            View::Flat(dims) => format!("flat{}", form(dims)),
            View::Rows(dims) => format!("rows{}", form(dims)),
            View::Strided(rank) => format!("strided{rank}"),
            View::Written => "written".into(),
        };
        format!("{}:{dtype}:{view}{}", self.name, if self.fours { ":fours" } else { "" })
    }

    /// Appends the buffer and its functions; vectors are of `number`, f32 or f16.
    pub fn accessors(&self, text: &mut String, binding: &mut u32, number: &str, gpu: &Wgpu) {
        let written = self.is_written();
        let x = self.name;
        let Some(tensor) = self.tensor else {
            let nothing = match written {
                true => format!("fn {x}_store(at: u32, value: f32) {{ }}\nfn {x}_store_int(at: u32, value: i32) {{ }}"),
                false => format!("fn {x}_load(at: u32) -> f32 {{ return 0.0; }}\nfn {x}_at(i: u32) -> u32 {{ return 0u; }}"),
            };
            let _ = writeln!(text, "{nothing}");
            return;
        };
        let element = Element::of(tensor.dtype(), gpu);
        let ty = match element {
            Element::Packed if written => "atomic<u32>",
            Element::Packed => "u32",
            Element::Float16 => "f16",
            Element::Integer16 => "u16",
            Element::Integer => "i32",
            Element::Float => "f32",
        };
        let access = if written { "read_write" } else { "read" };
        let ty = if self.fours { format!("vec4<{ty}>") } else { ty.into() };
        let _ = writeln!(text, "@group(0) @binding({binding}) var<storage, {access}> {x}_data: array<{ty}>;");
        *binding += 1;
        match (written, self.fours) {
            (true, true) => {
                let value = if element == Element::Float16 { "vec4<f16>(value)" } else { "vec4<f32>(value)" };
                let _ = writeln!(text, "fn {x}_store4(at: u32, value: vec4<{number}>) {{ {x}_data[at >> 2u] = {value}; }}");
            }
            (true, false) => stores(text, x, tensor.dtype(), element),
            (false, fours) => {
                if fours {
                    let value = format!("vec4<{number}>({x}_data[at >> 2u])");
                    let _ = writeln!(text, "fn {x}_load4(at: u32) -> vec4<{number}> {{ return {value}; }}");
                }
                self.loads(text, tensor.dtype(), element);
            }
        }
    }

    fn loads(&self, text: &mut String, dtype: DType, element: Element) {
        let x = self.name;
        let half = match element {
            Element::Packed => format!("({x}_data[at >> 1u] >> (16u * (at & 1u))) & 0xffffu"),
            _ => format!("u32({x}_data[at])"),
        };
        let value = match dtype {
            DType::BF16 => format!("bf16_load({half})"),
            DType::F16 if element != Element::Float16 => format!("f16_load({half})"),
            DType::U8 => format!("f32(({x}_data[at >> 2u] >> (8u * (at & 3u))) & 255u)"),
            DType::F16 if self.fours => format!("f32({x}_data[at >> 2u][at & 3u])"),
            DType::F16 | DType::I32 => format!("f32({x}_data[at])"),
            _ if self.fours => format!("{x}_data[at >> 2u][at & 3u]"),
            _ => format!("{x}_data[at]"),
        };
        let _ = writeln!(text, "fn {x}_load(at: u32) -> f32 {{ return {value}; }}");
        let exact = if dtype == DType::I32 { format!("{x}_data[at]") } else { format!("integer({x}_load(at))") };
        let _ = writeln!(text, "fn {x}_int(at: u32) -> i32 {{ return {exact}; }}");
        match &self.view {
            View::Flat(dims) => position(text, &format!("{x}_at"), x, dims),
            View::Rows(dims) => {
                position(text, &format!("{x}_row"), x, dims);
                let _ = writeln!(text, "fn {x}_step() -> u32 {{ return p.{x}_last; }}");
            }
            View::Strided(rank) => {
                let (indices, terms): (Vec<String>, Vec<String>) =
                    (0..*rank).map(|d| (format!("i{d}: u32"), format!(" + i{d} * p.{x}_s{d}"))).unzip();
                let (indices, terms) = (indices.join(", "), terms.concat());
                let _ = writeln!(text, "fn {x}_index({indices}) -> u32 {{ return p.{x}_offset{terms}; }}");
            }
            View::Written => {}
        }
    }
}

fn stores(text: &mut String, x: &str, dtype: DType, element: Element) {
    let half = |bits: &str| match element {
        Element::Packed => format!("atomicOr(&{x}_data[at >> 1u], {bits}(value) << (16u * (at & 1u)));"),
        Element::Float16 => format!("{x}_data[at] = f16(value);"),
        _ => format!("{x}_data[at] = u16({bits}(value));"),
    };
    let as_float = format!("{x}_store(at, f32(value));");
    let (value, int) = match dtype {
        DType::BF16 => (half("bf16_bits"), as_float),
        DType::F16 => (half("f16_bits"), as_float),
        DType::I32 => (format!("{x}_data[at] = integer(value);"), format!("{x}_data[at] = value;")),
        // WGSL has no bytes. Words are zero before, so that the order in which their bytes arrive makes no difference.
        DType::U8 => (
            format!("{x}_store_int(at, integer(value));"),
            format!("atomicOr(&{x}_data[at >> 2u], u32(clamp(value, 0, 255)) << (8u * (at & 3u)));"),
        ),
        _ => (format!("{x}_data[at] = value;"), format!("{x}_data[at] = f32(value);")),
    };
    let _ = writeln!(text, "fn {x}_store(at: u32, value: f32) {{ {value} }}\nfn {x}_store_int(at: u32, value: i32) {{ {int} }}");
}

/// Where element `i` of dimensions `dims` lies, without a loop.
fn position(text: &mut String, function: &str, x: &str, dims: &[[usize; 2]]) {
    let _ = write!(text, "fn {function}(i: u32) -> u32 {{ ");
    if dense(dims) {
        let _ = writeln!(text, "return p.{x}_offset + i; }}");
        return;
    }
    let _ = write!(text, "var rest = i; var at = p.{x}_offset; ");
    for d in (1..dims.len()).rev() {
        let _ = write!(text, "at += rest % p.{x}_n{d} * p.{x}_s{d}; rest /= p.{x}_n{d}; ");
    }
    if !dims.is_empty() {
        let _ = write!(text, "at += rest * p.{x}_s0; ");
    }
    text.push_str("return at; }\n");
}

/// All that [`position`] depends on.
fn form(dims: &[[usize; 2]]) -> String {
    if dense(dims) { "dense".into() } else { dims.len().to_string() }
}

fn dense(dims: &[[usize; 2]]) -> bool {
    matches!(dims, [[_, 1]])
}

/// The first `rank` dimensions of a layout as `[size, stride]`, without those of size 1, neighbours joined where one stride leads through both.
pub(crate) fn joined(layout: &Layout, rank: usize) -> Vec<[usize; 2]> {
    let mut dims: Vec<[usize; 2]> = Vec::new();
    for (&size, &stride) in layout.shape().iter().zip(layout.strides()).take(rank).filter(|&(&size, _)| size != 1) {
        match dims.last_mut() {
            Some([outer, step]) if *step == stride * size => {
                *outer *= size;
                *step = stride;
            }
            _ => dims.push([size, stride]),
        }
    }
    dims
}

/// Whether elements can be taken four at a time: operands and result in row-major order without gaps, of a number of elements and, for inputs,
/// an offset that are multiples of four, and of types that shaders have vectors of.
pub(crate) fn are_fours(tensors: &[&Tensor], gpu: &Wgpu) -> bool {
    tensors.iter().all(|x| {
        let layout = x.layout();
        matches!(Element::of(x.dtype(), gpu), Element::Float | Element::Float16)
            && x.elements().is_multiple_of(4)
            && layout.offset().is_multiple_of(4)
            && dense(&joined(layout, x.rank()))
    })
}

/// Whether rows can be read four elements at a time: of a type that shaders have vectors of, side by side, and every row beginning at a
/// multiple of four.
pub(crate) fn has_vectors(x: &Tensor, gpu: &Wgpu) -> bool {
    let layout = x.layout();
    let [outer @ .., last] = layout.strides() else { return false };
    let rows = layout.shape().iter().zip(outer).filter(|&(&size, _)| size != 1);
    let aligned = |n: usize| n.is_multiple_of(4);
    matches!(Element::of(x.dtype(), gpu), Element::Float | Element::Float16)
        && *last == 1
        && aligned(layout.offset())
        && x.shape().last().is_some_and(|&columns| aligned(columns))
        && rows.into_iter().all(|(_, &stride)| aligned(stride))
}
