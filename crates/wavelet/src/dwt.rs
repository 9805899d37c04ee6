//! The transforms of one wavelet and mode on tensors, of one axis.

use crate::error::{Error, Result};
use crate::matrix::Operator;
use crate::ops::{self, Map, Shapes};
use crate::{Mode, Wavelet, operator};
use candle_core::shape::Dim;
use candle_core::{DType, Tensor};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// The discrete wavelet transforms of one wavelet and boundary mode, on batched tensors, with gradients.
///
/// It keeps the operators of the sizes it has met, so make one and use it for every batch; clones share them. Tensors
/// are f32 or f64; f16 and bf16 are computed in f32 and come back in their own type.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use wavelet::{Dwt, Mode, Wavelet};
///
/// let dwt = Dwt::new(Wavelet::new("db2")?, Mode::Symmetric);
/// let x = Tensor::rand(0f32, 1., (4, 3, 33, 40), &Device::Cpu)?;
/// let (low, high) = dwt.dwt2(&x)?;
/// assert_eq!(low.dims(), [4, 3, 18, 21]);
/// assert_eq!(high.dims(), [4, 3, 3, 18, 21]); // LH, HL, HH before the channels
/// let back = dwt.idwt2(&low, &high, Some([33, 40]))?;
/// assert!((x - back)?.abs()?.max_all()?.to_scalar::<f32>()? < 1e-5);
/// # Ok::<(), wavelet::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Dwt {
    wavelet: Wavelet,
    mode: Mode,
    reference: bool,
    cache: Arc<Mutex<HashMap<Key, Operator>>>,
}

/// Which operator: analysis of a length, or synthesis from bands to a length.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Key {
    Analysis(usize),
    Synthesis(usize, usize),
}

/// Operators kept; a program that meets more sizes starts anew.
const KEPT: usize = 64;

impl Dwt {
    /// Transforms by this wavelet with this boundary mode.
    pub fn new(wavelet: Wavelet, mode: Mode) -> Self {
        Self {
            wavelet,
            mode,
            reference: false,
            cache: Arc::default(),
        }
    }

    /// The same transforms as products with dense matrices, by candle's own operators, on every device: slower, to
    /// compare with and as a way round a kernel under suspicion. Devices other than the CPU always use them.
    pub fn reference(mut self) -> Self {
        self.reference = true;
        self
    }

    /// The wavelet.
    pub fn wavelet(&self) -> &Wavelet {
        &self.wavelet
    }

    /// The boundary mode.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// One level along an axis: low and high coefficients, (.., n, ..) to (.., m, ..) with m =
    /// [`Mode::band_len`]`(n, F)` (PyWavelets' `dwt`).
    ///
    /// # Errors
    /// [`Error::TooShort`], [`Error::DType`], or candle's if there is no such axis.
    pub fn dwt(&self, x: &Tensor, axis: impl Dim) -> Result<(Tensor, Tensor)> {
        const OP: &str = "dwt";
        let axis = axis.to_index(x.shape(), OP)?;
        let n = x.dims()[axis];
        self.check_len(OP, x, n)?;
        let mut band = x.dims().to_vec();
        band[axis] = self.mode.band_len(n, self.wavelet.filter_len());
        let (map, shapes) = one(self.operator(Key::Analysis(n)), x.dims(), band, axis);
        let (wide, dtype) = widened(OP, x)?;
        let (low, high) = ops::split(&wide, &map, &shapes, !self.reference)?;
        Ok((low.to_dtype(dtype)?, high.to_dtype(dtype)?))
    }

    /// Undoes [`Dwt::dwt`] along an axis (PyWavelets' `idwt`).
    ///
    /// `len` is the signal's true length; None gives PyWavelets' answer, which is one too long if that was odd.
    ///
    /// # Errors
    /// [`Error::Mismatch`] if the bands differ in shape, type or device, [`Error::Size`] if no signal of that length
    /// has such bands, [`Error::DType`], or candle's if there is no such axis.
    pub fn idwt(
        &self,
        low: &Tensor,
        high: &Tensor,
        axis: impl Dim,
        len: Option<usize>,
    ) -> Result<Tensor> {
        const OP: &str = "idwt";
        let axis = axis.to_index(low.shape(), OP)?;
        if low.dims() != high.dims() {
            return Err(mismatch(
                OP,
                low,
                high,
                "both must have the same shape".into(),
            ));
        }
        check_alike(OP, low, high)?;
        let m = low.dims()[axis];
        let n = self.signal_len(OP, m, len)?;
        let mut picture = low.dims().to_vec();
        picture[axis] = n;
        let (map, shapes) = one(
            self.operator(Key::Synthesis(m, n)),
            &picture,
            low.dims().to_vec(),
            axis,
        );
        let ((wide, dtype), (high, _)) = (widened(OP, low)?, widened(OP, high)?);
        Ok(ops::join(&wide, &high, &map, &shapes, !self.reference)?.to_dtype(dtype)?)
    }

    /// Whether the fast path of the Haar wavelet applies, which takes even sizes; no boundary mode matters there.
    pub(crate) fn is_haar(&self, size: [usize; 2]) -> bool {
        let (w, haar) = (&self.wavelet, Wavelet::haar());
        size.iter().all(|n| n % 2 == 0)
            && w.dec_lo() == haar.dec_lo()
            && w.dec_hi() == haar.dec_hi()
            && w.rec_lo() == haar.rec_lo()
            && w.rec_hi() == haar.rec_hi()
    }

    pub(crate) fn is_reference(&self) -> bool {
        self.reference
    }

    pub(crate) fn analysis(&self, n: usize) -> Operator {
        self.operator(Key::Analysis(n))
    }

    pub(crate) fn synthesis(&self, m: usize, n: usize) -> Operator {
        self.operator(Key::Synthesis(m, n))
    }

    fn operator(&self, key: Key) -> Operator {
        // A thread that panicked while it held the lock leaves a map that is whole.
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        if cache.len() >= KEPT && !cache.contains_key(&key) {
            cache.clear();
        }
        let made = cache.entry(key).or_insert_with(|| match key {
            Key::Analysis(n) => operator::analysis(&self.wavelet, self.mode, n),
            Key::Synthesis(m, n) => operator::synthesis(&self.wavelet, self.mode, m, n),
        });
        made.clone()
    }

    /// Whether the mode can extend a signal of length `n`.
    pub(crate) fn check_len(&self, op: &'static str, x: &Tensor, n: usize) -> Result<()> {
        if n >= self.mode.min_len() {
            return Ok(());
        }
        Err(Error::TooShort {
            op,
            len: n,
            shape: x.dims().to_vec(),
            mode: self.mode,
            min: self.mode.min_len(),
        })
    }

    /// The length that bands of length `m` give back.
    pub(crate) fn signal_len(
        &self,
        op: &'static str,
        m: usize,
        wanted: Option<usize>,
    ) -> Result<usize> {
        let filter = self.wavelet.filter_len();
        let full = self.mode.signal_len(m, filter);
        let possible = match full {
            None => "nothing: they are shorter than any signal's".to_string(),
            Some(1) => "1".to_string(),
            Some(n) => format!("{} or {n}", n - 1),
        };
        match (full, wanted) {
            (Some(n), None) => Ok(n),
            (Some(n), Some(want)) if want == n || (want + 1 == n && want > 0) => Ok(want),
            _ => Err(Error::Size {
                op,
                bands: m,
                filter,
                mode: self.mode,
                possible,
                wanted: wanted.map_or("any length".to_string(), |n| n.to_string()),
            }),
        }
    }
}

/// The map along one axis, from `picture` to `band`.
fn one(axis_op: Operator, picture: &[usize], band: Vec<usize>, axis: usize) -> (Map, Shapes) {
    let map = Map::One {
        axis: axis_op,
        outer: picture[..axis].iter().product(),
        inner: picture[axis + 1..].iter().product(),
    };
    let shapes = Shapes {
        low: band.clone(),
        high: band,
        picture: picture.to_vec(),
    };
    (map, shapes)
}

/// The tensor in the type it is computed in, and its own type.
pub(crate) fn widened(op: &'static str, x: &Tensor) -> Result<(Tensor, DType)> {
    match x.dtype() {
        dtype @ (DType::F32 | DType::F64) => Ok((x.clone(), dtype)),
        dtype @ (DType::F16 | DType::BF16) => Ok((x.to_dtype(DType::F32)?, dtype)),
        dtype => Err(Error::DType { op, dtype }),
    }
}

/// Whether bands share type and device.
pub(crate) fn check_alike(op: &'static str, low: &Tensor, high: &Tensor) -> Result<()> {
    if low.dtype() == high.dtype() && low.device().same_device(high.device()) {
        return Ok(());
    }
    let of = |t: &Tensor| format!("{:?} on {:?}", t.dtype(), t.device().location());
    Err(Error::Mismatch {
        op,
        low: of(low),
        high: of(high),
        expected: "both must have the same type and device".to_string(),
    })
}

pub(crate) fn mismatch(op: &'static str, low: &Tensor, high: &Tensor, expected: String) -> Error {
    Error::Mismatch {
        op,
        low: format!("{:?}", low.dims()),
        high: format!("{:?}", high.dims()),
        expected,
    }
}
