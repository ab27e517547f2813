//! Pipelines: made on first use, one for each kernel, element types and constants.

use std::{
    borrow::Cow,
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use tubelet_engine::Result;
use wgpu::{BindGroupLayoutEntry, BindingType, BufferBindingType, ShaderRuntimeChecks, ShaderStages};

use crate::{device::Wgpu, recorder::SLOT};

/// A compiled kernel.
pub(crate) struct Pipeline {
    pub pipeline: wgpu::ComputePipeline,
    pub layout: wgpu::BindGroupLayout,
}

/// The pipelines of a device.
pub(crate) struct Pipelines {
    made: Mutex<HashMap<String, Arc<Pipeline>>>,
    /// Storage buffers that one kernel can bind.
    pub bindings: usize,
}

impl Pipelines {
    pub fn new(limits: &wgpu::Limits) -> Self {
        Pipelines { made: Mutex::default(), bindings: limits.max_storage_buffers_per_shader_stage as usize }
    }
}

impl Wgpu {
    /// The pipeline for `key`, made from `source()` the first time. `writes` says for each storage binding, from 1 on, whether it is written.
    pub(crate) fn pipeline(&self, key: &str, writes: &[bool], source: impl FnOnce() -> String) -> Result<Arc<Pipeline>> {
        let mut made = self.pipelines.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(pipeline) = made.get(key) {
            return Ok(Arc::clone(pipeline));
        }
        let pipeline = Arc::new(self.compile(key, writes, source()));
        self.check()?;
        made.insert(key.to_string(), Arc::clone(&pipeline));
        Ok(pipeline)
    }

    fn compile(&self, key: &str, writes: &[bool], source: String) -> Pipeline {
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
        let pipeline = self.device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: Some(key),
            layout: Some(&pipeline_layout),
            module: &module,
            entry_point: Some("main"),
            // Workgroup memory is written before it is read.
            compilation_options: wgpu::PipelineCompilationOptions {
                zero_initialize_workgroup_memory: self.guard,
                ..Default::default()
            },
            cache: None,
        });
        Pipeline { pipeline, layout }
    }
}
