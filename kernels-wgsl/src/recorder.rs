//! Launches gathered into one command encoder: the caller waits only to download.

use wgpu::{Buffer, BufferDescriptor, BufferUsages, CommandEncoder, ComputePass};

use crate::{device::Wgpu, pipeline::Pipeline};

/// Bytes of parameters that a launch can have.
pub(crate) const SLOT: usize = 1024;
/// Launches in one submission. A device starts while the host records on; more would delay the start, fewer cost a submission's overhead
/// (0.2 ms on the software device) more often.
const BATCH: usize = 64;

/// What has been launched and not been submitted.
pub(crate) struct Recorder {
    encoder: Option<CommandEncoder>,
    // Keeps the encoder locked until it is dropped.
    pass: Option<ComputePass<'static>>,
    parameters: Buffer,
    staged: Vec<u8>,
    launches: u64,
}

impl Recorder {
    pub fn new(device: &wgpu::Device) -> Self {
        let usage = BufferUsages::UNIFORM | BufferUsages::COPY_DST;
        let size = (BATCH * SLOT) as u64;
        let parameters =
            device.create_buffer(&BufferDescriptor { label: Some("parameters"), size, usage, mapped_at_creation: false });
        Recorder { encoder: None, pass: None, parameters, staged: Vec::with_capacity(BATCH * SLOT), launches: 0 }
    }

    pub fn launches(&self) -> u64 {
        self.launches
    }

    /// The buffer of all launches' parameters; a launch sees [`SLOT`] bytes of it.
    pub fn parameters(&self) -> &Buffer {
        &self.parameters
    }

    /// Appends one launch.
    pub fn launch(&mut self, gpu: &Wgpu, pipeline: &Pipeline, bindings: &wgpu::BindGroup, parameters: &[u8], groups: [u32; 2]) {
        let encoder = self.encoder.get_or_insert_with(|| gpu.device.create_command_encoder(&Default::default()));
        let pass = self.pass.get_or_insert_with(|| encoder.begin_compute_pass(&Default::default()).forget_lifetime());
        pass.set_pipeline(&pipeline.pipeline);
        pass.set_bind_group(0, bindings, &[self.staged.len() as u32]);
        pass.dispatch_workgroups(groups[0], groups[1], 1);
        self.staged.extend_from_slice(parameters);
        self.staged.resize(self.staged.len().next_multiple_of(SLOT), 0);
        self.launches += 1;
        if self.staged.len() == BATCH * SLOT {
            self.submit(gpu);
        }
    }

    /// Appends a copy between buffers.
    pub fn copy(&mut self, gpu: &Wgpu, from: &Buffer, offset: u64, to: &Buffer, size: u64) {
        self.pass = None;
        let encoder = self.encoder.get_or_insert_with(|| gpu.device.create_command_encoder(&Default::default()));
        encoder.copy_buffer_to_buffer(from, offset, to, 0, size);
    }

    /// Appends the filling of a buffer with zeros.
    pub fn clear(&mut self, gpu: &Wgpu, buffer: &Buffer) {
        self.pass = None;
        let encoder = self.encoder.get_or_insert_with(|| gpu.device.create_command_encoder(&Default::default()));
        encoder.clear_buffer(buffer, 0, None);
    }

    /// Sends everything to the device.
    pub fn submit(&mut self, gpu: &Wgpu) {
        self.pass = None;
        if let Some(encoder) = self.encoder.take() {
            // Written before this submission's commands and after those of the one before, so one buffer serves them all.
            gpu.queue.write_buffer(&self.parameters, 0, &self.staged);
            gpu.queue.submit([encoder.finish()]);
            self.staged.clear();
        }
    }
}
