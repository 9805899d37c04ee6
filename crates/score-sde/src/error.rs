//! What can be wrong with the arguments of a diffusion process.

use candle_core::Tensor;
use std::io;

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
    /// A field of a network's configuration that cannot be built.
    #[error("{network}: {field} is {value}, it must be {need}")]
    Config {
        /// The network.
        network: &'static str,
        /// The field, or what follows from several.
        field: &'static str,
        /// Its value.
        value: String,
        /// The values allowed.
        need: String,
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
    Candle(candle_core::Error),
}

/// Results of this crate's diffusion process.
pub type Result<T> = std::result::Result<T, Error>;

impl From<Error> for candle_core::Error {
    fn from(e: Error) -> Self {
        match e {
            Error::Candle(e) => e,
            // Of the errors that candle takes in, only this kind gives them back.
            e => Self::Io(io::Error::new(io::ErrorKind::InvalidInput, e)).bt(),
        }
    }
}

impl From<candle_core::Error> for Error {
    /// An error of this crate that came through candle's, out of a network or a callback, is itself again.
    fn from(e: candle_core::Error) -> Self {
        use candle_core::Error as Candle;
        let own =
            |e: &Candle| matches!(e, Candle::Io(e) if e.get_ref().is_some_and(|e| e.is::<Self>()));
        match e {
            Candle::WithBacktrace { inner, .. } if own(&inner) => Self::from(*inner),
            Candle::Io(e) => match e.downcast::<Self>() {
                Ok(own) => own,
                Err(e) => Self::Candle(Candle::Io(e)),
            },
            e => Self::Candle(e),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_pass_through_candle_unchanged() {
        let refused = || ensure(false, "op", "name", 3, "less").unwrap_err();
        let through = Error::from(candle_core::Error::from(refused()));
        assert!(matches!(through, Error::Argument { op: "op", .. }));
        assert_eq!(
            candle_core::Error::from(refused())
                .to_string()
                .lines()
                .next(),
            Some("op: name is 3, it must be less")
        );
        let other = candle_core::Error::Io(io::Error::other("no file"));
        let other = Error::from(other);
        assert!(
            matches!(other, Error::Candle(candle_core::Error::Io(_)))
                && other.to_string() == "no file"
        );
    }
}
