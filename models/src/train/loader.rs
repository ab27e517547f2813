//! Batches, decoded ahead in background threads.
//!
//! Batch `k` is a pure function of the seed and `k`: whatever the number of threads, and after a restart, training sees the same clips.

use std::{
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, sync_channel},
    },
    thread,
    time::{Duration, Instant},
};

use tubelet_engine::{Error, Philox, Result};

use super::{
    augment::{Augmentation, mix},
    data::{Dataset, Sample},
    report::Record,
};

/// Clips of one step.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    /// `[B, T, H, W, 3]`.
    pub video: Vec<u8>,
    /// `[T, H, W]`.
    pub clip: [usize; 3],
    /// A row of class probabilities for each clip (for multi-label sets, 0 or 1).
    pub targets: Vec<Vec<f32>>,
    /// The first label of each clip, before mixing.
    pub labels: Vec<usize>,
}

impl Batch {
    /// Part `i` of `parts` equal parts: the bytes of its clips, and their targets.
    pub fn part(&self, parts: usize, i: usize) -> (&[u8], &[Vec<f32>]) {
        let (clips, bytes) = (self.targets.len() / parts.max(1), self.video.len() / self.targets.len().max(1));
        (&self.video[i * clips * bytes..(i + 1) * clips * bytes], &self.targets[i * clips..(i + 1) * clips])
    }
}

/// How batches are made.
pub struct Plan {
    /// What from.
    pub data: Arc<dyn Dataset>,
    /// What with.
    pub augmentation: Augmentation,
    /// Clips of a batch.
    pub batch: usize,
    /// Which of them are made: all, or one process's share. Whatever the shares, the clips of a batch are the same.
    pub share: Range<usize>,
    /// Of order and augmentation.
    pub seed: u64,
    /// Unreadable clips in a row at which reading fails; each is replaced by the next.
    pub patience: usize,
}

/// Streams of a seed: the order of epochs, and what happens to clips.
const ORDER: u64 = 1 << 62;
const CLIP: u64 = 1 << 61;

/// What happens while a batch is made.
#[derive(Default)]
struct Making {
    /// What the user should know of clips, in their order.
    records: Vec<Record>,
    /// How long clips were read.
    reading: Duration,
}

impl Plan {
    /// Batch `k`; adds to `making` what happens on the way.
    fn batch(&self, k: u64, making: &mut Making) -> Result<Batch> {
        let mut rng = Philox::stream(self.seed, CLIP | ORDER | k);
        let lambda = self.augmentation.lambda(&mut rng);
        let mixed = lambda < 1.0 && !self.share.is_empty();
        let mut sample = |i: usize| self.sample(k * self.batch as u64 + i as u64, making);
        // Each clip is mixed with the one before it, the first of the batch with the last: a share begins with another's last clip.
        let before = if mixed { Some(sample((self.share.start + self.batch - 1) % self.batch)?) } else { None };
        let mut samples = self.share.clone().map(sample).collect::<Result<Vec<_>>>()?;
        let classes = self.data.classes();
        let mut targets = samples.iter().map(|sample| one_hot(&sample.labels, classes)).collect::<Result<Vec<_>>>()?;
        let labels = samples.iter().map(|sample| sample.labels.first().copied().unwrap_or(0)).collect();
        if let Some(mut before) = before {
            for (sample, target) in samples.iter_mut().zip(&mut targets) {
                let own = sample.clone();
                mix(&mut sample.frames, &before.frames, lambda);
                let row = one_hot(&before.labels, classes)?;
                target.iter_mut().zip(row).for_each(|(a, b)| *a = lambda * *a + (1.0 - lambda) * b);
                before = own;
            }
        }
        let (clip, video) = gather(&samples)?;
        Ok(Batch { video, clip, targets, labels })
    }

    /// The clip at position `position` of the whole training.
    fn sample(&self, position: u64, making: &mut Making) -> Result<Sample> {
        let mut last = Error::invalid("data set", "no clips");
        for attempt in 0..self.patience.max(1) as u64 {
            let mut rng = Philox::stream(self.seed, CLIP | (position << 8 | attempt.min(255)));
            let (index, began) = (self.index(position, attempt), Instant::now());
            let read = self.data.sample(index, Some(&mut rng));
            making.reading += began.elapsed();
            match read {
                Ok(mut sample) => {
                    let notes = std::mem::take(&mut sample.notes).into_iter();
                    making.records.extend(notes.map(|note| Record::note(&*self.data, index, note)));
                    self.augmentation.apply(&mut sample, &mut rng);
                    return Ok(sample);
                }
                Err(error) => {
                    making.records.push(Record::skipped(&*self.data, index, &error));
                    last = error;
                }
            }
        }
        Err(Error::format("data set", format!("{} clips in a row could not be read; the last: {last}", self.patience)))
    }

    /// Which clip that is: epochs are permutations, drawn from the seed; a clip that cannot be read gives way to the next.
    fn index(&self, position: u64, attempt: u64) -> u64 {
        match self.data.size() {
            None => position + attempt,
            Some(size) => {
                let size = size.max(1);
                let epoch = position / size;
                (permuted(self.seed, epoch, position % size, size) + attempt) % size
            }
        }
    }
}

/// Where a permutation of `0..size`, one for each epoch, takes `i`: a Feistel network over the next even power of two, walked until it stays
/// below `size`. Nothing is stored, and any position of any epoch is found at once.
fn permuted(seed: u64, epoch: u64, i: u64, size: u64) -> u64 {
    let half = (64 - (size - 1).max(1).leading_zeros()).div_ceil(2);
    let mask = (1u64 << half) - 1;
    let mut x = i;
    loop {
        let (mut left, mut right) = (x >> half, x & mask);
        for round in 0..4 {
            let word = Philox::stream(seed, ORDER | (epoch << 34 | round << 32 | right & 0xffff_ffff)).next_u32();
            (left, right) = (right, left ^ (u64::from(word) & mask));
        }
        x = left << half | right;
        if x < size {
            return x;
        }
    }
}

/// The classes of a clip as probabilities 0 and 1.
fn one_hot(labels: &[usize], classes: usize) -> Result<Vec<f32>> {
    let mut row = vec![0.0; classes];
    for &label in labels {
        let no_class = || Error::invalid("label", format!("{label}, but the data set has {classes} classes"));
        *row.get_mut(label).ok_or_else(no_class)? = 1.0;
    }
    Ok(row)
}

/// The frames of all clips, which have one size, and that size.
fn gather(samples: &[Sample]) -> Result<([usize; 3], Vec<u8>)> {
    let first = samples.first().ok_or_else(|| Error::invalid("batch", "no clips"))?;
    let clip = [first.frames.len(), first.frames.height, first.frames.width];
    let bytes = clip.iter().product::<usize>() * 3;
    let mut video = Vec::with_capacity(bytes * samples.len());
    for Sample { frames, .. } in samples {
        if frames.data.len() != bytes {
            return Err(Error::shape("batch", format!("a clip of {} bytes among clips of {bytes}", frames.data.len())));
        }
        video.extend_from_slice(&frames.data);
    }
    Ok((clip, video))
}

/// A batch, or why there is none, and what happened while it was made.
struct Made {
    batch: Result<Batch>,
    records: Vec<Record>,
}

/// Hands out batches in order.
pub struct Loader {
    queues: Vec<Receiver<Made>>,
    next: u64,
    records: Vec<Record>,
    /// Nanoseconds for which the threads have read clips.
    reading: Arc<AtomicU64>,
}

impl Loader {
    /// Starts `threads` threads that make batches from number `first` on, each at most two ahead.
    pub fn start(plan: Plan, first: u64, threads: usize) -> Result<Self> {
        let (plan, reading) = (Arc::new(plan), Arc::new(AtomicU64::new(0)));
        let threads = threads.max(1) as u64;
        let start = |i: u64| {
            let (sender, receiver) = sync_channel(2);
            let (plan, reading) = (Arc::clone(&plan), Arc::clone(&reading));
            let work = move || {
                for k in (first + i..).step_by(threads as usize) {
                    let mut making = Making::default();
                    let batch = plan.batch(k, &mut making);
                    reading.fetch_add(u64::try_from(making.reading.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
                    // Sending fails when nobody wants batches any more.
                    if sender.send(Made { batch, records: making.records }).is_err() {
                        break;
                    }
                }
            };
            let spawned = thread::Builder::new().name(format!("loader-{i}")).spawn(work);
            spawned
                .map(|_| receiver)
                .map_err(|error| Error::Device { device: "host".into(), message: format!("no thread: {error}") })
        };
        Ok(Loader { queues: (0..threads).map(start).collect::<Result<_>>()?, next: 0, records: Vec::new(), reading })
    }

    /// The next batch.
    ///
    /// # Errors
    /// Of the data set, and for a thread that has ended.
    pub fn next_batch(&mut self) -> Result<Batch> {
        let queue = &self.queues[(self.next % self.queues.len() as u64) as usize];
        self.next += 1;
        let ended = |_| Error::Device { device: "host".into(), message: "a loader thread ended".into() };
        let Made { batch, records } = queue.recv().map_err(ended)?;
        self.records.extend(records);
        batch
    }

    /// What the user should know of the clips of the batches since the last call: a record each time that a clip was read.
    pub fn take_records(&mut self) -> Vec<Record> {
        std::mem::take(&mut self.records)
    }

    /// How long the threads have read clips so far, all of them together.
    pub fn reading(&self) -> Duration {
        Duration::from_nanos(self.reading.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::video::Frames;

    /// Clips whose pixels are their number; the last of every `broken` cannot be read.
    struct Numbers {
        broken: u64,
    }

    impl Dataset for Numbers {
        fn classes(&self) -> usize {
            4
        }
        fn names(&self) -> Option<Vec<String>> {
            None
        }
        fn size(&self) -> Option<u64> {
            Some(10)
        }
        fn describe(&self, index: u64) -> String {
            format!("clip-{index}")
        }
        fn sample(&self, index: u64, _: Option<&mut Philox>) -> Result<Sample> {
            if (index + 1).is_multiple_of(self.broken) {
                return Err(Error::format("clip", "broken"));
            }
            let frames = Frames { width: 1, height: 1, data: vec![index as u8; 3] };
            Ok(Sample { frames, labels: vec![index as usize % 4], notes: Vec::new() })
        }
    }

    fn plan(broken: u64, patience: usize) -> Plan {
        let data = Arc::new(Numbers { broken });
        Plan {
            data,
            augmentation: Augmentation { mixup: 0.5, ..Augmentation::default() },
            batch: 5,
            share: 0..5,
            seed: 7,
            patience,
        }
    }

    #[test]
    fn shares_are_parts_of_the_batch_mixed_ones_too() {
        let mut making = Making::default();
        for k in 0..4 {
            let whole = plan(u64::MAX, 1).batch(k, &mut making).unwrap();
            assert!(k > 0 || whole.targets.iter().flatten().any(|&x| x > 0.0 && x < 1.0), "something is mixed");
            let shares = [0..2, 2..3, 3..5];
            let parts = shares.map(|share| Plan { share, ..plan(u64::MAX, 1) }.batch(k, &mut making).unwrap());
            assert_eq!(whole.video, parts.each_ref().map(|part| part.video.clone()).concat());
            assert_eq!(whole.targets, parts.each_ref().map(|part| part.targets.clone()).concat());
            assert_eq!(whole.labels, parts.each_ref().map(|part| part.labels.clone()).concat());
        }
    }

    #[test]
    fn batches_do_not_depend_on_threads_or_on_where_one_starts() {
        let run = |first, threads, n: usize| -> Vec<Batch> {
            let mut loader = Loader::start(plan(u64::MAX, 1), first, threads).unwrap();
            (0..n).map(|_| loader.next_batch().unwrap()).collect()
        };
        let one = run(0, 1, 6);
        assert_eq!(one, run(0, 3, 6));
        assert_eq!(one[4..], run(4, 2, 2));
    }

    #[test]
    fn an_epoch_is_a_permutation() {
        for size in [1, 2, 10, 37] {
            for epoch in 0..3 {
                let mut seen: Vec<u64> = (0..size).map(|i| permuted(5, epoch, i, size)).collect();
                seen.sort_unstable();
                assert_eq!(seen, (0..size).collect::<Vec<_>>());
            }
        }
        assert_ne!(
            (0..37).map(|i| permuted(5, 0, i, 37)).collect::<Vec<_>>(),
            (0..37).map(|i| permuted(5, 1, i, 37)).collect::<Vec<_>>()
        );
    }

    #[test]
    fn broken_clips_are_replaced_and_told() {
        let mut loader = Loader::start(plan(5, 3), 0, 1).unwrap();
        for _ in 0..2 {
            let batch = loader.next_batch().unwrap();
            assert_eq!(batch.labels.len(), 5);
        }
        // Two batches are an epoch.
        let mut clips: Vec<_> = loader.take_records().into_iter().map(|record| record.to_string()).collect();
        clips.sort_unstable();
        assert_eq!(clips, ["clip-4: left out: clip: broken", "clip-9: left out: clip: broken"]);
        assert!(loader.take_records().is_empty());
        let mut hopeless = Loader::start(plan(1, 3), 0, 1).unwrap();
        let error = hopeless.next_batch().unwrap_err().to_string();
        assert!(error.contains("3 clips in a row"), "{error}");
    }
}
