//! Damaged and truncated files: what is lost is told, and the rest keeps its place and its time.

use std::{path::Path, process::Command};

use tubelet_models::video::{Damaged, Geometry, Note, Options, Sampling, Views, open, open_with, views};

use crate::{
    Folder, ffmpeg_is_installed,
    numbered::{SIDE, all_numbers, numbers, y4m},
};

/// Where each packet lies in a file: offset and size.
fn packets(path: &Path) -> Vec<(usize, usize)> {
    let report = Command::new("ffprobe")
        .args(["-v", "error", "-select_streams", "v:0", "-show_entries", "packet=size,pos", "-of", "csv=p=0"])
        .arg(path)
        .output()
        .unwrap();
    let number = |text: &str| text.parse().unwrap();
    let text = String::from_utf8(report.stdout).unwrap();
    let pairs = text.lines().map(|line| line.trim_end_matches(',').split_once(',').unwrap());
    pairs.map(|(size, pos)| (number(pos), number(size))).collect()
}

fn damage(notes: &[Note]) -> String {
    match notes {
        [Note::Damaged(damage)] => damage.to_string(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn lost_packets_are_counted_and_the_rest_keeps_its_place() {
    if !ffmpeg_is_installed() {
        return;
    }
    let folder = Folder::new("zeroed");
    let args = ["-c:v", "libx264", "-g", "15", "-bf", "0"];
    // In Matroska the first zeroed block takes the rest of its cluster along.
    for (name, whole) in [("whole.mp4", 53), ("whole.mkv", 94)] {
        let Some(path) = folder.numbered(name, 120, "30:1", &args) else { continue };
        let mut bytes = std::fs::read(&path).unwrap();
        for (at, size) in &packets(&path)[50..53] {
            bytes[*at..at + size].fill(0);
        }
        let path = folder.write(&format!("zeroed-{name}"), &bytes);
        let mut video = open(&path).unwrap();
        let mut expected: Vec<usize> = (0..120).collect();
        // The picture before the gap stays on display.
        expected[50..whole].fill(49);
        let shown = all_numbers(video.as_mut());
        assert_eq!(shown, expected, "{name}");
        let text = damage(&video.notes());
        let lost = format!("damaged at 1.67 s (frame 50): {} frames lost", whole - 50);
        assert!(text.contains(&lost) && !text.contains("repeated"), "{name}: {text}");
        // One view and several behave the same, whether or not they need the lost frames.
        let geometry = Geometry::Squash { size: [SIDE, SIDE] };
        for (clips, sampling) in [(1, Sampling::Sparse { frames: 4 }), (4, Sampling::Dense { frames: 4, stride: 8 })] {
            let mut video = open(&path).unwrap();
            let read = views(video.as_mut(), &sampling, &geometry, Views { clips, crops: 1 }).unwrap();
            let chosen = sampling.clips(video.timeline().unwrap(), clips).unwrap();
            for (clip, chosen) in read.clips.iter().zip(chosen) {
                assert_eq!(numbers(clip), chosen.iter().map(|&frame| expected[frame]).collect::<Vec<_>>(), "{name}");
            }
            assert_eq!(damage(&read.notes), text, "{name}");
        }
        let refuse = Options { damaged: Damaged::Refuse, ..Options::default() };
        let message = open_with(&path, &refuse).err().unwrap().to_string();
        assert!(message.contains(name) && message.contains("frame 50"), "{message}");
    }
}

#[test]
fn a_file_that_ends_early_is_sampled_over_what_is_there() {
    if !ffmpeg_is_installed() {
        return;
    }
    let folder = Folder::new("cut");
    let args = ["-c:v", "libx264", "-g", "15", "-bf", "0", "-movflags", "faststart"];
    for name in ["whole.mp4", "whole.mkv"] {
        let Some(path) = folder.numbered(name, 120, "30:1", &args) else { continue };
        let (bytes, packets) = (std::fs::read(&path).unwrap(), packets(&path));
        // Between two packets, and within one.
        for end in [packets[80].0, packets[80].0 + packets[80].1 / 2] {
            let path = folder.write(&format!("cut-{name}"), &bytes[..end]);
            let mut video = open(&path).unwrap();
            let shown = all_numbers(video.as_mut());
            assert!((79..=81).contains(&shown.len()) && shown == (0..shown.len()).collect::<Vec<_>>(), "{name}: {shown:?}");
            let text = damage(&video.notes());
            let frame = format!("(frame {})", shown.len());
            assert!(text.contains("cut off at 2.6") && text.contains(&frame), "{name}: {text}");
            let refuse = Options { damaged: Damaged::Refuse, ..Options::default() };
            assert!(open_with(&path, &refuse).err().unwrap().to_string().contains("cut off"), "{name}");
        }
    }
    assert!(open(folder.write("head.mp4", &[0, 0, 0, 32, b'f', b't', b'y', b'p'])).is_err());
}

#[test]
fn even_recordings_without_reliable_packets_keep_places() {
    if !ffmpeg_is_installed() {
        return;
    }
    let folder = Folder::new("zeroed-avi");
    let Some(path) = folder.numbered("whole.avi", 120, "30:1", &["-c:v", "mpeg4", "-q:v", "2", "-g", "1"]) else { return };
    let mut bytes = std::fs::read(&path).unwrap();
    for (at, size) in &packets(&path)[50..53] {
        bytes[*at + 8..at + size].fill(0);
    }
    let mut video = open(folder.write("zeroed.avi", &bytes)).unwrap();
    let shown = all_numbers(video.as_mut());
    assert_eq!((shown.len(), &shown[..50]), (120, &(0..50).collect::<Vec<_>>()[..]));
    assert_eq!(shown[53..], (53..120).collect::<Vec<_>>());
    assert!(damage(&video.notes()).contains("(frame 50)"), "{:?}", video.notes());
}

#[test]
fn a_broken_image_among_images_is_lost() {
    let folder = Folder::new("broken-images");
    for n in 0..5u8 {
        let path = folder.0.join(format!("frame_{n}.png"));
        image::RgbImage::from_pixel(4, 3, image::Rgb([n; 3])).save(path).unwrap();
    }
    folder.write("frame_2.png", b"\x89PNG\r\n\x1a\nbroken");
    let mut video = open(&folder.0).unwrap();
    let frames = video.read(&[0, 1, 2, 3, 4]).unwrap();
    assert_eq!(frames.data.chunks(36).map(|frame| frame[0]).collect::<Vec<_>>(), [0, 1, 1, 3, 4]);
    assert!(damage(&video.notes()).contains("frame 2: 1 frame lost"), "{:?}", video.notes());
    let refuse = Options { damaged: Damaged::Refuse, ..Options::default() };
    assert!(open_with(&folder.0, &refuse).err().unwrap().to_string().contains("frame_2.png"));
}

#[test]
fn a_truncated_stream_is_used_up_to_its_end() {
    let folder = Folder::new("cut-y4m");
    let bytes = y4m(0..9, "25:1");
    let mut video = open(folder.write("cut.y4m", &bytes[..bytes.len() - 10])).unwrap();
    assert_eq!(all_numbers(video.as_mut()), (0..8).collect::<Vec<_>>());
    assert!(damage(&video.notes()).contains("cut off at 0.32 s (frame 8)"), "{:?}", video.notes());
}
