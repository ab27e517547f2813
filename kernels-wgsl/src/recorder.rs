//! Launches gathered into one command encoder: the caller waits only to download.

use wgpu::{Buffer, BufferDescriptor, BufferSize, BufferUsages, CommandEncoder, ComputePass, util::StagingBelt};

use crate::{
    device::Wgpu,
    pipeline::Pipeline,
    profile::{Profile, Times},
};

/// Bytes of parameters that a launch can have.
pub(crate) const SLOT: usize = 1024;
/// Launches in one submission. A device starts while the host records on; more would delay the start, fewer cost a submission's overhead
/// (0.2 ms on the software device) more often.
pub(crate) const BATCH: usize = 64;

/// Uploads up to so many bytes wait their turn among the launches; larger ones go at once, after what was launched before.
pub(crate) const STAGED: usize = 1 << 20;
/// Bytes of uploads in one submission.
const UPLOADED: usize = 8 * STAGED;

/// What has been launched and not been submitted.
pub(crate) struct Recorder {
    encoder: Option<CommandEncoder>,
    // Keeps the encoder locked until it is dropped.
    pass: Option<ComputePass<'static>>,
    parameters: Buffer,
    staged: Vec<u8>,
    uploads: StagingBelt,
    uploaded: usize,
    launches: u64,
    profile: Option<Profile>,
}

impl Recorder {
    pub fn new(device: &wgpu::Device, profile: Option<Profile>) -> Self {
        let usage = BufferUsages::UNIFORM | BufferUsages::COPY_DST;
        let size = (BATCH * SLOT) as u64;
        let parameters =
            device.create_buffer(&BufferDescriptor { label: Some("parameters"), size, usage, mapped_at_creation: false });
        let uploads = StagingBelt::new(device.clone(), STAGED as u64);
        let staged = Vec::with_capacity(BATCH * SLOT);
        Recorder { encoder: None, pass: None, parameters, staged, uploads, uploaded: 0, launches: 0, profile }
    }

    pub fn launches(&self) -> u64 {
        self.launches
    }

    /// What each kernel has taken since this was last asked; empty where that is not measured.
    pub fn take_times(&mut self) -> Times {
        self.profile.as_mut().map(Profile::take).unwrap_or_default()
    }

    /// The buffer of all launches' parameters; a launch sees [`SLOT`] bytes of it.
    pub fn parameters(&self) -> &Buffer {
        &self.parameters
    }

    /// Appends one launch of the kernel `name`.
    pub fn launch(
        &mut self,
        gpu: &Wgpu,
        name: &'static str,
        pipeline: &Pipeline,
        bindings: &wgpu::BindGroup,
        parameters: &[u8],
        groups: [u32; 2],
    ) {
        let encoder = self.encoder.get_or_insert_with(|| gpu.device.create_command_encoder(&Default::default()));
        if let Some(profile) = &mut self.profile {
            // Timestamps are taken where passes begin and end, so that each launch has one of its own.
            self.pass = None;
            let timestamp_writes = Some(profile.next(name));
            let descriptor = wgpu::ComputePassDescriptor { label: None, timestamp_writes };
            self.pass = Some(encoder.begin_compute_pass(&descriptor).forget_lifetime());
        }
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

    /// Appends the copying of host bytes, whole words and at most [`STAGED`] of them.
    pub fn upload(&mut self, gpu: &Wgpu, words: &[u8], to: &Buffer, offset: u64) {
        self.pass = None;
        let Some(size) = BufferSize::new(words.len() as u64) else { return };
        let encoder = self.encoder.get_or_insert_with(|| gpu.device.create_command_encoder(&Default::default()));
        self.uploads.write_buffer(encoder, to, offset, size).copy_from_slice(words);
        self.uploaded += words.len();
        if self.uploaded >= UPLOADED {
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
        if let Some(mut encoder) = self.encoder.take() {
            if let Some(profile) = &self.profile {
                profile.resolve(&mut encoder);
            }
            // Written before this submission's commands and after those of the one before, so one buffer serves them all.
            gpu.queue.write_buffer(&self.parameters, 0, &self.staged);
            self.uploads.finish();
            gpu.queue.submit([encoder.finish()]);
            self.uploads.recall();
            self.staged.clear();
            self.uploaded = 0;
            if let Some(profile) = &mut self.profile {
                profile.collect(&gpu.device);
            }
        }
    }
}
