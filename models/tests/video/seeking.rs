//! A read that seeks gives the frames of a read that does not.

use tubelet_models::video::{Ffmpeg, Options, Source};

use crate::{Folder, ffmpeg_is_installed, numbered::numbers};

/// A picture that never repeats: each frame differs from all others, and a frame that is decoded from
/// wrong references is not that frame.
const PICTURE: [&str; 4] = ["-f", "lavfi", "-i", "testsrc2=size=128x96:rate=30:duration=3"];

#[test]
fn open_groups_and_b_frames_give_the_same_frames() {
    if !ffmpeg_is_installed() {
        return;
    }
    let folder = Folder::new("seeking");
    let open_gop = "keyint=16:min-keyint=16:scenecut=0:open-gop=1:bframes=5:b-pyramid=normal:ref=4";
    for (name, args) in [
        ("open.mp4", &["-c:v", "libx264", "-x264-params", open_gop][..]),
        ("open.mkv", &["-c:v", "libx264", "-x264-params", open_gop]),
        ("open.ts", &["-c:v", "libx264", "-x264-params", open_gop]),
        ("closed.mp4", &["-c:v", "libx264", "-g", "12", "-bf", "3"]),
        ("refresh.mp4", &["-c:v", "libx264", "-x264-params", "keyint=16:intra-refresh=1:bframes=0"]),
        ("open-hevc.mp4", &["-c:v", "libx265", "-x265-params", "keyint=16:min-keyint=16:open-gop=1:bframes=4:log-level=error"]),
        ("open-hevc.mkv", &["-c:v", "libx265", "-x265-params", "keyint=16:min-keyint=16:open-gop=1:bframes=4:log-level=error"]),
        ("vp9.webm", &["-c:v", "libvpx-vp9", "-g", "16", "-b:v", "1M"]),
        ("av1.mp4", &["-c:v", "libsvtav1", "-preset", "12", "-g", "16"]),
        ("mpeg2.ts", &["-c:v", "mpeg2video", "-g", "12", "-bf", "2"]),
        ("mpeg4.mp4", &["-c:v", "mpeg4", "-g", "12", "-bf", "2"]),
    ] {
        let Some(path) = folder.make(name, &[&PICTURE[..], &["-pix_fmt", "yuv420p"], args].concat()) else { continue };
        let mut whole = Ffmpeg::open(&path, &Options::default()).unwrap().seek_beyond(u64::MAX);
        let frames = whole.read(&(0..90).collect::<Vec<_>>()).unwrap();
        let bytes = frames.width * frames.height * 3;
        let mut seeking = Ffmpeg::open(&path, &Options::default()).unwrap().seek_beyond(0);
        for wanted in (0..90).step_by(7).map(|frame| vec![frame]).chain([vec![3, 40, 41, 88], vec![16, 31, 32, 33, 64, 89]]) {
            let read = seeking.read(&wanted).unwrap();
            for (&frame, pixels) in wanted.iter().zip(read.data.chunks(bytes)) {
                assert!(pixels == &frames.data[frame * bytes..][..bytes], "{name}: frame {frame} of {wanted:?}");
            }
        }
        assert!(seeking.notes().is_empty(), "{name}: {:?}", seeking.notes());
    }
}

#[test]
fn seeking_keeps_to_the_edit_list() {
    if !ffmpeg_is_installed() {
        return;
    }
    let folder = Folder::new("seeking-edit");
    let Some(whole) = folder.numbered("whole.mp4", 120, "30:1", &["-c:v", "libx264", "-g", "30", "-bf", "2"]) else { return };
    let Some(path) = folder.remake("cut.mp4", &["-ss", "0.5"], &whole, &["-c", "copy"]) else { return };
    let mut video = Ffmpeg::open(path, &Options::default()).unwrap().seek_beyond(0);
    for frame in [0, 1, 14, 15, 16, 60, 104] {
        assert_eq!(numbers(&video.read(&[frame]).unwrap()), [15 + frame]);
    }
}
