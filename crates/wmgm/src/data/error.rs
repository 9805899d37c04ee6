//! What can go wrong with a set of pictures.

use std::io;
use std::path::{Path, PathBuf};

use super::Broken;

/// Why a set of pictures could not be loaded or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataError {
    /// The folder, or one in it, cannot be listed.
    #[error("cannot read the folder {}: {source}", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// The folder holds no file with the extension of a picture.
    #[error("no pictures in {} (looked in it and below for {}; {others} other files)", path.display(), super::EXTENSIONS.join(", "))]
    NoPictures {
        /// The folder.
        path: PathBuf,
        /// Files that are there, with other extensions.
        others: usize,
    },
    /// More pictures are broken than [`LoadOptions::max_broken`](super::LoadOptions) tolerates.
    #[error("{} of {found} pictures in {} are broken, more than {:.3} % allows: {}", broken.len(), path.display(), 100.0 * allowed, first(broken))]
    TooManyBroken {
        /// The folder.
        path: PathBuf,
        /// Number of files found.
        found: usize,
        /// The fraction allowed.
        allowed: f64,
        /// All that are broken.
        broken: Vec<Broken>,
    },
    /// A size of 0, or one that no picture has.
    #[error("a picture size of {size} is outside 1 to {max}")]
    Resolution {
        /// The size asked for.
        size: u32,
        /// The largest there is.
        max: u32,
    },
    /// The set does not fit in memory.
    #[error("{count} pictures of {size}x{size} need {:.1} GiB of memory, which is not to be had; use fewer or smaller ones", *bytes as f64 / (1u64 << 30) as f64)]
    Memory {
        /// Number of pictures.
        count: usize,
        /// Their size in pixels.
        size: u32,
        /// Bytes needed.
        bytes: u128,
    },
    /// No such picture.
    #[error("picture {index} was asked for, but the set holds {len}")]
    Index {
        /// The index asked for.
        index: usize,
        /// Number of pictures.
        len: usize,
    },
    /// A buffer or picture of another size than the set's.
    #[error("{what}: {found} values, but a picture of this set has 3*{size}*{size}")]
    Values {
        /// What was wrong: the buffer, or the name of a picture.
        what: String,
        /// Values found.
        found: usize,
        /// The set's size in pixels.
        size: u32,
    },
    /// The progress callback asked to stop.
    #[error("loading the pictures was cancelled")]
    Cancelled,
}

impl DataError {
    pub(super) fn folder(path: &Path) -> impl FnOnce(io::Error) -> Self + '_ {
        move |source| Self::Folder {
            path: path.to_owned(),
            source,
        }
    }
}

/// The first few broken files in words.
fn first(broken: &[Broken]) -> String {
    const SHOWN: usize = 5;
    let shown: Vec<String> = broken.iter().take(SHOWN).map(Broken::to_string).collect();
    let more = if broken.len() > SHOWN { ", ..." } else { "" };
    shown.join("; ") + more
}
