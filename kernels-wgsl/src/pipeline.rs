//! Pipelines: made on first use. A shader is one text for each kernel, element types and constants; a pipeline is a shader with the values of
//! its `override`s.

use std::{
    borrow::Cow,
    collections::{HashMap, hash_map::Entry},
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use tubelet_engine::Result;
use wgpu::{BindGroupLayoutEntry, BindingType, BufferBindingType, Features, ShaderRuntimeChecks, ShaderStages};

use crate::{cache, device::Wgpu, recorder::SLOT};

/// The values of a shader's `override`s by name.
pub type Tiles = Vec<(&'static str, u32)>;

/// A shader's text, and the values that its pipelines are made with.
#[derive(Clone)]
pub struct Shader {
    /// WGSL.
    pub text: String,
    /// One for each pipeline.
    pub tiles: Vec<Tiles>,
}

/// A compiled kernel.
pub(crate) struct Pipeline {
    pub pipeline: wgpu::ComputePipeline,
    pub layout: wgpu::BindGroupLayout,
}

/// What pipelines of one text share.
struct Module {
    module: wgpu::ShaderModule,
    layout: wgpu::BindGroupLayout,
    pipeline_layout: wgpu::PipelineLayout,
    /// By tiles.
    pipelines: HashMap<Tiles, Arc<Pipeline>>,
}

/// The pipelines of a device.
pub(crate) struct Pipelines {
    made: Mutex<HashMap<String, Module>>,
    /// What a [dry](crate::WgpuOptions::dry) device has written.
    written: Mutex<HashMap<String, Shader>>,
    cache: Option<Cache>,
    /// Storage buffers that one kernel can bind.
    pub bindings: usize,
}

/// The driver's own form of pipelines, kept in a file.
struct Cache {
    file: PathBuf,
    pipelines: wgpu::PipelineCache,
}

impl Cache {
    fn open(device: &wgpu::Device, file: PathBuf) -> Option<Cache> {
        if !device.features().contains(Features::PIPELINE_CACHE) {
            return None;
        }
        let data = cache::read(&file);
        let descriptor = wgpu::PipelineCacheDescriptor { label: Some("tubelet"), data: data.as_deref(), fallback: true };
        // SAFETY: the file is one that this function's caller wrote; wgpu and the driver check that it is theirs, and of this version.
        let pipelines = unsafe { device.create_pipeline_cache(&descriptor) };
        Some(Cache { file, pipelines })
    }
}

impl Drop for Pipelines {
    fn drop(&mut self) {
        let made = self.made.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some(cache) = self.cache.as_ref().filter(|_| !made.is_empty())
            && let Some(data) = cache.pipelines.get_data()
        {
            cache::write(&cache.file, &data);
        }
    }
}

impl Pipelines {
    pub fn new(device: &wgpu::Device, limits: &wgpu::Limits, file: Option<PathBuf>) -> Self {
        Pipelines {
            made: Mutex::default(),
            written: Mutex::default(),
            cache: file.and_then(|file| Cache::open(device, file)),
            bindings: limits.max_storage_buffers_per_shader_stage as usize,
        }
    }
}

impl Wgpu {
    /// The pipeline of the shader `key` with these tiles. The first time its text is `source()`, and `writes` says for each storage binding,
    /// from 1 on, whether it is written.
    pub(crate) fn pipeline(
        &self,
        key: &str,
        tiles: &Tiles,
        writes: &[bool],
        source: impl FnOnce() -> String,
    ) -> Result<Arc<Pipeline>> {
        let mut made = self.pipelines.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(pipeline) = made.get(key).and_then(|module| module.pipelines.get(tiles)) {
            return Ok(Arc::clone(pipeline));
        }
        let module = match made.entry(key.to_owned()) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => {
                let module = self.module(key, writes, source());
                self.check()?;
                entry.insert(module)
            }
        };
        let pipeline = Arc::new(self.compile(key, module, tiles));
        self.check()?;
        module.pipelines.insert(tiles.clone(), Arc::clone(&pipeline));
        Ok(pipeline)
    }

    /// Keeps the shader `key` for [`Wgpu::shaders`].
    pub(crate) fn note(&self, key: &str, tiles: &Tiles, source: impl FnOnce() -> String) {
        let mut written = self.pipelines.written.lock().unwrap_or_else(PoisonError::into_inner);
        let shader = written.entry(key.to_owned()).or_insert_with(|| Shader { text: source(), tiles: Vec::new() });
        if !shader.tiles.contains(tiles) {
            shader.tiles.push(tiles.clone());
        }
    }

    /// Every shader that a [dry](crate::WgpuOptions::dry) device has written so far.
    pub fn shaders(&self) -> Vec<Shader> {
        self.pipelines.written.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    fn module(&self, key: &str, writes: &[bool], source: String) -> Module {
        let descriptor = wgpu::ShaderModuleDescriptor { label: Some(key), source: wgpu::ShaderSource::Wgsl(Cow::Owned(source)) };
        let checks = if self.guard { ShaderRuntimeChecks::checked() } else { ShaderRuntimeChecks::unchecked() };
        // SAFETY: every kernel stays inside its operands and ends its loops: the property suite has run it with the checks on.
        let module = unsafe { self.device.create_shader_module_trusted(descriptor, checks) };
        let entry = |binding: usize, ty: BufferBindingType, dynamic: bool, size: usize| BindGroupLayoutEntry {
            binding: binding as u32,
            visibility: ShaderStages::COMPUTE,
            ty: BindingType::Buffer { ty, has_dynamic_offset: dynamic, min_binding_size: std::num::NonZeroU64::new(size as u64) },
            count: None,
        };
        let mut entries = vec![entry(0, BufferBindingType::Uniform, true, SLOT)];
        entries.extend(
            writes.iter().enumerate().map(|(i, &write)| entry(i + 1, BufferBindingType::Storage { read_only: !write }, false, 0)),
        );
        let layout =
            self.device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor { label: Some(key), entries: &entries });
        let pipeline_layout = self.device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
            label: Some(key),
            bind_group_layouts: &[Some(&layout)],
            ..Default::default()
        });
        Module { module, layout, pipeline_layout, pipelines: HashMap::new() }
    }

    fn compile(&self, key: &str, module: &Module, tiles: &Tiles) -> Pipeline {
        let constants: Vec<(&str, f64)> = tiles.iter().map(|&(name, value)| (name, f64::from(value))).collect();
        let pipeline = self.device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: Some(key),
            layout: Some(&module.pipeline_layout),
            module: &module.module,
            entry_point: Some("main"),
            compilation_options: wgpu::PipelineCompilationOptions {
                constants: &constants,
                // Workgroup memory is written before it is read.
                zero_initialize_workgroup_memory: self.guard,
            },
            cache: self.pipelines.cache.as_ref().map(|cache| &cache.pipelines),
        });
        Pipeline { pipeline, layout: module.layout.clone() }
    }
}
