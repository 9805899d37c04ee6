//! Files of a network's weights, and how far they can be trusted to be the real ones.

mod convert;

pub use convert::{Package, convert};

use crate::error::{Error, Result};
use candle_core::Device;
use checkpoints::{Checkpoint, Dtype, Weights};
use sha2::{Digest, Sha256};
use std::fmt;
use std::path::Path;

/// The metadata that a converted file has of the one it was made from.
pub const SOURCE_KEY: &str = "source_sha256";

/// How the SHA-256 of pytorch-fid's `pt_inception-2015-12-05-6726825d.pth` begins: PyTorch's hub names its files so.
const FID_SHA256: &str = "6726825d";

/// Where weights come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// A file, by its SHA-256 (64 hexadecimal digits).
    File(String),
    /// A file made of another one, by what it says of that one's SHA-256.
    Converted(String),
    /// None of a file.
    Unknown,
}

impl Origin {
    /// Whether the file itself is that of FID's Inception-v3. What a converted one says of itself does not count.
    pub fn is_fid(&self) -> bool {
        matches!(self, Self::File(hash) if hash.starts_with(FID_SHA256))
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (what, hash) = match self {
            Self::File(hash) => ("sha256", hash.as_str()),
            Self::Converted(hash) => ("from-sha256", hash.as_str()),
            Self::Unknown => ("unknown", "weights"),
        };
        write!(f, "{what}:{}", hash.get(..16).unwrap_or(hash))
    }
}

/// The floating-point tensors of a file.
///
/// # Errors
/// A file that cannot be read; a value that is not finite.
pub fn open(file: &Path, device: &Device) -> Result<(Weights, Origin)> {
    let checkpoint = Checkpoint::open(file)?;
    let floats = |_: &str, dtype: Dtype| matches!(dtype, Dtype::F32 | Dtype::F16 | Dtype::BF16);
    let weights = Weights::load_where(&checkpoint, device, &floats)?;
    let origin = match checkpoint.metadata().get(SOURCE_KEY) {
        Some(hash) => Origin::Converted(hash.clone()),
        None => Origin::File(sha256(checkpoint.path())?),
    };
    Ok((weights, origin))
}

/// The SHA-256 of a file in hexadecimal digits.
///
/// # Errors
/// A file that cannot be read.
pub fn sha256(file: &Path) -> Result<String> {
    let mut hash = Sha256::new();
    std::fs::File::open(file)
        .and_then(|mut f| std::io::copy(&mut f, &mut hash))
        .map_err(|e| Error::file(file, format!("cannot be read: {e}")))?;
    Ok(hash.finalize().iter().map(|b| format!("{b:02x}")).collect())
}
