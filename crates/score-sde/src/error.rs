//! What can be wrong with the arguments of a diffusion process.

use candle_core::Tensor;

/// An argument that does not fit, or an error of the tensor library.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A number out of its range.
    #[error("{op}: {name} is {value}, it must be {need}")]
    Argument {
        /// The function that refused it.
        op: &'static str,
        /// The argument.
        name: &'static str,
        /// Its value.
        value: String,
        /// The values allowed.
        need: &'static str,
    },
    /// A name that is not known.
    #[error("unknown {what} {name:?}; known are {known}")]
    Unknown {
        /// The kind of thing.
        what: &'static str,
        /// What was given.
        name: String,
        /// The names there are.
        known: &'static str,
    },
    /// A respacing that cannot be applied to a process.
    #[error(
        "respacing {spec:?} of {steps} steps: {why}; give counts per section such as \"25\" or \"15,10\", or \"ddimN\""
    )]
    Respacing {
        /// What was given.
        spec: String,
        /// Steps of the process.
        steps: usize,
        /// What is wrong with it.
        why: String,
    },
    /// A tensor of the wrong shape.
    #[error("{op}: {name} has shape {got:?}, expected {expected}")]
    Shape {
        /// The function that refused it.
        op: &'static str,
        /// The tensor.
        name: &'static str,
        /// Its shape.
        got: Vec<usize>,
        /// The shape needed.
        expected: String,
    },
    /// A process that a sampler does not fit.
    #[error("{op} does not fit the {sde} process: {fits}")]
    Unfit {
        /// The sampler.
        op: &'static str,
        /// The kind of process.
        sde: &'static str,
        /// What would fit.
        fits: &'static str,
    },
    /// An adaptive integration whose steps became too small to go on.
    #[error(
        "{op}: picture {picture} cannot go on from time {time}, its steps vanish; loosen the tolerances, or see whether \
         the score is finite there"
    )]
    Stalled {
        /// The integrator.
        op: &'static str,
        /// The picture, or the first of a coupled batch.
        picture: usize,
        /// How far it came.
        time: f64,
    },
    /// An error of a tensor operation, of the network or of a callback.
    #[error(transparent)]
    Candle(#[from] candle_core::Error),
}

/// Results of this crate's diffusion process.
pub type Result<T> = std::result::Result<T, Error>;

impl From<Error> for candle_core::Error {
    fn from(e: Error) -> Self {
        match e {
            Error::Candle(e) => e,
            e => candle_core::Error::wrap(e),
        }
    }
}

/// Errs unless `got` has exactly the shape of `like`.
pub(crate) fn same_shape(
    op: &'static str,
    name: &'static str,
    got: &Tensor,
    like: &Tensor,
) -> Result<()> {
    if got.dims() == like.dims() {
        return Ok(());
    }
    Err(Error::Shape {
        op,
        name,
        got: got.dims().to_vec(),
        expected: format!("{:?}", like.dims()),
    })
}

/// Errs unless `ok`.
pub(crate) fn ensure(
    ok: bool,
    op: &'static str,
    name: &'static str,
    value: impl ToString,
    need: &'static str,
) -> Result<()> {
    match ok {
        true => Ok(()),
        false => Err(Error::Argument {
            op,
            name,
            value: value.to_string(),
            need,
        }),
    }
}
