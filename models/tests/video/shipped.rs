//! The clip that ships with the crate, read without ffmpeg and without features.

use tubelet_models::video::{Geometry, Sampling, Timeline, Views, open, views};

use crate::{CLIP, Folder, camera, clip, error};

#[test]
fn the_clips_are_what_their_generators_write() {
    let shipped = std::fs::read(CLIP).unwrap();
    assert!(shipped.len() <= 1 << 20);
    assert!(shipped == clip::y4m(), "write it anew: cargo run -p tubelet-models --example clips -- models/clips");
    let shipped = std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/clips/camera.y4m")).unwrap();
    assert!(shipped.len() <= 1 << 20 && shipped == camera::y4m(), "write it anew, likewise");
}

#[test]
fn the_disc_moves() {
    let mut video = open(CLIP).unwrap();
    let info = video.info().clone();
    assert_eq!((info.width, info.height), clip::SIZE);
    assert_eq!(*video.timeline().unwrap(), Timeline::even(clip::FRAMES, Some(15.0)));
    let all: Vec<_> = (0..clip::FRAMES).collect();
    let frames = video.read(&all).unwrap();
    let bytes = info.width * info.height * 3;
    // BT.601 of (150, 60, 190): luma 134·255/219 = 156.03; R = 156.03 + 1.402·62·255/224 = 254.98,
    // B = 156.03 − 1.772·68·255/224 = 18.86, G = (156.03 − 0.299·254.98 − 0.114·18.86)/0.587 = 132.27.
    let orange = [255, 132, 19];
    for (frame, pixels) in frames.data.chunks(bytes).enumerate() {
        let (x, y) = clip::centre(frame);
        let at = |x: i32, y: i32| &pixels[(y as usize * info.width + x as usize) * 3..][..3];
        for (dx, dy) in [(0, 0), (clip::RADIUS - 2, 0), (0, 2 - clip::RADIUS)] {
            assert_eq!(at(x + dx, y + dy), orange, "frame {frame}, ({dx}, {dy}) from the centre");
        }
        assert!(at(0, 0)[0] < at(0, 0)[1], "the background is no blue-green in frame {frame}");
    }
}

#[test]
fn views_of_every_recipe() {
    let geometry = Geometry::ShortSide { short: 64, crop: [56, 64] };
    for sampling in [
        Sampling::Sparse { frames: 8 },
        Sampling::Dense { frames: 32, stride: 2 },
        Sampling::Segments { frames: 8, stride: 8 },
        Sampling::Rate { frames: 64, fps: 15.0 },
    ] {
        let mut video = open(CLIP).unwrap();
        let out = views(video.as_mut(), &sampling, &geometry, Views { clips: 4, crops: 3 }).unwrap().clips;
        assert_eq!(out.len(), 12);
        for view in &out {
            assert_eq!((view.len(), view.height, view.width), (sampling.frames(), 56, 64));
        }
        // 96×72 becomes 85×64: the crops at 0, 11 and 21 differ.
        assert!(out[0] != out[1] && out[1] != out[2]);
    }
}

#[test]
fn files_that_are_no_video_are_refused() {
    let folder = Folder::new("shipped");
    assert!(error(&folder.0.join("missing.y4m")).contains("missing.y4m"));
    assert!(error(&folder.write("empty.y4m", b"")).contains("empty"));
    assert!(error(&folder.write("header.y4m", b"YUV4MPEG2 W4 H4 F25:1\n")).contains("no frames"));
    let whole = clip::y4m();
    assert!(error(&folder.write("cut.y4m", &whole[..200])).contains("frame 0 is truncated"));
}
