//! Formats of images by how a file begins.

/// A format of images.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Image {
    /// JPEG, PNG, WebP or BMP.
    Known,
    /// One that is not read, by its name. Several of these hold more than one frame, of which another
    /// reader would show the first without a word.
    Unsupported(&'static str),
}

/// The formats that are not read, by their first bytes.
const UNSUPPORTED: [(&[u8], &str); 9] = [
    (b"\xff\x0a", "JPEG XL"),
    (b"\0\0\0\x0cJXL ", "JPEG XL"),
    (b"\0\0\0\x0cjP  ", "JPEG 2000"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"\x8aMNG", "MNG"),
    (b"8BPS", "Photoshop's PSD"),
    (b"%PDF", "PDF"),
    (b"<svg", "SVG"),
];

impl Image {
    /// The format of a file that begins with `magic` (at least 12 bytes, if it has them); `None` where
    /// it is not an image.
    pub(super) fn of(magic: &[u8]) -> Option<Self> {
        // Two letters alone begin many a text; the next reserved field is zero.
        let bitmap = magic.starts_with(b"BM") && magic.get(6..10) == Some(&[0; 4]);
        let webp = magic.starts_with(b"RIFF") && magic.get(8..12) == Some(b"WEBP");
        if bitmap || webp || magic.starts_with(b"\xff\xd8\xff") || magic.starts_with(b"\x89PNG\r\n\x1a\n") {
            return Some(Image::Known);
        }
        // ISO media files of which the first brand is that of images.
        match magic.get(4..8).filter(|kind| *kind == b"ftyp").and(magic.get(8..12)) {
            Some(b"avif" | b"avis") => return Some(Image::Unsupported("AVIF")),
            Some(b"heic" | b"heix" | b"heim" | b"heis" | b"hevc" | b"hevx" | b"mif1" | b"msf1") => {
                return Some(Image::Unsupported("HEIF (HEIC)"));
            }
            _ => {}
        }
        UNSUPPORTED.iter().find(|(begin, _)| magic.starts_with(begin)).map(|(_, name)| Image::Unsupported(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_are_known_by_their_first_bytes() {
        for magic in [&b"\x89PNG\r\n\x1a\n...."[..], b"\xff\xd8\xff\xe0", b"RIFF....WEBPVP8 ", b"BM1234\0\0\0\0.."] {
            assert_eq!(Image::of(magic), Some(Image::Known));
        }
        for (magic, name) in
            [(&b"\0\0\0\x20ftypavis...."[..], "AVIF"), (b"\0\0\0\x18ftypheic....", "HEIF (HEIC)"), (b"\xff\x0a...", "JPEG XL")]
        {
            assert_eq!(Image::of(magic), Some(Image::Unsupported(name)));
        }
        for magic in [&b"RIFF....AVI LIST"[..], b"RIFF", b"", b"GIF89a", b"BM is a text", b"\0\0\0\x18ftypisom...."] {
            assert_eq!(Image::of(magic), None);
        }
    }
}
