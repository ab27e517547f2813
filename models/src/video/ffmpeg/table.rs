//! The displayed frames of a stream, and how each is found again when the stream is decoded.

use std::collections::{BTreeSet, HashMap};

use tubelet_engine::{Error, Result};

use super::{log::Decoded, probe::Probe};
use crate::video::{Damage, Timeline};

/// A packet as the container tells of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Packet {
    /// Its presentation time in ticks, if it has one.
    pub(super) pts: Option<i64>,
    /// Whether it has a time at all: some containers have that of decoding alone.
    pub(super) timed: bool,
    /// Whether decoding can begin here.
    pub(super) key: bool,
    /// Whether an edit list hides it: it is decoded, but not displayed.
    pub(super) hidden: bool,
}

/// The displayed frames.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) timeline: Timeline,
    /// Where each frame is found among the decoded ones: its time in ticks, or its number. `None`
    /// for a frame that is lost. The others ascend.
    marks: Vec<Option<i64>>,
    /// Whether marks are numbers. They are once the whole stream was decoded, and hold from its
    /// beginning alone.
    pub(super) by_number: bool,
    /// The times at which decoding can begin, ascending.
    keys: Vec<i64>,
}

impl Table {
    /// The frames as the packets promise them; `None` where only decoding tells which there are.
    pub(super) fn promised(probe: &Probe) -> Option<Self> {
        let begin = probe.packets.first().filter(|packet| packet.key)?.pts?;
        if probe.complaint.is_some() || !probe.is_a_frame_a_packet() {
            return None;
        }
        let times = displayed(probe)?;
        // A frame before the first key frame needs frames that are not in the file.
        if times.first().is_none_or(|&first| first < begin) {
            return None;
        }
        let timeline = Timeline::new(&times, end(&times), probe.tick).ok()?;
        let mut keys: Vec<i64> = probe.packets.iter().filter(|packet| packet.key).filter_map(|packet| packet.pts).collect();
        keys.sort_unstable();
        Some(Table { timeline, marks: times.into_iter().map(Some).collect(), by_number: false, keys })
    }

    /// What is missing after the promised frames, as far as the file shows without being decoded.
    pub(super) fn missing(&self, probe: &Probe) -> Option<Damage> {
        damage(&self.timeline, &BTreeSet::new(), 0, &[], Some("the file ends there"), probe)
    }

    /// The frames that came out when the whole stream was decoded, and what of it is damaged.
    /// `fps` is the rate of a stream without timestamps.
    pub(super) fn decoded(
        frames: &[Decoded],
        probe: &Probe,
        complaint: Option<&str>,
        fps: Option<f64>,
    ) -> Result<(Self, Option<Damage>)> {
        let complaint = probe.complaint.as_deref().or(complaint);
        let Some(times) = ascending(frames).filter(|_| probe.is_timed()) else {
            let timeline = Timeline::even(frames.len(), fps);
            let damage = damage(&timeline, &BTreeSet::new(), 0, &faulty(frames, |number| number), complaint, probe);
            let marks = (0..frames.len() as i64).map(Some).collect();
            return Ok((Table { timeline, marks, by_number: true, keys: Vec::new() }, damage));
        };
        let (places, missing) = places(&times, probe, complaint.is_some());
        let timeline = Timeline::new(&places, end(&places), probe.tick)?;
        let numbers: HashMap<i64, usize> = times.iter().copied().zip(0..).collect();
        let marks: Vec<Option<i64>> =
            places.iter().map(|time| numbers.get(time).and_then(|&number| i64::try_from(number).ok())).collect();
        let lost = (0..marks.len()).filter(|&place| marks[place].is_none()).collect();
        let faulty = faulty(frames, |number| places.partition_point(|&time| time < times[number]));
        let damage = damage(&timeline, &lost, missing, &faulty, complaint, probe);
        Ok((Table { timeline, marks, by_number: true, keys: Vec::new() }, damage))
    }

    /// The mark of the picture that is on display at a place: of the frame there, or where it is lost
    /// of the one before it; before the first, of the first.
    pub(super) fn mark(&self, place: usize) -> Result<i64> {
        let before = self.marks.iter().take(place + 1).rev().flatten().next();
        let found = before.or_else(|| self.marks.iter().flatten().next());
        found.copied().ok_or_else(|| Error::format("video", "none of its frames can be decoded"))
    }

    /// The place of the frame with a mark.
    pub(super) fn place(&self, mark: i64) -> Option<usize> {
        // Lost frames occur in tables of numbers alone, of which nobody asks this.
        self.marks.binary_search(&Some(mark)).ok()
    }

    /// The last time at or before `mark` at which decoding can begin.
    pub(super) fn key(&self, mark: i64) -> Option<i64> {
        self.keys[..self.keys.partition_point(|&key| key <= mark)].last().copied()
    }

    /// How many displayed frames lie from one time to another.
    pub(super) fn frames_between(&self, from: i64, to: i64) -> usize {
        let place = |time: i64| self.marks.partition_point(|mark| mark.is_some_and(|mark| mark < time));
        place(to).saturating_sub(place(from))
    }
}

/// The times of the packets that are displayed, ascending; `None` where one has none or two are equal.
fn displayed(probe: &Probe) -> Option<Vec<i64>> {
    let shown = probe.packets.iter().filter(|packet| !packet.hidden);
    let mut times = shown.map(|packet| packet.pts).collect::<Option<Vec<i64>>>()?;
    times.sort_unstable();
    times.windows(2).all(|pair| pair[0] < pair[1]).then_some(times)
}

/// The gap that half of the frames keep at most; 1 for a single frame.
fn step(times: &[i64]) -> i64 {
    let mut gaps: Vec<i64> = times.windows(2).map(|pair| pair[1].saturating_sub(pair[0])).filter(|&gap| gap > 0).collect();
    gaps.sort_unstable();
    gaps.get(gaps.len() / 2).copied().unwrap_or(1)
}

/// When the last frame ends: no container can be trusted to say how long it lasts, so that it lasts
/// as long as the others do.
fn end(times: &[i64]) -> i64 {
    times.last().map_or(0, |last| last.saturating_add(step(times)))
}

/// The times of decoded frames; `None` where none has one. A frame without a time lies a step after
/// the one before it. Where the clock of a stream jumps back, as in recordings that were joined, it
/// goes on without the jump.
fn ascending(frames: &[Decoded]) -> Option<Vec<i64>> {
    let known: Vec<i64> = frames.iter().filter_map(|frame| frame.pts).collect();
    let (&first, step) = (known.first()?, step(&known));
    let (mut times, mut shift, mut next) = (Vec::with_capacity(frames.len()), 0i64, first);
    for frame in frames {
        let mut time = frame.pts.map_or(next, |pts| pts.saturating_add(shift));
        if let Some(&last) = times.last().filter(|&&last| time <= last) {
            if time < last.saturating_sub(step) {
                shift = shift.saturating_add(next.saturating_sub(time));
                time = next;
            } else {
                time = last + 1;
            }
        }
        next = time.saturating_add(step);
        times.push(time);
    }
    Some(times)
}

/// The times of the frames that are on display, lost ones included where their packets are there or
/// where an even rate shows a gap, and how many are missing after the last.
fn places(times: &[i64], probe: &Probe, damaged: bool) -> (Vec<i64>, usize) {
    match promised_places(times, probe) {
        // Where the container itself is damaged, packets are missing too.
        Some((places, missing)) if probe.complaint.is_some() => (fill(&places), missing),
        Some(found) => found,
        None if damaged => (fill(times), 0),
        None => (times.to_vec(), 0),
    }
}

/// The times of the packets up to the last decoded frame, and how many follow; `None` where packets
/// are not frames.
fn promised_places(times: &[i64], probe: &Probe) -> Option<(Vec<i64>, usize)> {
    let (&first, &last) = (times.first()?, times.last()?);
    let promised = displayed(probe).filter(|_| probe.is_a_frame_a_packet())?;
    if times.iter().any(|time| promised.binary_search(time).is_err()) {
        return None;
    }
    // Frames before the first key frame cannot be decoded by anybody; later ones are lost.
    let begin = probe.packets.iter().find(|packet| packet.key).and_then(|packet| packet.pts).unwrap_or(first);
    let from = promised.partition_point(|&time| time < begin.min(first));
    let to = promised.partition_point(|&time| time <= last);
    Some((promised[from..to].to_vec(), promised.len() - to))
}

/// The times of frames at an even rate with those that are missing between them; the same times where
/// the rate varies.
fn fill(times: &[i64]) -> Vec<i64> {
    let Some((step, steps)) = steps(times) else { return times.to_vec() };
    let mut places: Vec<i64> = times.first().copied().into_iter().collect();
    for (pair, steps) in times.windows(2).zip(steps) {
        places.extend((1..steps).map(|i| pair[0] + (i as f64 * step).round() as i64));
        places.push(pair[1]);
    }
    places
}

/// The step of frames at an even rate, in ticks, and how many steps lie between neighbours; `None`
/// where the rate varies. Containers round times to ticks, and a gap may be of many steps.
fn steps(times: &[i64]) -> Option<(f64, Vec<i64>)> {
    let usual = step(times) as f64;
    let gaps: Vec<f64> = times.windows(2).map(|pair| (pair[1] - pair[0]) as f64).collect();
    let single: Vec<f64> = gaps.iter().copied().filter(|gap| *gap < 1.5 * usual).collect();
    let mean = single.iter().sum::<f64>() / single.len() as f64;
    let is_even = |gap: f64| (gap / mean).round() >= 1.0 && (gap - (gap / mean).round() * mean).abs() <= 1.0 + mean / 16.0;
    let even = !single.is_empty() && gaps.iter().all(|&gap| is_even(gap));
    even.then(|| (mean, gaps.iter().map(|gap| (gap / mean).round() as i64).collect()))
}

/// The places of frames that were decoded with errors.
fn faulty(frames: &[Decoded], place: impl Fn(usize) -> usize) -> Vec<usize> {
    frames.iter().enumerate().filter(|(_, frame)| frame.faulty).map(|(number, _)| place(number)).collect()
}

fn damage(
    timeline: &Timeline,
    lost: &BTreeSet<usize>,
    missing: usize,
    faulty: &[usize],
    complaint: Option<&str>,
    probe: &Probe,
) -> Option<Damage> {
    let missing = missing + probe.missing();
    let cut_off = missing > 0 || (probe.complaint.is_some() && lost.is_empty() && faulty.is_empty());
    let end = cut_off.then_some(timeline.len());
    let frame = lost.first().copied().into_iter().chain(faulty.first().copied()).chain(end).min()?;
    Some(Damage {
        frame,
        seconds: timeline.start(frame),
        lost: lost.len() + missing,
        faulty: faulty.len(),
        cut_off: end == Some(frame),
        reason: complaint.unwrap_or_default().to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn probe(times: &[Option<i64>]) -> Probe {
        let packet = |(i, &pts): (usize, &Option<i64>)| Packet {
            pts,
            timed: true,
            key: i % 3 == 0,
            hidden: pts.is_some_and(|pts| pts < 0),
        };
        let packets = times.iter().enumerate().map(packet).collect();
        Probe { format: "mov,mp4".into(), codec: "h264".into(), tick: 0.1, packets, ..Probe::default() }
    }

    fn decoded(times: &[i64]) -> Vec<Decoded> {
        times.iter().map(|&pts| Decoded { pts: Some(pts), faulty: false }).collect()
    }

    #[test]
    fn packets_are_frames_where_that_is_sure() {
        let table = Table::promised(&probe(&[Some(-2), Some(0), Some(-1), Some(4), Some(2)])).unwrap();
        assert_eq!(table.timeline, Timeline::new(&[0, 2, 4], 6, 0.1).unwrap());
        assert_eq!((table.mark(1).unwrap(), table.place(4), table.key(3), table.key(4)), (2, Some(2), Some(-2), Some(4)));
        // No time, a time twice, a leading frame, a complaint, another codec.
        assert!(Table::promised(&probe(&[Some(0), None])).is_none());
        assert!(Table::promised(&probe(&[Some(0), Some(1), Some(1)])).is_none());
        assert!(Table::promised(&probe(&[Some(3), Some(1), Some(2)])).is_none());
        assert!(Table::promised(&Probe { complaint: Some("x".into()), ..probe(&[Some(0), Some(1)]) }).is_none());
        assert!(Table::promised(&Probe { codec: "vp8".into(), ..probe(&[Some(0), Some(1)]) }).is_none());
    }

    #[test]
    fn lost_frames_keep_their_place() {
        let promised = probe(&[0, 1, 2, 3, 4, 5].map(Some));
        let (table, damage) = Table::decoded(&decoded(&[0, 1, 4]), &promised, Some("bad"), None).unwrap();
        assert_eq!(table.timeline, Timeline::new(&[0, 1, 2, 3, 4], 5, 0.1).unwrap());
        // Frames 2 and 3 show what frame 1 showed: the second decoded frame.
        assert_eq!([0, 1, 2, 3, 4].map(|place| table.mark(place).unwrap()), [0, 1, 1, 1, 2]);
        let damage = damage.unwrap();
        assert_eq!((damage.frame, damage.lost, damage.cut_off, damage.reason.as_str()), (2, 3, false, "bad"));
        let (table, damage) = Table::decoded(&decoded(&[0, 1, 2]), &promised, Some("bad"), None).unwrap();
        let damage = damage.unwrap();
        assert_eq!((table.timeline.len(), damage.frame, damage.lost, damage.cut_off), (3, 3, 3, true));
        assert!(Table::decoded(&decoded(&[0, 1, 2, 3, 4, 5]), &promised, None, None).unwrap().1.is_none());
        // The header promises more, and the last packet ends with the file.
        let cut = Probe { promised: Some(10), ..probe(&[0, 1, 2, 3, 4, 5].map(Some)) };
        let missing = Table::promised(&cut).unwrap().missing(&cut).unwrap();
        assert_eq!((missing.frame, missing.lost, missing.cut_off), (6, 4, true));
        assert_eq!(Table::promised(&promised).unwrap().missing(&promised), None);
        // Without packets to compare with, an even rate shows what is missing.
        let avi = Probe { format: "avi".into(), ..probe(&[None]) };
        let (table, damage) = Table::decoded(&decoded(&[0, 2, 4, 10, 12]), &avi, Some("bad"), None).unwrap();
        assert_eq!((table.timeline.len(), damage.unwrap().frame), (7, 3));
        let (table, damage) = Table::decoded(&decoded(&[0, 2, 4, 10, 12]), &avi, None, None).unwrap();
        assert!(table.timeline.len() == 5 && damage.is_none(), "a gap without a complaint is a slow frame");
    }

    #[test]
    fn a_stream_that_starts_between_key_frames_begins_with_its_first_picture() {
        let mut promised = probe(&[0, 1, 2, 3, 4].map(Some));
        promised.packets[0].key = false;
        let (table, damage) = Table::decoded(&decoded(&[3, 4]), &promised, Some("no reference"), None).unwrap();
        assert_eq!(table.timeline, Timeline::new(&[3, 4], 5, 0.1).unwrap());
        assert_eq!(damage, None);
    }

    #[test]
    fn clocks_without_order_are_put_in_order() {
        assert_eq!(ascending(&decoded(&[5, 7, 9, 0, 2, 4])).unwrap(), [5, 7, 9, 11, 13, 15]);
        assert_eq!(ascending(&decoded(&[0, 0, 2])).unwrap(), [0, 1, 2]);
        let gap = [Some(0), None, Some(4)].map(|pts| Decoded { pts, faulty: false });
        assert_eq!(ascending(&gap).unwrap(), [0, 4, 5]);
        assert_eq!(ascending(&[Decoded { pts: None, faulty: false }]), None);
        let (table, _) = Table::decoded(&[Decoded { pts: None, faulty: false }; 3], &probe(&[]), None, Some(25.0)).unwrap();
        assert_eq!(table.timeline, Timeline::even(3, Some(25.0)));
        // ffmpeg makes up times where packets have none.
        let (table, _) =
            Table::decoded(&decoded(&[0, 1, 2]), &Probe { packets: vec![Packet::default()], ..probe(&[]) }, None, None).unwrap();
        assert_eq!(table.timeline, Timeline::even(3, None));
    }
}
