use tubelet_engine::{
    Device,
    ops::conv3d::{Conv3d, conv3d},
};
use tubelet_tests::{equals_the_reference, integers};

crate::properties!("conv3d");

/// A convolution, its video and kernel, and its output channels.
pub struct Case {
    pub op: Conv3d,
    pub video: [usize; 5],
    pub kernel: [usize; 3],
    pub outputs: usize,
}

impl Case {
    pub fn new(video: [usize; 5], kernel: [usize; 3], stride: [usize; 3], outputs: usize) -> Self {
        Case { op: Conv3d::new(stride), video, kernel, outputs }
    }

    /// With integers for the normalisation of every channel.
    pub fn normalised(mut self) -> Self {
        self.op.scale = (0..self.video[4]).map(|c| (c % 3) as f32 - 1.0).collect();
        self.op.shift = (0..self.video[4]).map(|c| (c % 2) as f32 - 1.0).collect();
        self
    }

    /// The shape of the weight.
    pub fn weight(&self) -> [usize; 5] {
        let [kt, kh, kw] = self.kernel;
        [self.outputs, kt, kh, kw, self.video[4] / self.op.groups]
    }

    /// The shape of the result.
    pub fn result(&self) -> [usize; 5] {
        let tubes = |axis: usize| self.op.tubes(axis, self.video[1 + axis], self.kernel[axis]).unwrap_or(0);
        [self.video[0], tubes(0), tubes(1), tubes(2), self.outputs]
    }
}

/// The tubes of the models, on small videos: runs of 48 bytes and of 42, tubes that lie apart, maps of features with padding, groups. And runs of whole
/// packs that begin in the middle of one, for an offset, a stride, or padding.
pub fn tubes_of_models() -> Vec<Case> {
    let mut apart = Case::new([1, 16, 44, 48, 3], [8, 8, 8], [16, 32, 32], 24).normalised();
    apart.op.offset = [0, 4, 8];
    let mut features = Case::new([1, 3, 6, 5, 16], [3, 3, 3], [1, 2, 1], 24).normalised();
    features.op.padding = [1, 1, 1];
    let mut grouped = Case::new([2, 2, 5, 5, 16], [1, 3, 3], [1, 1, 1], 32).normalised();
    grouped.op.groups = 2;
    let [mut late, oblique, mut padded] = [4, 3, 4].map(|step| Case::new([1, 2, 8, 24, 4], [1, 2, 4], [1, 2, step], 8));
    late.op.offset[2] = 1;
    padded.op.padding[2] = 1;
    vec![
        late,
        oblique,
        padded,
        Case::new([1, 4, 32, 48, 3], [2, 16, 16], [2, 16, 16], 40),
        Case::new([2, 1, 28, 42, 3], [1, 14, 14], [1, 14, 14], 33).normalised(),
        Case::new([1, 8, 30, 30, 1], [2, 10, 10], [6, 5, 4], 8).normalised(),
        apart,
        features,
        grouped,
    ]
}

#[test]
fn tubes_of_models_are_exact() {
    // Few results of many elements each, and many results: backends cut products by their shape.
    let deep = Case::new([1, 8, 32, 32, 3], [8, 16, 16], [8, 16, 16], 16);
    let wide = Case::new([2, 1, 32, 32, 8], [1, 1, 1], [1, 1, 1], 1024);
    for case in tubes_of_models().into_iter().chain([deep, wide]) {
        for (i, dtype) in DType::FLOATS.into_iter().enumerate() {
            for video in [DType::U8, dtype] {
                let [_, t, h, w, o] = case.result();
                let what = format!("{:?}, {video} video {:?}, {dtype} weight {:?}", case.op, case.video, case.weight());
                let run = |device: &Device| {
                    let video = integers(device, video, &case.video, 1)?;
                    let weight = integers(device, dtype, &case.weight(), 2)?;
                    // Together, one of them, or neither.
                    let bias = Some(integers(device, dtype, &[o], 3)?).filter(|_| i != 0);
                    let position = Some(integers(device, dtype, &[t, h, w, o], 4)?).filter(|_| i != 1);
                    Ok(vec![conv3d(case.op.clone(), &video, &weight, bias.as_ref(), position.as_ref())?])
                };
                equals_the_reference(&what, run).unwrap_or_else(|error| panic!("{error}"));
            }
        }
    }
}
