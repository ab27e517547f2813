//! Images and folders of images as videos.

use std::path::PathBuf;

use image::{ImageFormat, Rgb, RgbImage};
use tubelet_models::video::{Timeline, open};

use crate::{Folder, error};

impl Folder {
    /// An image of `width`×3 pixels, red in the first row and else grey `level`.
    fn image(&self, name: &str, format: ImageFormat, width: u32, level: u8) -> PathBuf {
        let pixel = |_, y| if y == 0 { Rgb([255, 0, 0]) } else { Rgb([level; 3]) };
        RgbImage::from_fn(width, 3, pixel).save_with_format(self.0.join(name), format).unwrap();
        self.0.join(name)
    }
}

#[test]
fn an_image_is_a_video_of_one_frame() {
    let folder = Folder::new("image");
    // By content: one ending lies.
    let formats =
        [("a.png", ImageFormat::Png), ("b.bmp", ImageFormat::Bmp), ("c.webp", ImageFormat::WebP), ("d.jpg", ImageFormat::Png)];
    for (name, format) in formats {
        let mut video = open(folder.image(name, format, 4, 77)).unwrap();
        let info = video.info();
        assert_eq!((info.width, info.height), (4, 3), "{name}");
        assert_eq!(*video.timeline().unwrap(), Timeline::even(1, None), "{name}");
        let frames = video.read(&[0, 0]).unwrap();
        let expected = [[255, 0, 0].repeat(4), vec![77; 24]].concat();
        assert_eq!(frames.data, [expected.clone(), expected].concat(), "{name}");
    }
    let mut video = open(folder.image("e.jpeg", ImageFormat::Jpeg, 32, 77)).unwrap();
    assert_eq!(video.read(&[0]).unwrap().data.len(), 32 * 3 * 3);
}

#[test]
fn a_folder_is_a_video_in_natural_order() {
    let folder = Folder::new("folder");
    for frame in [10_u8, 2, 1, 9] {
        folder.image(&format!("frame_{frame}.png"), ImageFormat::Png, 4, frame);
    }
    folder.image(".hidden.png", ImageFormat::Png, 4, 99);
    std::fs::write(folder.0.join("labels.txt"), "no image").unwrap();
    let mut video = open(&folder.0).unwrap();
    let frames = video.read(&[0, 1, 2, 3]).unwrap();
    let levels: Vec<_> = frames.data.chunks(36).map(|frame| frame[35]).collect();
    assert_eq!(levels, [1, 2, 9, 10]);
    assert!(video.read(&[4]).unwrap_err().to_string().contains("has 4 frames"));
    // A frame of another size names its file.
    folder.image("frame_11.png", ImageFormat::Png, 5, 0);
    let message = open(&folder.0).unwrap().read(&[4]).unwrap_err().to_string();
    assert!(message.contains("frame_11.png: 5×3") && message.contains("4×3"), "{message}");
}

#[test]
fn broken_images_and_empty_folders_are_refused() {
    let folder = Folder::new("broken");
    assert!(error(&folder.0).contains("no images"));
    let path = folder.image("whole.png", ImageFormat::Png, 64, 5);
    let bytes = std::fs::read(path).unwrap();
    let cut = folder.0.join("cut.png");
    std::fs::write(&cut, &bytes[..bytes.len() / 2]).unwrap();
    assert!(error(&cut).contains("cut.png"), "{}", error(&cut));
    // A bitmap's header has no checksum: 30,000×30,000 pixels, 2.7 GB, must not be allocated.
    let mut absurd = std::fs::read(folder.image("whole.bmp", ImageFormat::Bmp, 64, 5)).unwrap();
    for side in [18, 22] {
        absurd[side..side + 4].copy_from_slice(&30_000_i32.to_le_bytes());
    }
    let message = error(&folder.write("absurd.bmp", &absurd));
    assert!(message.contains("absurd.bmp") && message.to_lowercase().contains("limit"), "{message}");
}

/// An animation of three frames, grey 10, 20 and 30, on display for 40, 40 and 200 ms.
fn animated(format: &str, encoder: &[&str], folder: &Folder) -> Option<PathBuf> {
    let frames = [10u8, 20, 30].map(|grey| [b"FRAME\n".as_slice(), &[grey; 16 * 16]].concat()).concat();
    let y4m = [b"YUV4MPEG2 W16 H16 F25:1 Ip Cmono XCOLORRANGE=FULL\n".as_slice(), &frames].concat();
    let base = folder.write("base.y4m", &y4m);
    let slow = r"setpts=if(lt(N\,2)\,N\,6)/25/TB";
    let args = [&["-i", base.to_str().unwrap(), "-vf", slow, "-fps_mode", "passthrough"], encoder].concat();
    folder.make(&format!("animated.{format}"), &args)
}

#[test]
fn animations_are_videos() {
    if !crate::ffmpeg_is_installed() {
        return;
    }
    let folder = Folder::new("animated");
    let webp = ["-c:v", "libwebp_anim", "-lossless", "1"];
    let formats = [("png", &["-f", "apng", "-pix_fmt", "rgb24"][..]), ("webp", &webp), ("gif", &["-f", "gif"])];
    for (format, encoder) in formats {
        let Some(path) = animated(format, encoder, &folder) else { continue };
        let mut video = open(&path).unwrap();
        assert_eq!(video.timeline().unwrap().len(), 3, "{format}");
        let start = video.timeline().unwrap().start(2).unwrap();
        assert!((start - 0.24).abs() < 0.011, "{format}: {start}");
        let frames = video.read(&[2, 0, 1]).unwrap();
        for (frame, grey) in frames.data.chunks(16 * 16 * 3).zip([30u8, 10, 20]) {
            assert!(frame.iter().all(|&level| level.abs_diff(grey) <= 3), "{format}: {} for {grey}", frame[0]);
        }
        let bytes = std::fs::read(&path).unwrap();
        // A file that ends within the last frame shows the others.
        if format != "gif" {
            let cut = folder.write(&format!("cut.{format}"), &bytes[..bytes.len() - 40]);
            if let Ok(mut video) = open(&cut) {
                assert_eq!((video.timeline().unwrap().len(), video.notes().len()), (2, 1), "{format}");
            }
        }
    }
}

#[test]
fn formats_that_are_not_read_are_named() {
    let folder = Folder::new("unsupported");
    for (name, begin) in [
        ("AVIF", &b"\0\0\0\x20ftypavis\0\0\0\0"[..]),
        ("HEIF", b"\0\0\0\x18ftypheic\0\0\0\0"),
        ("JPEG XL", b"\0\0\0\x0cJXL \r\n\x87\n"),
        ("TIFF", b"II*\0\x08\0\0\0"),
        ("PDF", b"%PDF-1.7"),
    ] {
        let message = error(&folder.write("picture", begin));
        assert!(message.contains(name) && message.contains("not read"), "{message}");
    }
    let options = tubelet_models::video::Options { fps: Some(30.0), ..Default::default() };
    assert!(tubelet_models::video::open_with(&folder.0, &options).is_err());
}
