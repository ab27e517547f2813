//! How long each kernel takes, by the device's own clock.

use std::{collections::BTreeMap, sync::mpsc};

use wgpu::{Buffer, BufferDescriptor, BufferUsages, CommandEncoder, ComputePassTimestampWrites, QuerySet, QueryType};

use crate::recorder::BATCH;

/// Launches of a kernel, and their seconds.
pub type Times = BTreeMap<&'static str, (u64, f64)>;

/// Two timestamps for every launch of a submission. Each submission is waited for: this is for measuring, not for speed.
pub(crate) struct Profile {
    queries: QuerySet,
    resolved: Buffer,
    readable: Buffer,
    /// Nanoseconds of a tick.
    period: f64,
    launched: Vec<&'static str>,
    times: Times,
}

/// Bytes of a launch's timestamps.
const PAIR: usize = 16;

impl Profile {
    pub fn new(device: &wgpu::Device, queue: &wgpu::Queue) -> Self {
        let buffer = |usage| {
            let size = (BATCH * PAIR) as u64;
            device.create_buffer(&BufferDescriptor { label: Some("timestamps"), size, usage, mapped_at_creation: false })
        };
        let count = 2 * BATCH as u32;
        Profile {
            queries: device.create_query_set(&wgpu::QuerySetDescriptor { label: None, ty: QueryType::Timestamp, count }),
            resolved: buffer(BufferUsages::QUERY_RESOLVE | BufferUsages::COPY_SRC),
            readable: buffer(BufferUsages::MAP_READ | BufferUsages::COPY_DST),
            period: f64::from(queue.get_timestamp_period()),
            launched: Vec::new(),
            times: Times::new(),
        }
    }

    /// What the pass of the next launch writes.
    pub fn next(&mut self, name: &'static str) -> ComputePassTimestampWrites<'_> {
        let i = 2 * self.launched.len() as u32;
        self.launched.push(name);
        ComputePassTimestampWrites {
            query_set: &self.queries,
            beginning_of_pass_write_index: Some(i),
            end_of_pass_write_index: Some(i + 1),
        }
    }

    /// Appends what makes the timestamps readable.
    pub fn resolve(&self, encoder: &mut CommandEncoder) {
        let n = self.launched.len();
        if n > 0 {
            encoder.resolve_query_set(&self.queries, 0..2 * n as u32, &self.resolved, 0);
            encoder.copy_buffer_to_buffer(&self.resolved, 0, &self.readable, 0, (n * PAIR) as u64);
        }
    }

    /// Waits for the submission and adds its times. What the driver does not deliver is left out.
    pub fn collect(&mut self, device: &wgpu::Device) {
        let launched = std::mem::take(&mut self.launched);
        let (sender, arrived) = mpsc::channel();
        self.readable.map_async(wgpu::MapMode::Read, .., move |result| {
            // The receiver waits below.
            let _ = sender.send(result.is_ok());
        });
        if device.poll(wgpu::PollType::wait_indefinitely()).is_ok() && arrived.recv() == Ok(true) {
            if let Ok(view) = self.readable.get_mapped_range(..) {
                let tick = |i: usize| view.get(8 * i..8 * i + 8).and_then(|bytes| bytes.try_into().ok()).map(u64::from_ne_bytes);
                for (i, name) in launched.into_iter().enumerate() {
                    let (Some(start), Some(end)) = (tick(2 * i), tick(2 * i + 1)) else { continue };
                    let (launches, seconds) = self.times.entry(name).or_default();
                    *launches += 1;
                    *seconds += end.saturating_sub(start) as f64 * self.period * 1e-9;
                }
            }
            self.readable.unmap();
        }
    }

    pub fn take(&mut self) -> Times {
        std::mem::take(&mut self.times)
    }
}
