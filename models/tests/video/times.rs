//! Frames are chosen, and times told, by presentation timestamps: not by what headers say.

use tubelet_models::video::{Geometry, Note, Options, Sampling, Source, Timeline, open, open_with, read_clips};

use crate::{
    Folder, ffmpeg_is_installed,
    numbered::{SIDE, all_numbers, numbers, y4m},
};

/// Frames by time, as TubeViT takes them.
const RATE: Sampling = Sampling::Rate { frames: 8, fps: 15.0 };

fn chosen(video: &mut dyn Source, sampling: Sampling) -> Vec<usize> {
    let clip = sampling.clips(video.timeline().unwrap(), 1).unwrap().remove(0);
    numbers(&video.read(&clip).unwrap())
}

fn seconds(video: &mut dyn Source) -> f64 {
    video.timeline().unwrap().seconds().unwrap()
}

fn is_close(a: f64, b: f64) -> bool {
    (a - b).abs() < 2e-3
}

/// The place of the content of the first box of a kind in an mp4.
fn find_box(data: &[u8], kind: &[u8; 4]) -> usize {
    data.windows(4).position(|window| window == kind).unwrap() + 4
}

#[test]
fn an_edit_list_hides_frames_at_both_ends() {
    if !ffmpeg_is_installed() {
        return;
    }
    let folder = Folder::new("edit-list");
    let Some(path) = folder.numbered("whole.mp4", 120, "30:1", &["-c:v", "libx264", "-g", "20"]) else { return };
    let mut bytes = std::fs::read(path).unwrap();
    let entry = find_box(&bytes, b"elst") + 8;
    // Shown are two seconds from stored frame 25 on, which is no key frame; 512 ticks a frame.
    let start = i32::from_be_bytes(bytes[entry + 4..entry + 8].try_into().unwrap()) + 25 * 512;
    bytes[entry..entry + 4].copy_from_slice(&2000u32.to_be_bytes());
    bytes[entry + 4..entry + 8].copy_from_slice(&start.to_be_bytes());
    let mut video = open(folder.write("edited.mp4", &bytes)).unwrap();
    assert_eq!(all_numbers(video.as_mut()), (25..85).collect::<Vec<_>>());
    assert!(is_close(seconds(video.as_mut()), 2.0));
    assert_eq!(chosen(video.as_mut(), Sampling::Dense { frames: 4, stride: 2 }), [51, 53, 55, 57]);
    assert!(video.notes().is_empty());
}

#[test]
fn fragments_are_all_counted() {
    if !ffmpeg_is_installed() {
        return;
    }
    let folder = Folder::new("fragments");
    let args = ["-c:v", "libx264", "-bf", "0", "-g", "16", "-movflags", "frag_keyframe+empty_moov"];
    let Some(path) = folder.numbered("f.mp4", 120, "30:1", &args) else { return };
    let mut video = open(path).unwrap();
    assert_eq!(all_numbers(video.as_mut()), (0..120).collect::<Vec<_>>());
    assert!(is_close(seconds(video.as_mut()), 4.0));
}

#[test]
fn headers_that_count_wrongly_are_not_believed() {
    if !ffmpeg_is_installed() {
        return;
    }
    let folder = Folder::new("avi");
    let Some(path) = folder.numbered("whole.avi", 120, "30:1", &["-c:v", "mpeg4", "-q:v", "2"]) else { return };
    for claim in [30u32, 500] {
        let mut bytes = std::fs::read(&path).unwrap();
        for (tag, offset) in [(b"avih", 20), (b"strh", 36)] {
            let at = find_box(&bytes, tag) + offset;
            assert_eq!(bytes[at..at + 4], 120u32.to_le_bytes());
            bytes[at..at + 4].copy_from_slice(&claim.to_le_bytes());
        }
        let mut video = open(folder.write("lies.avi", &bytes)).unwrap();
        assert_eq!(all_numbers(video.as_mut()), (0..120).collect::<Vec<_>>(), "{claim}");
        assert!(is_close(seconds(video.as_mut()), 4.0) && video.notes().is_empty(), "{claim}");
    }
}

#[test]
fn a_rate_that_varies_is_sampled_by_time() {
    if !ffmpeg_is_installed() {
        return;
    }
    let folder = Folder::new("varies");
    // 40 frames at 20 a second, then 20 at 5: six seconds, of which the last frame counts 0.05.
    let slow = ["-vf", r"settb=1/1000,setpts=if(lt(N\,40)\,N/20\,2+(N-40)/5)/TB", "-fps_mode", "passthrough"];
    for (name, codec) in [("v.mp4", "libx264"), ("v.mkv", "libx264"), ("v.webm", "libvpx"), ("v.mov", "mjpeg")] {
        let args = [&slow[..], &["-enc_time_base", "1/1000", "-c:v", codec, "-q:v", "2", "-g", "12"]].concat();
        let Some(path) = folder.numbered(name, 60, "20:1", &args) else { continue };
        let mut video = open(path).unwrap();
        assert_eq!(video.timeline().unwrap().len(), 60, "{name}");
        assert!(is_close(seconds(video.as_mut()), 5.85), "{name}: {}", seconds(video.as_mut()));
        assert!(video.timeline().unwrap().peculiarity().unwrap().contains("varies"), "{name}");
        // Half a second around 2.925 s: a frame lasts 0.2 s there; 2.658 to 3.125 s.
        assert_eq!(chosen(video.as_mut(), RATE), [43, 43, 43, 44, 44, 44, 45, 45], "{name}");
        // Rules that count frames do not care.
        assert_eq!(chosen(video.as_mut(), Sampling::Dense { frames: 4, stride: 1 }), [28, 29, 30, 31], "{name}");
    }
}

#[test]
fn a_recording_without_rate_and_duration_has_times() {
    if !ffmpeg_is_installed() {
        return;
    }
    let folder = Folder::new("recorded");
    let uneven = r"settb=1/1000,setpts=if(lt(N\,4)\,N\,N*100+mod(N*37\,61))";
    for codec in ["libvpx", "libvpx-vp9"] {
        let args =
            ["-vf", uneven, "-fps_mode", "passthrough", "-enc_time_base", "1/1000", "-c:v", codec, "-q:v", "4", "-live", "1"];
        let Some(path) = folder.numbered("r.webm", 80, "30:1", &args) else { continue };
        let mut bytes = std::fs::read(path).unwrap();
        // DefaultDuration becomes a void element.
        let at = bytes.windows(3).position(|window| window == b"\x23\xe3\x83").unwrap();
        let length = 4 + usize::from(bytes[at + 3] & 0x7f);
        bytes[at] = 0xec;
        bytes[at + 1] = 0x80 | u8::try_from(length - 2).unwrap();
        let mut video = open(folder.write("void.webm", &bytes)).unwrap();
        assert_eq!(all_numbers(video.as_mut()), (0..80).collect::<Vec<_>>(), "{codec}");
        let last = video.timeline().unwrap().start(79).unwrap();
        // 79·100 + (79·37 mod 61).
        assert!(is_close(last, 7.956), "{codec}: {last}");
    }
}

#[test]
fn the_same_frames_from_every_container() {
    if !ffmpeg_is_installed() {
        return;
    }
    let folder = Folder::new("containers");
    for (name, args) in [
        ("c.mp4", &["-c:v", "libx264"][..]),
        ("c.mkv", &["-c:v", "libx264", "-bf", "3"]),
        ("c.mov", &["-c:v", "libx264", "-bf", "2"]),
        ("c.ts", &["-c:v", "libx264", "-bf", "3", "-g", "30"]),
        ("c.flv", &["-c:v", "libx264", "-bf", "2"]),
        ("c.avi", &["-c:v", "mpeg4", "-q:v", "2"]),
        ("c.webm", &["-c:v", "libvpx", "-auto-alt-ref", "1", "-lag-in-frames", "16", "-b:v", "2M"]),
        ("d.webm", &["-c:v", "libvpx-vp9", "-b:v", "2M", "-lag-in-frames", "16", "-auto-alt-ref", "1"]),
        ("c.mpg", &["-c:v", "mpeg2video", "-q:v", "2", "-bf", "2"]),
        ("d.ts", &["-c:v", "mpeg2video", "-q:v", "2", "-bf", "2"]),
        ("c.ogv", &["-c:v", "libtheora", "-q:v", "10"]),
        ("hevc.mp4", &["-c:v", "libx265", "-x265-params", "log-level=error"]),
        ("av1.mkv", &["-c:v", "libsvtav1", "-preset", "12", "-crf", "20"]),
    ] {
        let Some(path) = folder.numbered(name, 120, "30:1", args) else { continue };
        let mut video = open(path).unwrap();
        assert_eq!(all_numbers(video.as_mut()), (0..120).collect::<Vec<_>>(), "{name}");
        assert!(is_close(seconds(video.as_mut()), 4.0), "{name}: {}", seconds(video.as_mut()));
        // 2 s − 8/30 s: frame 52, then every second one.
        assert_eq!(chosen(video.as_mut(), RATE), [52, 54, 56, 58, 60, 62, 64, 66], "{name}");
        assert_eq!(video.notes(), [], "{name}");
    }
}

#[test]
fn a_copy_that_starts_between_key_frames_begins_where_pictures_begin() {
    if !ffmpeg_is_installed() {
        return;
    }
    let folder = Folder::new("between");
    let Some(whole) = folder.numbered("whole.mkv", 120, "30:1", &["-c:v", "libx264", "-g", "30", "-bf", "0"]) else { return };
    for name in ["copy.mkv", "copy.ts"] {
        let copied = folder.remake(name, &["-ss", "0.5"], &whole, &["-c", "copy", "-copyinkf"]);
        let Some(path) = copied else { continue };
        let mut video = open(path).unwrap();
        // The first key frame after the cut, or the one before it, from which the copy began.
        let shown = all_numbers(video.as_mut());
        assert!(shown[0].is_multiple_of(30) && shown == (shown[0]..120).collect::<Vec<_>>(), "{name}: {shown:?}");
        assert!(is_close(seconds(video.as_mut()), (120 - shown[0]) as f64 / 30.0), "{name}");
    }
    // In mp4 the copy has all frames, and an edit list hides those before the cut.
    let Some(path) = folder.remake("copy.mp4", &["-ss", "0.5"], &whole, &["-c", "copy"]) else { return };
    let mut video = open(path).unwrap();
    assert_eq!(all_numbers(video.as_mut()), (15..120).collect::<Vec<_>>());
    assert!(is_close(seconds(video.as_mut()), 3.5));
}

/// Sets the flags of soft telecine in an MPEG-2 stream: of every four frames two are shown for three
/// fields, so that 24 frames take a second of 60 fields.
fn telecine(stream: &mut [u8]) {
    let mut picture = 0;
    for at in 0..stream.len().saturating_sub(9) {
        if stream[at..at + 4] != [0, 0, 1, 0xb5] {
            continue;
        }
        match stream[at + 4] >> 4 {
            // The sequence extension: progressive_sequence off.
            1 => stream[at + 5] &= !8,
            // A picture coding extension: top_field_first, repeat_first_field, progressive_frame.
            8 => {
                let (top_first, repeat) = [(1, 1), (0, 0), (0, 1), (1, 0)][picture % 4];
                stream[at + 7] = stream[at + 7] & !0x82 | top_first << 7 | repeat << 1 | 0x40;
                stream[at + 8] |= 0x80;
                picture += 1;
            }
            _ => {}
        }
    }
}

#[test]
fn soft_telecine_counts_each_frame_once() {
    if !ffmpeg_is_installed() {
        return;
    }
    let folder = Folder::new("telecine");
    let args = ["-c:v", "mpeg2video", "-q:v", "2", "-bf", "0", "-g", "12", "-f", "mpeg2video"];
    let Some(path) = folder.numbered("film.m2v", 48, "30000:1001", &args) else { return };
    let mut stream = std::fs::read(path).unwrap();
    telecine(&mut stream);
    let film = folder.write("soft.m2v", &stream);
    for name in ["soft.ts", "soft.mpg", "soft.mkv"] {
        let Some(path) = folder.remake(name, &["-fflags", "+genpts"], &film, &["-c", "copy"]) else { continue };
        let mut video = open(path).unwrap();
        assert_eq!(all_numbers(video.as_mut()), (0..48).collect::<Vec<_>>(), "{name}");
        // 48 frames of 2.5 fields each.
        let seconds = seconds(video.as_mut());
        assert!((seconds - 48.0 * 2.5 * 1001.0 / 60000.0).abs() < 0.04, "{name}: {seconds}");
    }
}

#[test]
fn recordings_whose_clock_jumps_back_go_on() {
    if !ffmpeg_is_installed() {
        return;
    }
    let folder = Folder::new("joined");
    let Some(path) = folder.numbered("a.ts", 60, "30:1", &["-c:v", "libx264", "-g", "15", "-bf", "0"]) else { return };
    let part = std::fs::read(path).unwrap();
    let mut video = open(folder.write("twice.ts", &part.repeat(2))).unwrap();
    let twice: Vec<usize> = (0..60).chain(0..60).collect();
    assert_eq!(all_numbers(video.as_mut()), twice);
    assert!((seconds(video.as_mut()) - 4.0).abs() < 0.1, "{}", seconds(video.as_mut()));
}

#[test]
fn frames_behind_a_change_of_size_are_the_right_ones() {
    if !ffmpeg_is_installed() {
        return;
    }
    let folder = Folder::new("resized");
    for codec in ["mpeg2video", "libx264"] {
        let args = ["-c:v", codec, "-q:v", "2", "-bf", "0", "-g", "10"];
        let Some(small) = folder.numbered("small.ts", 30, "30:1", &args) else { continue };
        let larger = [&["-vf", "scale=128:64:flags=neighbor"], &args[..]].concat();
        let Some(large) = folder.numbered("large.ts", 30, "30:1", &larger) else { continue };
        let joined = [std::fs::read(small).unwrap(), std::fs::read(large).unwrap()].concat();
        let mut video = open(folder.write("joined.ts", &joined)).unwrap();
        let frames = video.timeline().unwrap().len();
        let geometry = Geometry::Squash { size: [SIDE, SIDE] };
        let mut read = |wanted: Vec<usize>| {
            let choose = |_: &Timeline| Ok(vec![wanted.clone()]);
            let clips = read_clips(video.as_mut(), &choose, geometry.output(), &mut |w, h| geometry.plan(w, h, 1));
            numbers(&clips.unwrap()[0])
        };
        // A decoder may lose the frame at the seam.
        let all = read((0..frames).collect());
        assert!((59..=60).contains(&frames) && all[..29] == (0..29).collect::<Vec<_>>(), "{codec}: {all:?}");
        assert_eq!(all[frames - 29..], (1..30).collect::<Vec<_>>(), "{codec}");
        let wanted = [3, 28, 33, 45, 58];
        assert_eq!(read(wanted.to_vec()), wanted.map(|frame| all[frame]), "{codec}");
    }
}

#[test]
fn streams_without_timestamps_say_so_and_take_a_rate() {
    if !ffmpeg_is_installed() {
        return;
    }
    let folder = Folder::new("bare");
    let Some(path) = folder.numbered("bare.h264", 60, "30:1", &["-c:v", "libx264", "-f", "h264"]) else { return };
    let mut video = open(&path).unwrap();
    assert_eq!(all_numbers(video.as_mut()), (0..60).collect::<Vec<_>>());
    assert!(matches!(&video.notes()[..], [Note::Assumed(text)] if text.contains("no timestamps")), "{:?}", video.notes());
    let options = Options { fps: Some(10.0), ..Options::default() };
    let mut video = open_with(&path, &options).unwrap();
    assert!(is_close(seconds(video.as_mut()), 6.0) && video.notes().is_empty());
    let Some(path) = folder.numbered("timed.mp4", 60, "30:1", &["-c:v", "libx264"]) else { return };
    let message = open_with(path, &options).err().unwrap().to_string();
    assert!(message.contains("timed.mp4 has timestamps of its own"), "{message}");
}

#[test]
fn images_take_a_rate() {
    let folder = Folder::new("rate");
    let path = folder.write("still.y4m", &y4m(0..30, "0:0"));
    assert!(RATE.clips(open(&path).unwrap().timeline().unwrap(), 1).unwrap_err().to_string().contains("--fps"));
    let options = Options { fps: Some(30.0), ..Options::default() };
    // Half a second less than 8/15 s fits: from (1 − 8/15)/2 s on.
    assert_eq!(chosen(open_with(path, &options).unwrap().as_mut(), RATE), [7, 9, 11, 13, 15, 17, 19, 21]);
    for fps in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        let options = Options { fps: Some(fps), ..Options::default() };
        assert!(open_with(&folder.0, &options).err().unwrap().to_string().contains("positive"), "{fps}");
    }
}
