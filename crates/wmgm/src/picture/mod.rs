//! A picture: from a network's values to bytes, to PNG files and contact sheets, and resampled.
//!
//! Pictures are [`RgbImage`]s (8 bits, sRGB, rows of RGB triples); networks see `f32` planes in `[-1, 1]`, red, green,
//! blue. Value `v` and byte `u` belong together by `v = u / 127.5 - 1`.
//!
//! ```
//! use wmgm::picture::{self, RgbImage};
//! # fn main() -> Result<(), picture::PictureError> {
//! let values = [-1.0, 0.0, 1.0, 7.0,  0.0, 0.0, 0.0, 0.0,  -1.0, -1.0, 1.0, 1.0]; // (3, 2, 2)
//! let pictures: Vec<RgbImage> = picture::from_values(&values, 2, 2, 0)?;
//! assert_eq!(pictures[0].get_pixel(1, 1).0, [255, 128, 255]); // 7 is clamped, 0 rounds up
//! let sheet = picture::sheet(&pictures, picture::Layout::default())?;
//! assert_eq!(sheet.dimensions(), (2 + 2 * 2, 2 + 2 * 2)); // a gap all round
//! # Ok(()) }
//! ```

mod resample;
mod sheet;
mod values;

use std::io;
use std::path::Path;

use image::ImageEncoder;
use image::codecs::png::{CompressionType, FilterType, PngEncoder};

pub use image::RgbImage;
pub use resample::{resize, resize_crop};
pub use sheet::{Layout, MAX_PIXELS, sheet};
pub(crate) use values::fill;
pub use values::{from_values, to_values};

use crate::files::{self, FileError};

/// Why a picture could not be made or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PictureError {
    /// A network gave NaN or an infinity.
    #[error(
        "picture {picture}: value {value} in channel {channel} at row {row}, column {column}; the weights or the input are broken"
    )]
    NotFinite {
        /// Index of the picture.
        picture: usize,
        /// 0 red, 1 green, 2 blue.
        channel: usize,
        /// Row from the top.
        row: usize,
        /// Column from the left.
        column: usize,
        /// The value found.
        value: f32,
    },
    /// The number of values is not that of whole pictures.
    #[error("{values} values are no whole number of (3, {height}, {width}) pictures")]
    Values {
        /// Number of values given.
        values: usize,
        /// Width asked for.
        width: u32,
        /// Height asked for.
        height: u32,
    },
    /// Pictures that must have one size do not.
    #[error("picture {picture} is {}x{}, but {}x{} was expected", found.0, found.1, expected.0, expected.1)]
    Size {
        /// Index of the picture.
        picture: usize,
        /// Its width and height.
        found: (u32, u32),
        /// The width and height expected.
        expected: (u32, u32),
    },
    /// Nothing to lay out.
    #[error("a sheet of no pictures was asked for")]
    Empty,
    /// A picture or sheet larger than a PNG or the memory can hold.
    #[error("a picture of {width}x{height} is too large; use fewer pictures, columns or pixels")]
    TooLarge {
        /// Width in pixels.
        width: u64,
        /// Height in pixels.
        height: u64,
    },
    /// The file could not be written.
    #[error(transparent)]
    File(#[from] FileError),
}

/// Writes `picture` as a PNG, whole or not at all. The same picture gives the same bytes.
///
/// # Errors
/// [`PictureError::File`] with the path.
pub fn save_png(path: impl AsRef<Path>, picture: &RgbImage) -> Result<(), PictureError> {
    let (width, height) = picture.dimensions();
    files::write_atomic(path, |file| {
        PngEncoder::new_with_quality(file, CompressionType::Default, FilterType::Adaptive)
            .write_image(
                picture.as_raw(),
                width,
                height,
                image::ExtendedColorType::Rgb8,
            )
            .map_err(|e| match e {
                image::ImageError::IoError(e) => e,
                other => io::Error::other(other),
            })
    })?;
    Ok(())
}
