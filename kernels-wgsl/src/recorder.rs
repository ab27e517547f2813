//! Launches gathered into one command encoder: the caller waits only to download.

use wgpu::{Buffer, BufferDescriptor, BufferUsages, CommandEncoder, ComputePass};

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
/// Bytes of such uploads in one submission.
const UPLOADED: usize = 4 * STAGED;

/// What has been launched and not been submitted.
pub(crate) struct Recorder {
    encoder: Option<CommandEncoder>,
    // Keeps the encoder locked until it is dropped.
    pass: Option<ComputePass<'static>>,
    parameters: Buffer,
    staged: Vec<u8>,
    /// Where uploads lie between the submission's start and their turn. (wgpu's own belt panics when the device is lost.)
    uploads: Buffer,
    uploaded: Vec<u8>,
    launches: u64,
    profile: Option<Profile>,
}

impl Recorder {
    pub fn new(device: &wgpu::Device, profile: Option<Profile>) -> Self {
        let buffer = |label, size: usize, usage| {
            device.create_buffer(&BufferDescriptor { label: Some(label), size: size as u64, usage, mapped_at_creation: false })
        };
        Recorder {
            encoder: None,
            pass: None,
            parameters: buffer("parameters", BATCH * SLOT, BufferUsages::UNIFORM | BufferUsages::COPY_DST),
            staged: Vec::with_capacity(BATCH * SLOT),
            uploads: buffer("uploads", UPLOADED, BufferUsages::COPY_SRC | BufferUsages::COPY_DST),
            uploaded: Vec::new(),
            launches: 0,
            profile,
        }
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
        if self.uploaded.len() + words.len() > UPLOADED {
            self.submit(gpu);
        }
        self.pass = None;
        let encoder = self.encoder.get_or_insert_with(|| gpu.device.create_command_encoder(&Default::default()));
        encoder.copy_buffer_to_buffer(&self.uploads, self.uploaded.len() as u64, to, offset, words.len() as u64);
        self.uploaded.extend_from_slice(words);
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
            // Written before this submission's commands and after those of the one before, so that one buffer serves them all.
            gpu.queue.write_buffer(&self.parameters, 0, &self.staged);
            gpu.queue.write_buffer(&self.uploads, 0, &self.uploaded);
            gpu.queue.submit([encoder.finish()]);
            self.staged.clear();
            self.uploaded.clear();
            if let Some(profile) = &mut self.profile {
                profile.collect(&gpu.device);
            }
        }
    }
}
