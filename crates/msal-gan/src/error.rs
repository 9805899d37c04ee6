//! What can be wrong with the arguments of this crate's networks and losses.

use candle_core::Tensor;

/// An argument that does not fit, or an error of the tensor library.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A number out of its range.
    #[error("{op}: {name} is {value}, it must be {need}")]
    Argument {
        /// What refused it.
        op: &'static str,
        /// The argument.
        name: &'static str,
        /// Its value.
        value: String,
        /// The values allowed.
        need: &'static str,
    },
    /// A tensor of the wrong shape.
    #[error("{op}: {name} has shape {got:?}, expected {expected}")]
    Shape {
        /// What refused it.
        op: &'static str,
        /// The tensor.
        name: &'static str,
        /// Its shape.
        got: Vec<usize>,
        /// The shape needed.
        expected: String,
    },
    /// An error of the wavelet transform.
    #[error(transparent)]
    Wavelet(#[from] wavelet::Error),
    /// An error of a tensor operation or of a callback.
    #[error(transparent)]
    Candle(#[from] candle_core::Error),
}

/// Results of this crate.
pub type Result<T> = std::result::Result<T, Error>;

impl From<Error> for candle_core::Error {
    fn from(e: Error) -> Self {
        match e {
            Error::Candle(e) => e,
            e => candle_core::Error::wrap(e),
        }
    }
}

/// The four dimensions of a picture tensor, or an error that says what was needed.
pub(crate) fn dims4(
    op: &'static str,
    name: &'static str,
    t: &Tensor,
    expected: impl Fn() -> String,
    fits: impl Fn(usize, usize, usize, usize) -> bool,
) -> Result<(usize, usize, usize, usize)> {
    match *t.dims() {
        [n, c, h, w] if fits(n, c, h, w) => Ok((n, c, h, w)),
        _ => Err(Error::Shape {
            op,
            name,
            got: t.dims().to_vec(),
            expected: expected(),
        }),
    }
}
