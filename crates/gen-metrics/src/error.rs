//! What can go wrong, with what to do about it.

use std::path::{Path, PathBuf};

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A metric needs more samples.
    #[error("{metric}: {what} number {have}, at least {need} are needed; {hint}")]
    TooFew {
        /// The metric.
        metric: &'static str,
        /// Which samples.
        what: &'static str,
        /// How many there are.
        have: usize,
        /// How many there must be.
        need: usize,
        /// What to do.
        hint: &'static str,
    },
    /// A value that is NaN or infinite.
    #[error("{what}: row {row}, column {column} is {value}; every value must be finite")]
    NotFinite {
        /// Of what.
        what: String,
        /// Its row, from 0.
        row: usize,
        /// Its column, from 0.
        column: usize,
        /// The value.
        value: f64,
    },
    /// Two sets that live in different spaces.
    #[error(
        "{op}: {a} has {dim_a} dimensions, {b} has {dim_b}; both must come from the same network"
    )]
    Dims {
        /// The operation.
        op: &'static str,
        /// One set.
        a: &'static str,
        /// Its dimensions.
        dim_a: usize,
        /// The other.
        b: &'static str,
        /// Its dimensions.
        dim_b: usize,
    },
    /// A buffer of another length than its shape says.
    #[error("{what}: {found} values, {expected}")]
    Shape {
        /// Of what.
        what: String,
        /// Values found.
        found: usize,
        /// What was expected, in words.
        expected: String,
    },
    /// An option out of range.
    #[error("{0}")]
    Argument(String),
    /// An eigenvalue problem that did not converge.
    #[error("{op}: the eigenvalues of a {size} x {size} matrix did not converge")]
    Eigen {
        /// The operation.
        op: &'static str,
        /// Rows of the matrix.
        size: usize,
    },
    /// A file that cannot be read, or holds something else.
    #[error("{}: {reason}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The caller asked to stop.
    #[error("cancelled")]
    Cancelled,
    /// A file of tensors.
    #[error(transparent)]
    Weights(#[from] checkpoints::Error),
    /// The wavelet transform.
    #[error(transparent)]
    Wavelet(#[from] wavelet::Error),
    /// A tensor operation.
    #[error(transparent)]
    Candle(#[from] candle_core::Error),
}

/// The crate's result.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    pub(crate) fn file(path: &Path, reason: impl Into<String>) -> Self {
        Self::File {
            path: path.into(),
            reason: reason.into(),
        }
    }
}
