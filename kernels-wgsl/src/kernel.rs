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
//! | `x_index(i0, …)`, `p.x_s0` … | [`Kernel::strided`] | where the element with these indices lies, and the strides |
//! | `x_load4(at)` | [`Kernel::by_fours`] | the four elements from `at` on, a multiple of four, as `vec4<Number>` |
//! | `x_store(at, value)`, `x_store_int(at, value)` | outputs, which are contiguous | |
//! | `x_store4(at, value)` | the same by fours, instead of the two before | |
//!
//! and for an optional operand the constant `x_present`. `Number` is f16 where every operand by fours is, else f32. Loops that [`unrolled`]
//! writes out start with `#for`. Sizes and numbers are fields of the uniform `p`. Positions are u32: a buffer has fewer than 2³² elements.
//!
//! What sizes workgroups and their memory is an `override` ([`Kernel::tile`]): one shader serves all tiles. What sizes registers is a constant
//! of the text ([`Kernel::constant`]).

use std::fmt::Write;

use tubelet_engine::{Error, Result, Tensor};

use crate::{
    device::Wgpu,
    operand::{Bound, Element, View, joined},
    pipeline::Tiles,
    recorder::SLOT,
    unroll::unrolled,
};

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

/// See the [module](self).
#[derive(Clone)]
pub(crate) struct Kernel<'a> {
    name: &'static str,
    /// One after the other.
    sources: Vec<&'static str>,
    operands: Vec<Bound<'a>>,
    fields: Vec<(String, &'static str)>,
    parameters: Vec<u8>,
    constants: Vec<(&'static str, u32)>,
    /// `LANES` comes first.
    tiles: Tiles,
    /// What did not fit into u32.
    overflow: Option<&'static str>,
}

impl<'a> Kernel<'a> {
    /// The kernel of `source`, with 64 invocations in a workgroup.
    pub fn new(name: &'static str, source: &'static str) -> Self {
        let (operands, fields, parameters, constants) = Default::default();
        let (sources, tiles) = (vec![source], vec![("LANES", 64)]);
        Kernel { name, sources, operands, fields, parameters, constants, tiles, overflow: None }
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
        self.tiles[0].1 = lanes;
        self
    }

    /// `override name: u32`: another value is another pipeline of the same shader. For what sizes workgroups, their memory and loops; registers
    /// are sized by [`Kernel::constant`].
    pub fn tile(mut self, name: &'static str, value: u32) -> Self {
        self.tiles.push((name, value));
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
        self.bind(name, Some(tensor), View::Rows(dims))
    }

    /// The last operand with `x_load4` or `x_store4`, where `yes`; it [`has_vectors`](crate::operand::has_vectors) then.
    pub fn by_fours(mut self, yes: bool) -> Self {
        self.operands.iter_mut().rev().take(1).for_each(|operand| operand.fours = yes);
        self
    }

    /// An input, by its own strides.
    pub fn strided(mut self, name: &'static str, tensor: &'a Tensor) -> Self {
        self.field(format!("{name}_offset"), tensor.layout().offset());
        for (d, &stride) in tensor.layout().strides().iter().enumerate() {
            self.field(format!("{name}_s{d}"), stride);
        }
        self.bind(name, Some(tensor), View::Strided(tensor.rank()))
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
        self.operands.push(Bound { name, tensor, view, fours: false });
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

    /// `const name: u32`: another value is another shader.
    pub fn constant(mut self, name: &'static str, value: u32) -> Self {
        self.constants.push((name, value));
        self
    }

    /// One invocation for each of `count`.
    pub fn launch_each(self, count: usize, gpu: &Wgpu) -> Result<()> {
        let groups = count.div_ceil(self.tiles[0].1 as usize);
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
        let writes: Vec<bool> = present.iter().map(|operand| operand.is_written()).collect();
        if gpu.dry {
            gpu.note(&self.key(gpu), &self.tiles, || self.text(entry, gpu));
            return Ok(());
        }
        let pipeline = gpu.pipeline(&self.key(gpu), &self.tiles, &writes, || self.text(entry, gpu))?;
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

    /// Whether a workgroup is one subgroup.
    fn is_subgroup(&self, gpu: &Wgpu) -> bool {
        gpu.subgroup == Some(self.tiles[0].1)
    }

    /// What the text depends on.
    fn key(&self, gpu: &Wgpu) -> String {
        let mut key = self.name.to_owned();
        if self.is_subgroup(gpu) {
            key.push_str(" subgroup");
        }
        for operand in &self.operands {
            // Writing to a string does not fail.
            let _ = write!(key, " {}", operand.key());
        }
        for (name, value) in &self.constants {
            let _ = write!(key, " {name}={value}");
        }
        key
    }

    /// The whole shader.
    fn text(&self, entry: &str, gpu: &Wgpu) -> String {
        let mut text = String::new();
        let of = |tensor: &Tensor| Element::of(tensor.dtype(), gpu);
        let mut vectors = self.operands.iter().filter(|operand| operand.fours).filter_map(|operand| operand.tensor).peekable();
        let halves = vectors.peek().is_some() && vectors.all(|x| of(x) == Element::Float16);
        let number = if halves { "f16" } else { "f32" };
        for (element, extension) in [(Element::Float16, "f16"), (Element::Integer16, "wgpu_int16")] {
            if self.operands.iter().filter_map(|x| x.tensor).any(|x| of(x) == element) {
                let _ = writeln!(text, "enable {extension};");
            }
        }
        let _ = writeln!(text, "alias Number = {number};");
        for (name, _) in &self.tiles {
            let _ = writeln!(text, "override {name}: u32;");
        }
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
            operand.accessors(&mut text, &mut binding, number, gpu);
        }
        text.push_str(include_str!("math.wgsl"));
        text.push_str(match self.is_subgroup(gpu) {
            true => include_str!("group_subgroup.wgsl"),
            false => include_str!("group_shared.wgsl"),
        });
        let constant = |name: &str| self.constants.iter().find(|(known, _)| *known == name).map(|(_, value)| *value);
        self.sources.iter().for_each(|source| text.push_str(&unrolled(source, &constant)));
        text.push_str(entry);
        text
    }
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
