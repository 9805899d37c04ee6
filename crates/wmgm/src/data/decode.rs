//! One file of any kind to an RGB picture.

use std::fs;
use std::io::{self, Cursor};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use image::metadata::Orientation;
use image::{ColorType, DynamicImage, ImageDecoder, ImageError, ImageReader};

use crate::picture::RgbImage;

/// How large a file and its picture may be: a file of a few bytes can claim a picture of many gigabytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the file.
    pub file_bytes: u64,
    /// Pixels of the picture.
    pub pixels: u64,
    /// Bytes of memory for one picture while it is decoded (times the number of threads).
    pub memory: u64,
}

impl Default for Limits {
    /// 256 MiB, 100 megapixels, 1 GiB.
    fn default() -> Self {
        Self {
            file_bytes: 256 << 20,
            pixels: 100_000_000,
            memory: 1 << 30,
        }
    }
}

/// Why a file is no usable picture.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The file cannot be read.
    #[error("cannot be read: {0}")]
    Io(#[from] io::Error),
    /// A file of no bytes.
    #[error("the file is empty")]
    Empty,
    /// A file larger than [`Limits::file_bytes`].
    #[error("the file has {0} bytes, {1} are allowed")]
    FileTooLarge(u64, u64),
    /// A picture larger than [`Limits::pixels`].
    #[error("the picture claims {0}x{1} pixels, {2} are allowed")]
    TooLarge(u32, u32, u64),
    /// The first bytes are those of no known format.
    #[error("not a picture of a known format (jpeg, png, webp, bmp, tiff, gif)")]
    UnknownFormat,
    /// The file ends early.
    #[error("cut off: the file ends before the picture does")]
    CutOff,
    /// The decoder refused.
    #[error("cannot be decoded: {0}")]
    Image(#[from] ImageError),
    /// A fault in the decoder itself.
    #[error("cannot be decoded: the decoder failed")]
    Decoder,
}

/// The picture in the file `path`, as [`decode`] gives it.
///
/// # Errors
/// See [`DecodeError`].
pub fn decode_file(path: impl AsRef<Path>, limits: &Limits) -> Result<RgbImage, DecodeError> {
    let path = path.as_ref();
    let length = fs::metadata(path)?.len();
    if length > limits.file_bytes {
        return Err(DecodeError::FileTooLarge(length, limits.file_bytes));
    }
    decode(&fs::read(path)?, limits)
}

/// The picture in the file contents `bytes`: 8-bit RGB, upright.
///
/// The format is told from the contents. Grey becomes three equal channels, 16 bits are rounded to 8, CMYK is converted,
/// transparency is composed on white, of an animation the first frame is taken, and the camera's orientation (EXIF) is
/// applied. Colour profiles are not: values are taken as sRGB.
///
/// # Errors
/// See [`DecodeError`]. A JPEG without its end marker is [`DecodeError::CutOff`], where many viewers show it with grey
/// below.
pub fn decode(bytes: &[u8], limits: &Limits) -> Result<RgbImage, DecodeError> {
    if bytes.is_empty() {
        return Err(DecodeError::Empty);
    }
    // Decoders meet any bytes at all here; a panic in one must not end a training run.
    catch_unwind(AssertUnwindSafe(|| open(bytes, limits)))
        .unwrap_or(Err(DecodeError::Decoder))
        .map(flatten)
}

fn open(bytes: &[u8], limits: &Limits) -> Result<DynamicImage, DecodeError> {
    let mut reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format()?;
    if reader.format().is_none() {
        return Err(DecodeError::UnknownFormat);
    }
    let mut allowed = image::Limits::no_limits();
    allowed.max_alloc = Some(limits.memory);
    reader.limits(allowed.clone());
    let mut decoder = reader.into_decoder().map_err(cut_off)?;
    let (width, height) = decoder.dimensions();
    if u64::from(width) * u64::from(height) > limits.pixels {
        return Err(DecodeError::TooLarge(width, height, limits.pixels));
    }
    allowed.reserve(decoder.total_bytes())?;
    decoder.set_limits(allowed)?;
    // A damaged EXIF block is no reason to lose the picture.
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let mut picture = DynamicImage::from_decoder(decoder).map_err(cut_off)?;
    if bytes.starts_with(&[0xff, 0xd8]) && !jpeg_ends(bytes) {
        return Err(DecodeError::CutOff);
    }
    picture.apply_orientation(orientation);
    Ok(picture)
}

/// Decoders report a file that ends early in several ways; the plain one is told apart.
fn cut_off(error: ImageError) -> DecodeError {
    match error {
        ImageError::IoError(e) if e.kind() == io::ErrorKind::UnexpectedEof => DecodeError::CutOff,
        other => DecodeError::Image(other),
    }
}

/// Whether a JPEG has its end marker. The decoder fills up what is missing, so this is the only sign of a file cut off.
/// Segments are walked, for a thumbnail inside one has an end marker of its own.
fn jpeg_ends(bytes: &[u8]) -> bool {
    let mut at = 2;
    while at + 1 < bytes.len() {
        match (bytes[at], bytes[at + 1]) {
            (0xff, 0xd9) => return true,
            // A segment with a length; everything else is entropy-coded data, stuffing, restart markers and fill.
            (0xff, 0xc0..=0xcf | 0xda..=0xfe) => match bytes.get(at + 2..at + 4) {
                Some(length) => {
                    at += 2 + usize::from(u16::from_be_bytes([length[0], length[1]])).max(2)
                }
                None => return false,
            },
            _ => at += 1,
        }
    }
    false
}

/// Any kind of picture to 8-bit RGB, transparency on white.
fn flatten(picture: DynamicImage) -> RgbImage {
    let color = picture.color();
    if !color.has_alpha() {
        return picture.into_rgb8();
    }
    let (width, height) = (picture.width(), picture.height());
    if matches!(color, ColorType::La8 | ColorType::Rgba8) {
        let picture = picture.into_rgba8();
        RgbImage::from_fn(width, height, |x, y| {
            on_white(picture.get_pixel(x, y).0.map(u32::from), 255)
        })
    } else {
        let picture = picture.into_rgba16();
        RgbImage::from_fn(width, height, |x, y| {
            on_white(picture.get_pixel(x, y).0.map(u32::from), 65535)
        })
    }
}

/// `colour * alpha + white * (1 - alpha)`, rounded to 8 bits once. `max` is full opacity and full brightness.
fn on_white([r, g, b, alpha]: [u32; 4], max: u32) -> image::Rgb<u8> {
    let (alpha, max) = (u64::from(alpha), u64::from(max));
    let one = |u: u32| {
        let sum = u64::from(u) * alpha + max * (max - alpha); // of max * max
        ((sum * 255 + max * max / 2) / (max * max)) as u8
    };
    image::Rgb([one(r), one(g), one(b)])
}
