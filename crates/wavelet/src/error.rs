//! What can go wrong, with the values that were wrong.

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No discrete wavelet has this name.
    #[error("unknown wavelet {name:?}; known are {known}")]
    UnknownWavelet {
        /// The name asked for.
        name: String,
        /// The known names, families abbreviated.
        known: String,
    },
    /// No boundary mode has this name.
    #[error("unknown boundary mode {name:?}; known are {known}")]
    UnknownMode {
        /// The name asked for.
        name: String,
        /// The known names.
        known: String,
    },
    /// Filters that make no wavelet.
    #[error("wavelet {name:?}: {reason}")]
    BadFilters {
        /// The wavelet's name.
        name: String,
        /// What is wrong with them.
        reason: String,
    },
    /// A tensor has too few dimensions, or the wrong ones.
    #[error("{op}: {what} has shape {shape:?}, expected {expected}")]
    Rank {
        /// The operation.
        op: &'static str,
        /// Which tensor.
        what: &'static str,
        /// Its shape.
        shape: Vec<usize>,
        /// What the operation takes.
        expected: &'static str,
    },
    /// A signal is too short to be extended by the mode.
    #[error(
        "{op}: a signal of length {len} (shape {shape:?}) is too short for mode {mode}, which needs at least {min}"
    )]
    TooShort {
        /// The operation.
        op: &'static str,
        /// The length along the transformed axis.
        len: usize,
        /// The tensor's shape.
        shape: Vec<usize>,
        /// The mode.
        mode: crate::Mode,
        /// The least length it takes.
        min: usize,
    },
    /// Low and high bands do not belong together.
    #[error("{op}: low band {low:?} and high bands {high:?} do not match; {expected}")]
    Mismatch {
        /// The operation.
        op: &'static str,
        /// The low band's shape, or type.
        low: String,
        /// The high bands' shape, or type.
        high: String,
        /// What would match.
        expected: String,
    },
    /// The wanted size cannot come from bands of this size.
    #[error(
        "{op}: bands of length {bands} with a filter of length {filter} and mode {mode} give back {possible}, not {wanted}"
    )]
    Size {
        /// The operation.
        op: &'static str,
        /// The bands' length along the axis.
        bands: usize,
        /// The filter's length.
        filter: usize,
        /// The mode.
        mode: crate::Mode,
        /// The lengths that are possible.
        possible: String,
        /// The length asked for.
        wanted: String,
    },
    /// The plain Haar transform takes even sizes only.
    #[error(
        "{op}: planes are {h} x {w}; both sides must be even (Dwt::dwt2 takes odd sizes, with a boundary mode)"
    )]
    Odd {
        /// The operation.
        op: &'static str,
        /// Height of the planes.
        h: usize,
        /// Width of the planes.
        w: usize,
    },
    /// A slice does not have the length its sizes say.
    #[error("{op}: {what} has {len} values; (n, c, h, w) = {dims:?} makes it {expected}")]
    Buffer {
        /// The operation.
        op: &'static str,
        /// Which slice.
        what: &'static str,
        /// Its length.
        len: usize,
        /// The length it must have.
        expected: usize,
        /// The pictures' sizes (n, c, h, w).
        dims: [usize; 4],
    },
    /// Statistics that cannot standardise a band.
    #[error(
        "statistics of band {band}: mean {mean} and standard deviation {std}; both must be finite, the second positive"
    )]
    Stats {
        /// LL, LH, HL or HH.
        band: &'static str,
        /// Its mean.
        mean: f64,
        /// Its standard deviation.
        std: f64,
    },
    /// A level that the pyramid does not have, or too many levels.
    #[error("{op}: {reason}")]
    Levels {
        /// The operation.
        op: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// Neither f32, f64, f16 nor bf16.
    #[error(
        "{op}: dtype {dtype:?} is not supported; use f32 or f64, or f16 or bf16, which are computed in f32"
    )]
    DType {
        /// The operation.
        op: &'static str,
        /// The tensor's type.
        dtype: candle_core::DType,
    },
    /// An error of candle.
    #[error(transparent)]
    Candle(#[from] candle_core::Error),
}

/// A result of this crate.
pub type Result<T> = std::result::Result<T, Error>;
