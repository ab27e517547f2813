//! Containers through an installed ffmpeg. Without ffmpeg, each test says that it was skipped.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use tubelet_models::video::{Frames, Geometry, Sampling, Source, Views, open, views};

use crate::{CLIP, Folder, clip, error};

impl Folder {
    /// Makes a file with ffmpeg; `None`, with a word on why, where this build of it cannot.
    pub fn make(&self, name: &str, args: &[&str]) -> Option<PathBuf> {
        let path = self.0.join(name);
        let mut command = Command::new("ffmpeg");
        command.args(["-nostdin", "-v", "error", "-y"]).args(args).arg(format!("file:{}", path.display()));
        let output = command.output().unwrap();
        if !output.status.success() {
            println!("skipped: this ffmpeg cannot write {name}: {}", String::from_utf8_lossy(&output.stderr));
            return None;
        }
        Some(path)
    }
}

pub fn ffmpeg_is_installed() -> bool {
    let runs = ["ffmpeg", "ffprobe"].iter().all(|program| Command::new(program).arg("-version").output().is_ok());
    if !runs {
        println!("skipped: ffmpeg not installed");
    }
    runs
}

fn all(video: &mut dyn Source) -> Frames {
    let frames = video.timeline().unwrap().len();
    video.read(&(0..frames).collect::<Vec<_>>()).unwrap()
}

fn largest_difference(a: &Frames, b: &Frames) -> u8 {
    assert_eq!((a.width, a.height, a.len()), (b.width, b.height, b.len()));
    a.data.iter().zip(&b.data).map(|(a, b)| a.abs_diff(*b)).max().unwrap_or(0)
}

#[test]
fn a_lossless_container_gives_the_frames_of_the_y4m() {
    if !ffmpeg_is_installed() {
        return;
    }
    let folder = Folder::new("lossless");
    let Some(path) = folder.make("a:b -c.mkv", &["-i", CLIP, "-c:v", "ffv1"]) else { return };
    let mut video = open(&path).unwrap();
    let frames = all(video.as_mut());
    // The same samples; ffmpeg's conversion to RGB rounds its coefficients to 13 bits and more coarsely than ours.
    let difference = largest_difference(&frames, &all(open(CLIP).unwrap().as_mut()));
    assert!(difference <= 3, "{difference}");
    // Any order, with repetitions, is the same frames.
    let some = video.read(&[31, 0, 7, 7]).unwrap();
    let bytes = some.width * some.height * 3;
    for (got, index) in some.data.chunks(bytes).zip([31, 0, 7, 7]) {
        assert!(got == &frames.data[index * bytes..][..bytes], "frame {index}");
    }
    assert!(video.read(&[32]).unwrap_err().to_string().contains("frame 32 was asked for, the video has 32 frames"));
}

#[test]
fn lossy_containers_show_the_disc() {
    if !ffmpeg_is_installed() {
        return;
    }
    let folder = Folder::new("lossy");
    let encoders: [(&str, &[&str]); 4] = [
        ("clip.mp4", &["-c:v", "libx264", "-crf", "10"]),
        ("clip.webm", &["-c:v", "libvpx-vp9", "-b:v", "2M"]),
        ("clip.avi", &["-c:v", "mpeg4", "-q:v", "2"]),
        ("clip.mov", &["-c:v", "mjpeg", "-q:v", "2"]),
    ];
    for (name, encoder) in encoders {
        let Some(path) = folder.make(name, &[&["-i", CLIP], encoder].concat()) else { continue };
        let mut video = open(&path).unwrap();
        let frames = all(video.as_mut());
        assert_eq!((frames.width, frames.height, frames.len()), (96, 72, 32), "{name}");
        for (frame, pixels) in frames.data.chunks(96 * 72 * 3).enumerate() {
            let (x, y) = clip::centre(frame);
            let rgb = &pixels[(y as usize * 96 + x as usize) * 3..][..3];
            for (got, orange) in rgb.iter().zip([255_u8, 132, 19]) {
                // Codecs blur; a wrong order of channels or rows is off by 100 and more.
                assert!(got.abs_diff(orange) <= 30, "{name}, frame {frame}: {rgb:?}");
            }
        }
    }
}

#[test]
fn rotated_videos_stand_upright() {
    if !ffmpeg_is_installed() {
        return;
    }
    let folder = Folder::new("rotated");
    let Some(plain) = folder.make("plain.mp4", &["-i", CLIP, "-c:v", "mpeg4", "-q:v", "2"]) else { return };
    let plain = plain.display().to_string();
    // The option of ffmpeg 6 and later, then that of earlier versions.
    let turned = folder
        .make("turned.mp4", &["-display_rotation", "90", "-i", &plain, "-c", "copy"])
        .or_else(|| folder.make("turned.mp4", &["-i", &plain, "-c", "copy", "-metadata:s:v", "rotate=90"]));
    let Some(path) = turned else { return };
    let mut video = open(path).unwrap();
    assert_eq!((video.info().width, video.info().height), (72, 96));
    let frames = video.read(&[0]).unwrap();
    assert_eq!((frames.width, frames.height), (72, 96));
}

#[test]
fn a_frame_rate_that_varies_neither_repeats_nor_drops_frames() {
    if !ffmpeg_is_installed() {
        return;
    }
    let folder = Folder::new("varying");
    // Frame n is shown at n²/100 seconds.
    let args = ["-i", CLIP, "-vf", "setpts=N*N/100/TB", "-vsync", "vfr", "-enc_time_base", "1:1000", "-c:v", "ffv1"];
    let Some(path) = folder.make("varying.mkv", &args) else { return };
    let frames = all(open(&path).unwrap().as_mut());
    assert!(largest_difference(&frames, &all(open(CLIP).unwrap().as_mut())) <= 3);
}

#[test]
fn what_is_no_video_is_refused() {
    if !ffmpeg_is_installed() {
        return;
    }
    let folder = Folder::new("no-video");
    if let Some(wav) = folder.make("sound.wav", &["-f", "lavfi", "-i", "sine=duration=0.2"]) {
        let message = error(&wav);
        assert!(message.contains("sound.wav") && message.contains("no video stream"), "{message}");
        // Cover art is an image, not the video.
        let art = [
            "-i",
            &wav.display().to_string(),
            "-i",
            CLIP,
            "-map",
            "0:a",
            "-map",
            "1:v",
            "-frames:v",
            "1",
            "-c:v",
            "mjpeg",
            "-disposition:v",
            "attached_pic",
        ];
        if let Some(path) = folder.make("song.m4a", &art) {
            assert!(error(&path).contains("no video stream"), "{}", error(&path));
        }
    }
    for (name, bytes) in [
        ("noise.mp4", (0..5000_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect::<Vec<_>>()),
        ("notes.txt", b"BM is how a bitmap begins, and this is a text.\n".repeat(50)),
        ("zeros.avi", vec![0; 4096]),
        ("playlist.m3u8", b"#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1:9/x.ts\n#EXT-X-ENDLIST\n".to_vec()),
    ] {
        let message = error(&folder.write(name, &bytes));
        assert!(message.contains(name), "{message}");
        println!("{message}");
    }
    assert!(error(&folder.write("empty.mp4", b"")).contains("empty"));
    assert!(error(&folder.0.join("missing.mp4")).contains("missing.mp4"));
}

#[test]
fn one_frame_is_repeated() {
    if !ffmpeg_is_installed() {
        return;
    }
    let folder = Folder::new("one");
    let Some(path) = folder.make("one.mp4", &["-i", CLIP, "-frames:v", "1", "-c:v", "mpeg4"]) else { return };
    let mut video = open(path).unwrap();
    let geometry = Geometry::ShortSide { short: 32, crop: [32, 32] };
    let out = views(video.as_mut(), &Sampling::Dense { frames: 4, stride: 2 }, &geometry, Views { clips: 1, crops: 1 }).unwrap();
    let out = out.clips;
    let frame = 32 * 32 * 3;
    assert_eq!(out[0].len(), 4);
    assert!(out[0].data.chunks(frame).all(|other| other == &out[0].data[..frame]));
}

#[test]
fn real_recordings() {
    if !ffmpeg_is_installed() {
        return;
    }
    let folder = std::env::var_os("TUBELET_VIDEOS")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/videos"), PathBuf::from);
    let Ok(entries) = std::fs::read_dir(&folder) else {
        println!("skipped: no folder {} (set TUBELET_VIDEOS)", folder.display());
        return;
    };
    for path in entries.map(|entry| entry.unwrap().path()) {
        let mut video = open(&path).unwrap();
        let geometry = Geometry::ShortSide { short: 224, crop: [224, 224] };
        let out = views(video.as_mut(), &Sampling::Sparse { frames: 8 }, &geometry, Views { clips: 4, crops: 3 }).unwrap();
        println!("{}: {:?}, {:?}", path.display(), video.info(), out.notes);
        let out = out.clips;
        assert_eq!(out.len(), 12);
        // A picture, not a flat field.
        assert!(out.iter().all(|view| view.data.iter().max() > view.data.iter().min()));
        assert!(out[0] != out[3] && out[0] != out[1]);
    }
}
