//! Training pictures: a folder of files of any size and kind, as equal squares of bytes in memory.
//!
//! ```
//! use wmgm::data::{LoadOptions, PictureSet, quiet};
//! # use wmgm::picture::{RgbImage, save_png};
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let folder = tempfile::tempdir()?;
//! # save_png(folder.path().join("cat.png"), &RgbImage::new(20, 10))?;
//! let (set, broken) = PictureSet::load(folder.path(), 8, &LoadOptions::default(), &quiet)?;
//! assert!(broken.is_empty());
//! let mut values = vec![0.0; 3 * 8 * 8]; // (3, 8, 8) in [-1, 1]
//! set.fill_f32(0, true, &mut values)?; // mirrored
//! # Ok(()) }
//! ```

mod decode;
mod error;
mod nearest;
mod scan;
mod set;
mod stream;

pub use decode::{DecodeError, Limits, decode, decode_file};
pub use error::DataError;
pub use nearest::{Neighbour, nearest, nearest_sheet};
pub use scan::{EXTENSIONS, find_pictures};
pub use set::{Broken, LoadOptions, LoadProgress, PictureSet, quiet};
pub use stream::PictureStream;
