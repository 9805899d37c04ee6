//! What can go wrong, with what to do about it.

use std::path::{Path, PathBuf};

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file or folder could not be read or written.
    #[error("cannot {op} {}: {source}", path.display())]
    Io {
        /// What was tried.
        op: &'static str,
        /// On what.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A configuration that cannot be used.
    #[error("{}: {reason}", path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// Field and reason.
        reason: String,
    },
    /// A bundle or checkpoint that cannot be used.
    #[error("bundle {}: {reason}", path.display())]
    Bundle {
        /// Folder or file.
        path: PathBuf,
        /// Tensor or field and reason.
        reason: String,
    },
    /// An argument out of range.
    #[error("{0}")]
    Argument(String),
    /// The run was asked to stop.
    #[error("cancelled")]
    Cancelled,
    /// Training produced a value that is not a number.
    #[error(
        "{stage} training at step {step}: {what} is not finite; lower the learning rate, and resume from the last checkpoint, which is from before"
    )]
    Diverged {
        /// low or high.
        stage: &'static str,
        /// The step.
        step: u64,
        /// The value.
        what: &'static str,
    },
    /// Pictures.
    #[error(transparent)]
    Data(crate::data::DataError),
    /// Writing files.
    #[error(transparent)]
    Files(#[from] crate::files::FileError),
    /// Making pictures.
    #[error(transparent)]
    Picture(#[from] crate::picture::PictureError),
    /// Files of tensors.
    #[error(transparent)]
    Weights(#[from] checkpoints::Error),
    /// A diffusion process, its sampler or its network.
    #[error(transparent)]
    Score(score_sde::Error),
    /// Metrics.
    #[error(transparent)]
    Metrics(gen_metrics::Error),
    /// The networks of details.
    #[error(transparent)]
    Details(msal_gan::Error),
    /// A tensor operation.
    #[error(transparent)]
    Candle(#[from] candle_core::Error),
}

impl From<crate::data::DataError> for Error {
    /// A cancelled loading is a cancelled run.
    fn from(error: crate::data::DataError) -> Self {
        match error {
            crate::data::DataError::Cancelled => Self::Cancelled,
            error => Self::Data(error),
        }
    }
}

impl From<gen_metrics::Error> for Error {
    fn from(error: gen_metrics::Error) -> Self {
        match error {
            gen_metrics::Error::Cancelled => Self::Cancelled,
            gen_metrics::Error::Candle(error) => Self::Candle(error),
            gen_metrics::Error::Weights(error) => Self::Weights(error),
            error => Self::Metrics(error),
        }
    }
}

impl From<score_sde::Error> for Error {
    fn from(error: score_sde::Error) -> Self {
        match error {
            score_sde::Error::Candle(error) => Self::Candle(error),
            error => Self::Score(error),
        }
    }
}

impl From<msal_gan::Error> for Error {
    fn from(error: msal_gan::Error) -> Self {
        match error {
            msal_gan::Error::Candle(error) => Self::Candle(error),
            error => Self::Details(error),
        }
    }
}

impl Error {
    /// An input or output error with its path.
    pub fn io(op: &'static str, path: &Path, source: std::io::Error) -> Self {
        Self::Io {
            op,
            path: path.into(),
            source,
        }
    }
}

/// The crate's result.
pub type Result<T> = std::result::Result<T, Error>;
