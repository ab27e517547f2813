//! CUDA graphs: a list of launches that the GPU goes through on its own.

use std::sync::Arc;

use cudarc::driver::{
    result::{self, stream::StreamKind},
    sys,
};
use tubelet_engine::Result;

use super::{Graph, Work, gpu::Gpu};

/// A graph, ready to launch.
pub struct Captured {
    handle: sys::CUgraphExec,
    gpu: Arc<Gpu>,
}

// SAFETY: the driver takes the handle from every thread, though only from one at a time.
unsafe impl Send for Captured {}
// SAFETY: every use of the handle is exclusive.
unsafe impl Sync for Captured {}

/// A stream that work is only captured from.
struct Stream(sys::CUstream);

impl Drop for Stream {
    fn drop(&mut self) {
        // SAFETY: made once, and no capture is under way any more.
        let _ = unsafe { result::stream::destroy(self.0) };
    }
}

/// What was captured, before it is made ready.
struct Template(sys::CUgraph);

impl Drop for Template {
    fn drop(&mut self) {
        // SAFETY: made once by the end of a capture.
        let _ = unsafe { result::graph::destroy(self.0) };
    }
}

impl Captured {
    /// Captures `work` from a stream of its own, so that other threads' work goes on meanwhile.
    pub fn new(gpu: &Arc<Gpu>, work: &[Work]) -> Result<Self> {
        gpu.enter()?;
        let stream = Stream(result::stream::create(StreamKind::NonBlocking).map_err(|code| gpu.error("making a stream", code))?);
        // Relaxed: loading a kernel that has not been launched before is no work of the stream, and stricter modes refuse it.
        let mode = sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_RELAXED;
        // SAFETY: the stream is alive and nothing is in it.
        unsafe { result::stream::begin_capture(stream.0, mode) }.map_err(|code| gpu.error("capturing", code))?;
        let filled = work.iter().try_for_each(|work| match work {
            Work::Launch { module, kernel, launch, parameter } => gpu.launch(stream.0, module, kernel, *launch, parameter),
            Work::Copy { from, to, bytes } => gpu.copy(stream.0, *from, *to, *bytes),
        });
        // SAFETY: the capture was begun, and ends whatever came of it.
        let ended = unsafe { result::stream::end_capture(stream.0) };
        filled?;
        let template = Template(ended.map_err(|code| gpu.error("capturing", code))?);
        // SAFETY: the template is alive. No flags: the graph's memory is ours, and it is launched from the host.
        let handle = unsafe { result::graph::instantiate(template.0, sys::CUgraphInstantiate_flags(0)) };
        Ok(Captured { handle: handle.map_err(|code| gpu.error("preparing a graph", code))?, gpu: Arc::clone(gpu) })
    }
}

impl Graph for Captured {
    fn launch(&mut self) -> Result<()> {
        let stream = self.gpu.enter()?;
        // SAFETY: graph and stream are alive; what the graph uses is kept by whoever has it.
        unsafe { result::graph::launch(self.handle, stream) }.map_err(|code| self.gpu.error("launching a graph", code))
    }
}

impl Drop for Captured {
    fn drop(&mut self) {
        if self.gpu.enter().is_ok() {
            // SAFETY: made once by `new`; the driver lets a launch that is under way finish.
            let _ = unsafe { result::graph::exec_destroy(self.handle) };
        }
    }
}
