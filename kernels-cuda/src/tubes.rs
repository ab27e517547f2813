//! What launchers of convolutions share: the tubes that they read, and the product that they are; see `tubes.cuh`.

use tubelet_engine::{DType, Result, Tensor, ops::conv3d::Conv3d};

use crate::{
    backend::{CudaBackend, THREADS},
    divisor::Divisor,
    memory::CudaBuffer,
    product::{Cut, stride},
};

parameters!(
    /// See `Tubes` in `tubes.cuh`.
    Tubes {
        video: u64,
        scale: u64,
        shift: u64,
        stride: [u32; 5],
        place: [Divisor; 3],
        run: Divisor,
        channels: Divisor,
        height: Divisor,
        size: [u32; 3],
        step: [u32; 3],
        start: [i32; 3],
        positions: u32,
        elements: u32,
        parts: u32,
        wide: u32,
    }
);

parameters!(
    /// See `Product` in `tubes.cuh`.
    Product {
        partial: u64,
        rows: u32,
        columns: u32,
        depth: u32,
        splits: u32,
        split_depth: u32,
        groups: u32,
    }
);

parameters!(Constants { to: u64, count: u32, unused: u32, value: [f32; 256] });

/// A convolution between a video `[B, T, H, W, C]` and a result `[B, T', H', W', O]`.
pub(crate) struct Convolution<'a> {
    pub name: &'static str,
    pub op: &'a Conv3d,
    pub video: [usize; 5],
    pub kernel: [usize; 3],
    pub result: [usize; 5],
}

impl<'a> Convolution<'a> {
    pub fn new(name: &'static str, op: &'a Conv3d, video: &[usize], kernel: &[usize], result: &[usize]) -> Self {
        let five = |shape: &[usize]| std::array::from_fn(|d| shape[d]);
        Convolution { name, op, video: five(video), kernel: std::array::from_fn(|d| kernel[d]), result: five(result) }
    }

    /// Channels of a group.
    pub fn channels(&self) -> usize {
        self.video[4] / self.op.groups
    }

    /// Output channels of a group.
    pub fn outputs(&self) -> usize {
        self.result[4] / self.op.groups
    }

    /// Elements of a tube.
    pub fn elements(&self) -> usize {
        self.kernel.iter().product::<usize>() * self.channels()
    }

    /// Tubes of all videos.
    pub fn positions(&self) -> usize {
        self.result[..4].iter().product()
    }

    /// Where the first tube begins along T, H, W.
    pub fn start(&self, cuda: &CudaBackend) -> Result<[i32; 3]> {
        let at = |axis: usize| {
            let (offset, padding) = (cuda.count(self.name, self.op.offset[axis])?, cuda.count(self.name, self.op.padding[axis])?);
            Ok(offset as i32 - padding as i32)
        };
        Ok([at(0)?, at(1)?, at(2)?])
    }

    /// Three sizes as kernels count them.
    pub fn sizes(&self, cuda: &CudaBackend, shape: &[usize]) -> Result<[u32; 3]> {
        Ok([cuda.count(self.name, shape[0])?, cuda.count(self.name, shape[1])?, cuda.count(self.name, shape[2])?])
    }

    /// Divisors by three sizes.
    pub fn divisors(&self, cuda: &CudaBackend, shape: &[usize]) -> Result<[Divisor; 3]> {
        let by = |n: usize| Divisor::new(cuda, self.name, n);
        Ok([by(shape[0])?, by(shape[1])?, by(shape[2])?])
    }

    /// How many elements of a video a thread that computes in `dtype` takes at once.
    fn chunk(dtype: DType) -> usize {
        if dtype == DType::F32 { 4 } else { 8 }
    }

    /// Whether chunks lie side by side in the video, aligned, and either in it or in the padding.
    fn wide(&self, cuda: &CudaBackend, video: &Tensor, dtype: DType) -> Result<bool> {
        let (chunk, channels) = (Self::chunk(dtype), self.channels());
        let whole = |n: usize| n.is_multiple_of(chunk);
        // Of a channel alone, the next column is the next element.
        let neighbours = self.video[4] == 1 || stride(video, 4) == 1;
        let address = cuda.address(video)? as usize / video.dtype().size();
        let lines = whole(address) && (0..3).all(|d| whole(stride(video, d)));
        let in_column = whole(channels) && whole(stride(video, 3));
        let [step, offset] = [self.op.stride[2], self.op.offset[2]];
        let lines_up = [self.kernel[2], step, offset].iter().all(|n| whole(n * channels));
        let in_run = self.op.groups == 1 && stride(video, 3) == channels && self.op.padding[2] == 0 && lines_up;
        Ok(neighbours && lines && (in_column || in_run))
    }

    /// The video, where its elements do not lie further apart than kernels count; else a copy.
    pub fn near(&self, video: &Tensor) -> Result<Tensor> {
        let last =
            (0..5).try_fold(0usize, |at, d| at.checked_add(self.video[d].saturating_sub(1).checked_mul(stride(video, d))?));
        match last {
            Some(last) if last <= i32::MAX as usize => Ok(video.detach()),
            _ => video.detach().contiguous(),
        }
    }

    /// The tubes of a video that is [near](Self::near) for a kernel that computes in `dtype`.
    pub fn tubes(
        &self,
        cuda: &CudaBackend,
        video: &Tensor,
        dtype: DType,
        normalisation: Option<&Normalisation>,
    ) -> Result<Tubes> {
        let count = |n: usize| cuda.count(self.name, n);
        let by = |n: usize| Divisor::new(cuda, self.name, n);
        let mut strides = [0; 5];
        for (d, to) in strides.iter_mut().enumerate() {
            *to = count(stride(video, d))?;
        }
        if self.video[4] == 1 {
            strides[4] = 1;
        }
        Ok(Tubes {
            video: cuda.address(video)?,
            scale: normalisation.map_or(0, |n| n.scale),
            shift: normalisation.map_or(0, |n| n.shift),
            stride: strides,
            place: self.divisors(cuda, &self.result[1..])?,
            run: by(self.kernel[2] * self.channels())?,
            channels: by(self.channels())?,
            height: by(self.kernel[1])?,
            size: self.sizes(cuda, &self.video[1..])?,
            step: self.sizes(cuda, &self.op.stride)?,
            start: self.start(cuda)?,
            positions: count(self.positions())?,
            elements: count(self.elements())?,
            parts: if normalisation.is_some() && dtype != DType::F32 { 2 } else { 1 },
            wide: self.wide(cuda, video, dtype)?.into(),
        })
    }

    /// The fused normalisation, if there is one, in device memory.
    pub fn normalisation(&self, cuda: &CudaBackend) -> Result<Option<Normalisation>> {
        if self.op.scale.is_empty() {
            return Ok(None);
        }
        let repeated = |values: &[f32]| -> Vec<f32> {
            values.chunks(self.channels().max(1)).flat_map(|group| group.repeat(self.kernel[2])).collect()
        };
        let values = [repeated(&self.op.scale), repeated(&self.op.shift)].concat();
        let memory = cuda.scratch(values.len() * 4)?;
        for (i, part) in values.chunks(256).enumerate() {
            let mut value = [0.0; 256];
            value[..part.len()].copy_from_slice(part);
            let to = memory.address + (i * 256 * 4) as u64;
            let constants = Constants { to, count: cuda.count(self.name, part.len())?, unused: 0, value };
            cuda.launch(crate::conv3d::module(), "conv3d_constants", 1, THREADS, &constants)?;
        }
        let (scale, shift) = (memory.address, memory.address + (values.len() * 2) as u64);
        Ok(Some(Normalisation { scale, shift, _memory: memory }))
    }
}

/// Scale and shift of the elements of a run, for each group; to be kept until the launch.
pub(crate) struct Normalisation {
    pub scale: u64,
    pub shift: u64,
    _memory: CudaBuffer,
}

impl Product {
    /// A product of `rows` × `columns` × `depth` for each of `groups`, cut so, whose partial sums go to `partial`.
    pub fn new(
        cuda: &CudaBackend,
        op: &'static str,
        [rows, columns, depth, groups]: [usize; 4],
        cut: &Cut,
        partial: Option<&CudaBuffer>,
    ) -> Result<Self> {
        Ok(Product {
            partial: partial.map_or(0, |partial| partial.address),
            rows: cuda.count(op, rows)?,
            columns: cuda.count(op, columns)?,
            depth: cuda.count(op, depth)?,
            splits: cuda.count(op, cut.splits)?,
            split_depth: cuda.count(op, cut.split_depth)?,
            groups: cuda.count(op, groups)?,
        })
    }
}

/// Depth as tiles count it: where numbers come in two halves, each tile of 32 comes twice.
pub(crate) fn depth_in_parts(depth: usize, parts: u32) -> usize {
    if parts == 1 { depth } else { depth.next_multiple_of(32) * 2 }
}
