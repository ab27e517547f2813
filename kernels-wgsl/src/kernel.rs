//! A kernel and its launch: a `.wgsl` file, and the operands, parameters and constants that it sees.
//!
//! A `.wgsl` file holds the arithmetic alone: a function `each(i)` that one invocation runs for element `i` ([`Kernel::launch_each`]), or
//! `group(index, lane)` that the `LANES` invocations of a workgroup run together ([`Kernel::launch`]). What depends on the operands' element
//! types and views is generated around it: for an operand `x` the functions
//!
//! | function | for | gives |
//! |---|---|---|
//! | `x_load(at)` | inputs | the element at position `at` of the buffer, as f32 |
//! | `x_int(at)` | inputs | the same as i32: exact, or rounded to nearest even and saturating |
//! | `x_at(i)` | [`Kernel::read`] | where element `i` in row-major order lies |
//! | `x_row(i)`, `x_step()` | [`Kernel::rows`] | where row `i` of the last dimension starts, and the distance of its elements |
//! | `p.x_offset`, `p.x_s0` … | [`Kernel::strided`] | offset and strides |
//! | `x_store(at, value)`, `x_store_int(at, value)` | outputs, which are contiguous | |
//!
//! and for an optional operand the constant `x_present`. Loops that [`unrolled`] writes out start with `#for`. Sizes and numbers are fields of the uniform `p`. Positions are u32: a buffer has fewer
//! than 2³² elements.

use std::fmt::Write;

use tubelet_engine::{DType, Error, Layout, Result, Tensor};
use wgpu::Features;

use crate::{device::Wgpu, recorder::SLOT, unroll::unrolled};

/// Groups along one dimension that every adapter can launch; more fold into the second.
const MOST_GROUPS: usize = 65535;

const EACH: &str = "
@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) ids: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let i = (id.y * ids.x + id.x) * LANES + lane;
    if i < p.count { each(i); }
}
";
const GROUP: &str = "
@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) ids: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let index = id.y * ids.x + id.x;
    if index < p.count { group(index, lane); }
}
";

/// How a kernel indexes an operand.
#[derive(Clone)]
enum View {
    /// By the row-major index of the element; the sizes and strides of dimensions joined where they can be.
    Flat(Vec<[usize; 2]>),
    /// By row and column; where the flag is set, four columns at a time.
    Rows(Vec<[usize; 2]>, bool),
    /// By the strides of the given number of dimensions; where the flag is set, four elements of the last at a time.
    Strided(usize, bool),
    Written,
}

/// What a shader sees in a buffer.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Element {
    Float,
    Integer,
    Float16,
    /// The bits of a half.
    Integer16,
    /// Words with several elements each.
    Packed,
    /// Four f32.
    Vectors,
}

impl Element {
    fn of(dtype: DType, gpu: &Wgpu) -> Element {
        match dtype {
            _ if gpu.is_packed(dtype) => Element::Packed,
            DType::F16 if gpu.features.contains(Features::SHADER_F16) => Element::Float16,
            DType::BF16 | DType::F16 => Element::Integer16,
            DType::I32 => Element::Integer,
            _ => Element::Float,
        }
    }
}

#[derive(Clone)]
struct Bound<'a> {
    name: &'static str,
    /// Absent operands have none.
    tensor: Option<&'a Tensor>,
    view: View,
}

/// See the [module](self).
#[derive(Clone)]
pub(crate) struct Kernel<'a> {
    name: &'static str,
    /// One after the other.
    sources: Vec<&'static str>,
    lanes: u32,
    operands: Vec<Bound<'a>>,
    fields: Vec<(String, &'static str)>,
    parameters: Vec<u8>,
    constants: Vec<(&'static str, u32)>,
    /// What did not fit into u32.
    overflow: Option<&'static str>,
}

impl<'a> Kernel<'a> {
    /// The kernel of `source`, with 64 invocations in a workgroup.
    pub fn new(name: &'static str, source: &'static str) -> Self {
        let (operands, fields, parameters, constants) = Default::default();
        Kernel { name, sources: vec![source], lanes: 64, operands, fields, parameters, constants, overflow: None }
    }

    pub fn name(&self) -> &'static str {
        self.name
    }

    /// `source` after what there is; the constants must tell texts apart.
    pub fn then(mut self, source: &'static str) -> Self {
        self.sources.push(source);
        self
    }

    /// Invocations in a workgroup: `LANES` in the source.
    pub fn lanes(mut self, lanes: u32) -> Self {
        self.lanes = lanes;
        self
    }

    /// An input, by the row-major index of its elements.
    pub fn read(mut self, name: &'static str, tensor: &'a Tensor) -> Self {
        let dims = joined(tensor.layout(), tensor.rank());
        self.dims(name, tensor.layout().offset(), &dims);
        self.bind(name, Some(tensor), View::Flat(dims))
    }

    /// As [`Kernel::read`]; where it is absent, `x_load` gives 0 and `x_present` is false.
    pub fn read_optional(mut self, name: &'static str, tensor: Option<&'a Tensor>) -> Self {
        match tensor {
            Some(tensor) => {
                self.constants.push((name, 1));
                self.read(name, tensor)
            }
            None => {
                self.constants.push((name, 0));
                self.bind(name, None, View::Flat(Vec::new()))
            }
        }
    }

    /// An input, by row and column of its last dimension.
    pub fn rows(mut self, name: &'static str, tensor: &'a Tensor) -> Self {
        let (layout, rank) = (tensor.layout(), tensor.rank());
        let dims = joined(layout, rank.saturating_sub(1));
        self.dims(name, layout.offset(), &dims);
        let step = layout.strides().last().copied().unwrap_or(1);
        self.field(format!("{name}_last"), step);
        self.bind(name, Some(tensor), View::Rows(dims, false))
    }

    /// As [`Kernel::rows`], for an operand that [`has_vectors`]: `x_load4(at)` gives four elements from a position that is a multiple of four.
    pub fn rows_of_vectors(self, name: &'static str, tensor: &'a Tensor) -> Self {
        self.rows(name, tensor).by_fours()
    }

    /// As [`Kernel::strided`], for an operand that [`has_vectors`].
    pub fn strided_vectors(self, name: &'static str, tensor: &'a Tensor) -> Self {
        self.strided(name, tensor).by_fours()
    }

    /// The last operand with `x_load4`.
    fn by_fours(mut self) -> Self {
        if let Some(Bound { view: View::Rows(_, vectors) | View::Strided(_, vectors), .. }) = self.operands.last_mut() {
            *vectors = true;
        }
        self
    }

    /// An input, by its own strides.
    pub fn strided(mut self, name: &'static str, tensor: &'a Tensor) -> Self {
        self.field(format!("{name}_offset"), tensor.layout().offset());
        for (d, &stride) in tensor.layout().strides().iter().enumerate() {
            self.field(format!("{name}_s{d}"), stride);
        }
        self.bind(name, Some(tensor), View::Strided(tensor.rank(), false))
    }

    /// An output.
    pub fn write(self, name: &'static str, tensor: &'a Tensor) -> Self {
        self.bind(name, Some(tensor), View::Written)
    }

    /// An output that may be absent: then storing does nothing.
    pub fn write_optional(self, name: &'static str, tensor: Option<&'a Tensor>) -> Self {
        self.bind(name, tensor, View::Written)
    }

    fn bind(mut self, name: &'static str, tensor: Option<&'a Tensor>, view: View) -> Self {
        self.operands.push(Bound { name, tensor, view });
        self
    }

    fn dims(&mut self, name: &str, offset: usize, dims: &[[usize; 2]]) {
        self.field(format!("{name}_offset"), offset);
        for (d, [size, stride]) in dims.iter().enumerate() {
            self.field(format!("{name}_n{d}"), *size);
            self.field(format!("{name}_s{d}"), *stride);
        }
    }

    fn field(&mut self, name: String, value: usize) {
        match u32::try_from(value) {
            Ok(value) => self.push(name, "u32", value.to_ne_bytes()),
            Err(_) => self.overflow = Some("a size or stride does not fit into 32 bits"),
        }
    }

    fn push(&mut self, name: String, ty: &'static str, bytes: [u8; 4]) {
        self.fields.push((name, ty));
        self.parameters.extend_from_slice(&bytes);
    }

    /// `p.name: u32`.
    pub fn size(mut self, name: &'static str, value: usize) -> Self {
        self.field(name.into(), value);
        self
    }

    /// `p.name0 …: u32`.
    pub fn sizes(mut self, name: &'static str, values: &[usize]) -> Self {
        values.iter().enumerate().for_each(|(i, &value)| self.field(format!("{name}{i}"), value));
        self
    }

    /// `p.name: f32`.
    pub fn number(mut self, name: &'static str, value: f32) -> Self {
        self.push(name.into(), "f32", value.to_ne_bytes());
        self
    }

    /// `const name: u32`: another value is another pipeline.
    pub fn constant(mut self, name: &'static str, value: u32) -> Self {
        self.constants.push((name, value));
        self
    }

    /// One invocation for each of `count`.
    pub fn launch_each(self, count: usize, gpu: &Wgpu) -> Result<()> {
        let groups = count.div_ceil(self.lanes as usize);
        self.dispatch(EACH, count, groups, gpu)
    }

    /// `groups` workgroups.
    pub fn launch(self, groups: usize, gpu: &Wgpu) -> Result<()> {
        self.dispatch(GROUP, groups, groups, gpu)
    }

    fn dispatch(mut self, entry: &'static str, count: usize, groups: usize, gpu: &Wgpu) -> Result<()> {
        self.field("count".into(), count);
        if groups == 0 {
            return Ok(());
        }
        let refuse = |message: String| {
            Err(Error::Unsupported { op: self.name, device: tubelet_engine::Backend::name(gpu).into(), message })
        };
        let present: Vec<&Bound> = self.operands.iter().filter(|operand| operand.tensor.is_some()).collect();
        if let Some(message) = self.overflow {
            return refuse(message.into());
        }
        if present.len() > gpu.pipelines.bindings {
            return refuse(format!("{} operands; this adapter binds {}", present.len(), gpu.pipelines.bindings));
        }
        if groups > MOST_GROUPS * MOST_GROUPS || self.parameters.len() > SLOT {
            return refuse(format!("{groups} workgroups with {} bytes of parameters", self.parameters.len()));
        }
        let writes: Vec<bool> = present.iter().map(|operand| matches!(operand.view, View::Written)).collect();
        let pipeline = gpu.pipeline(&self.key(), &writes, || self.text(entry, gpu))?;
        let mut recorder = gpu.recorder();
        let parameters =
            wgpu::BufferBinding { buffer: recorder.parameters(), offset: 0, size: std::num::NonZeroU64::new(SLOT as u64) };
        let mut entries = vec![wgpu::BindGroupEntry { binding: 0, resource: wgpu::BindingResource::Buffer(parameters) }];
        for (i, tensor) in present.iter().filter_map(|operand| operand.tensor).enumerate() {
            entries
                .push(wgpu::BindGroupEntry { binding: i as u32 + 1, resource: gpu.buffer(tensor.buffer())?.as_entire_binding() });
        }
        let descriptor = wgpu::BindGroupDescriptor { label: None, layout: &pipeline.layout, entries: &entries };
        let bindings = gpu.device.create_bind_group(&descriptor);
        // As square as need be: groups beyond the count end at once.
        let rows = groups.div_ceil(MOST_GROUPS);
        recorder.launch(gpu, self.name, &pipeline, &bindings, &self.parameters, [groups.div_ceil(rows) as u32, rows as u32]);
        Ok(())
    }

    /// What the text depends on.
    fn key(&self) -> String {
        let mut key = format!("{} {}", self.name, self.lanes);
        for operand in &self.operands {
            let dtype = operand.tensor.map_or("none", |tensor| tensor.dtype().name());
            let view = match &operand.view {
                View::Flat(dims) => format!("flat{}", form(dims)),
                View::Rows(dims, vectors) => format!("{}{}", if *vectors { "vectors" } else { "rows" }, form(dims)),
                View::Strided(rank, vectors) => format!("{}{rank}", if *vectors { "quads" } else { "strided" }),
                View::Written => "written".into(),
            };
            // Writing to a string does not fail.
            let _ = write!(key, " {}:{dtype}:{view}", operand.name);
        }
        for (name, value) in &self.constants {
            let _ = write!(key, " {name}={value}");
        }
        key
    }

    /// The whole shader.
    fn text(&self, entry: &str, gpu: &Wgpu) -> String {
        let mut text = String::new();
        for (element, extension) in [(Element::Float16, "f16"), (Element::Integer16, "wgpu_int16")] {
            if self.operands.iter().filter_map(|x| x.tensor).any(|x| Element::of(x.dtype(), gpu) == element) {
                let _ = writeln!(text, "enable {extension};");
            }
        }
        let _ = writeln!(text, "const LANES: u32 = {}u;", self.lanes);
        for (name, value) in &self.constants {
            let optional = self.operands.iter().any(|operand| operand.name == *name);
            let _ = match optional {
                true => writeln!(text, "const {name}_present: bool = {};", *value != 0),
                false => writeln!(text, "const {name}: u32 = {value}u;"),
            };
        }
        let fields: String = self.fields.iter().map(|(name, ty)| format!("{name}: {ty}, ")).collect();
        let _ = writeln!(text, "struct Parameters {{ {fields} }}\n@group(0) @binding(0) var<uniform> p: Parameters;");
        let mut binding = 1;
        for operand in &self.operands {
            operand.accessors(&mut text, &mut binding, gpu);
        }
        text.push_str(include_str!("math.wgsl"));
        text.push_str(match gpu.subgroup {
            Some(size) if size == self.lanes => include_str!("group_subgroup.wgsl"),
            _ => include_str!("group_shared.wgsl"),
        });
        let constant = |name: &str| self.constants.iter().find(|(known, _)| *known == name).map(|(_, value)| *value);
        self.sources.iter().for_each(|source| text.push_str(&unrolled(source, &constant)));
        text.push_str(entry);
        text
    }
}

impl Bound<'_> {
    fn accessors(&self, text: &mut String, binding: &mut u32, gpu: &Wgpu) {
        let written = matches!(self.view, View::Written);
        let x = self.name;
        let Some(tensor) = self.tensor else {
            let nothing = match written {
                true => format!("fn {x}_store(at: u32, value: f32) {{ }}\nfn {x}_store_int(at: u32, value: i32) {{ }}"),
                false => format!("fn {x}_load(at: u32) -> f32 {{ return 0.0; }}\nfn {x}_at(i: u32) -> u32 {{ return 0u; }}"),
            };
            let _ = writeln!(text, "{nothing}");
            return;
        };
        let element = match self.view {
            View::Rows(_, true) | View::Strided(_, true) => Element::Vectors,
            _ => Element::of(tensor.dtype(), gpu),
        };
        let ty = match element {
            Element::Vectors => "vec4<f32>",
            Element::Packed if written => "atomic<u32>",
            Element::Packed => "u32",
            Element::Float16 => "f16",
            Element::Integer16 => "u16",
            Element::Integer => "i32",
            Element::Float => "f32",
        };
        let access = if written { "read_write" } else { "read" };
        let _ = writeln!(text, "@group(0) @binding({binding}) var<storage, {access}> {x}_data: array<{ty}>;");
        *binding += 1;
        if written { stores(text, x, tensor.dtype(), element) } else { self.loads(text, tensor.dtype(), element) }
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
            DType::F16 | DType::I32 => format!("f32({x}_data[at])"),
            _ if element == Element::Vectors => format!("{x}_data[at >> 2u][at & 3u]"),
            _ => format!("{x}_data[at]"),
        };
        let _ = writeln!(text, "fn {x}_load(at: u32) -> f32 {{ return {value}; }}");
        let exact = if dtype == DType::I32 { format!("{x}_data[at]") } else { format!("integer({x}_load(at))") };
        let _ = writeln!(text, "fn {x}_int(at: u32) -> i32 {{ return {exact}; }}");
        if element == Element::Vectors {
            let _ = writeln!(text, "fn {x}_load4(at: u32) -> vec4<f32> {{ return {x}_data[at >> 2u]; }}");
        }
        match &self.view {
            View::Flat(dims) => position(text, &format!("{x}_at"), x, dims),
            View::Rows(dims, _) => {
                position(text, &format!("{x}_row"), x, dims);
                let _ = writeln!(text, "fn {x}_step() -> u32 {{ return p.{x}_last; }}");
            }
            View::Strided(..) | View::Written => {}
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

/// The first `rank` dimensions as `[size, stride]`, without those of size 1, neighbours joined where one stride leads through both.
fn joined(layout: &Layout, rank: usize) -> Vec<[usize; 2]> {
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

/// Whether rows can be read four elements at a time: f32, side by side, and every row beginning at a multiple of four.
pub(crate) fn has_vectors(x: &Tensor) -> bool {
    let layout = x.layout();
    let [outer @ .., last] = layout.strides() else { return false };
    let rows = layout.shape().iter().zip(outer).filter(|&(&size, _)| size != 1);
    let aligned = |n: usize| n.is_multiple_of(4);
    x.dtype() == DType::F32
        && *last == 1
        && aligned(layout.offset())
        && x.shape().last().is_some_and(|&columns| aligned(columns))
        && rows.into_iter().all(|(_, &stride)| aligned(stride))
}

/// Operand `i`, which validation has found present.
pub(crate) fn operand<'a>(inputs: &[Option<&'a Tensor>], i: usize) -> Result<&'a Tensor> {
    optional(inputs, i).ok_or_else(|| Error::shape("wgpu", format!("operand {i} is missing")))
}

/// Operand `i`, which may be absent.
pub(crate) fn optional<'a>(inputs: &[Option<&'a Tensor>], i: usize) -> Option<&'a Tensor> {
    inputs.get(i).copied().flatten()
}

/// The product of the sizes.
pub(crate) fn count(sizes: &[usize]) -> usize {
    sizes.iter().product()
}
