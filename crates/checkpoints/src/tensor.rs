//! A tensor in a file: where its values are, before any of them is read.

use crate::bytes::Bytes;
use candle_core::{DType, Device, Tensor};
use safetensors::Dtype;
use std::borrow::Cow;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

/// The most dimensions a tensor may have; PyTorch's own limit.
pub(crate) const MAX_RANK: usize = 64;

/// The bytes that one or several tensors lie in.
#[derive(Debug)]
pub struct Storage {
    key: String,
    file: Bytes,
    span: Range<usize>,
    /// The length once inflated, where the file holds it deflated.
    inflates_to: Option<usize>,
    inflated: OnceLock<Result<Vec<u8>, String>>,
    checksum: Option<u32>,
    checked: OnceLock<Result<(), String>>,
}

impl Storage {
    /// All of these bytes.
    pub fn of_bytes(key: &str, bytes: Bytes) -> Self {
        Self {
            key: key.into(),
            span: 0..bytes.len(),
            file: bytes,
            inflates_to: None,
            inflated: OnceLock::new(),
            checksum: None,
            checked: OnceLock::new(),
        }
    }

    /// The bytes of `file` in `span`, which must lie in it; `checksum` is their CRC-32 where the file says it.
    pub(crate) fn plain(
        key: &str,
        file: &Bytes,
        span: Range<usize>,
        checksum: Option<u32>,
    ) -> Result<Self, String> {
        if file.get(span.clone()).is_none() {
            return Err(format!(
                "its values would lie at {span:?} of a file of {} bytes",
                file.len()
            ));
        }
        Ok(Self {
            span,
            checksum,
            ..Self::of_bytes(key, file.clone())
        })
    }

    /// Bytes that lie deflated in `span` and have a length of `length` and a checksum once inflated.
    pub(crate) fn deflated(
        key: &str,
        file: &Bytes,
        span: Range<usize>,
        length: usize,
        checksum: Option<u32>,
    ) -> Result<Self, String> {
        let mut storage = Self::plain(key, file, span, checksum)?;
        storage.inflates_to = Some(length);
        Ok(storage)
    }

    /// The name the file has for it.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// The number of bytes.
    pub fn len(&self) -> usize {
        self.inflates_to.unwrap_or(self.span.len())
    }

    /// Whether there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes. Their checksum is compared the first time.
    ///
    /// # Errors
    /// Damage, in words.
    pub fn bytes(&self) -> Result<&[u8], String> {
        let raw = self.file.get(self.span.clone()).unwrap_or_default();
        let bytes: &[u8] = match self.inflates_to {
            None => raw,
            Some(length) => self
                .inflated
                .get_or_init(|| crate::zip::inflate(raw, length))
                .as_deref()
                .map_err(Clone::clone)?,
        };
        self.checked
            .get_or_init(|| match self.checksum {
                Some(want) if crc32fast::hash(bytes) != want => Err(format!(
                    "the checksum of record {} is not that of its {} bytes: the file is damaged",
                    self.key,
                    bytes.len()
                )),
                _ => Ok(()),
            })
            .clone()?;
        Ok(bytes)
    }
}

/// A tensor in a file, not read yet: type, shape, and where its values lie. Clones share the file.
#[derive(Debug, Clone)]
pub struct StoredTensor {
    dtype: Dtype,
    shape: Vec<usize>,
    strides: Vec<usize>,
    /// The first value, in bytes from the start of the storage.
    start: usize,
    storage: Arc<Storage>,
}

impl StoredTensor {
    /// A tensor whose every value lies inside its storage.
    ///
    /// `offset` and `strides` count values, as PyTorch's do.
    ///
    /// # Errors
    /// A shape, stride or offset that leads outside, or more values than their storage can be meant to give.
    pub(crate) fn new(
        dtype: Dtype,
        shape: Vec<usize>,
        strides: Vec<usize>,
        offset: usize,
        storage: Arc<Storage>,
    ) -> Result<Self, String> {
        let bad = |what: &str| {
            format!("shape {shape:?}, strides {strides:?}, offset {offset} of {dtype:?}: {what}")
        };
        if shape.len() > MAX_RANK {
            return Err(format!("it claims {} dimensions", shape.len()));
        }
        if shape.len() != strides.len() {
            return Err(bad("as many strides as dimensions are needed"));
        }
        let size = item_size(dtype)?;
        let count = shape
            .iter()
            .try_fold(1usize, |n, &d| n.checked_mul(d))
            .and_then(|n| n.checked_mul(size))
            .map(|bytes| bytes / size)
            .ok_or_else(|| bad("that is more than any memory holds"))?;
        // Values that stand for several places (stride 0) are real, but not by the million.
        if count > (storage.len() / size).max(1 << 20) {
            return Err(bad(&format!(
                "{count} values in a record of {} bytes",
                storage.len()
            )));
        }
        let start = offset.checked_mul(size);
        let end = (|| {
            let last = shape
                .iter()
                .zip(&strides)
                .try_fold(offset, |at, (&d, &s)| {
                    at.checked_add(d.saturating_sub(1).checked_mul(s)?)
                })?;
            last.checked_add(1)?.checked_mul(size)
        })();
        let (Some(start), Some(end)) = (start, end) else {
            return Err(bad("they lead beyond any record"));
        };
        if count > 0 && end > storage.len() || start > storage.len() {
            return Err(bad(&format!(
                "they lead beyond a record of {} bytes",
                storage.len()
            )));
        }
        Ok(Self {
            dtype,
            shape,
            strides,
            start,
            storage,
        })
    }

    /// A contiguous tensor that fills its storage.
    pub(crate) fn whole(dtype: Dtype, shape: Vec<usize>, storage: Storage) -> Result<Self, String> {
        let strides = contiguous_strides(&shape);
        Self::new(dtype, shape, strides, 0, Arc::new(storage))
    }

    /// The type of its values.
    pub fn dtype(&self) -> Dtype {
        self.dtype
    }

    /// Its shape.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Values between neighbours, for each dimension.
    pub fn strides(&self) -> &[usize] {
        &self.strides
    }

    /// The place of its first value in its storage, in values.
    pub fn offset(&self) -> usize {
        item_size(self.dtype).map_or(0, |size| self.start / size)
    }

    /// The bytes it lies in, perhaps with others.
    pub fn storage(&self) -> &Storage {
        &self.storage
    }

    /// The number of its values.
    pub fn elem_count(&self) -> usize {
        self.shape.iter().product()
    }

    /// The bytes of its values, once read.
    pub fn byte_len(&self) -> usize {
        item_size(self.dtype).map_or(0, |size| size * self.elem_count())
    }

    /// Whether its values follow each other in the file.
    pub fn is_contiguous(&self) -> bool {
        let natural = contiguous_strides(&self.shape);
        self.elem_count() == 0
            || (0..self.shape.len()).all(|d| self.shape[d] == 1 || self.strides[d] == natural[d])
    }

    /// Its values in row-major order, little-endian: those of the file itself where they are contiguous.
    ///
    /// # Errors
    /// Damage, in words.
    pub fn bytes(&self) -> Result<Cow<'_, [u8]>, String> {
        let all = self.storage.bytes()?;
        let outside = || "its values lie outside its record".to_owned();
        let length = self.byte_len();
        if length == 0 {
            return Ok(Cow::Borrowed(&[]));
        }
        let rest = all.get(self.start..).ok_or_else(outside)?;
        if self.is_contiguous() {
            return rest.get(..length).map(Cow::Borrowed).ok_or_else(outside);
        }
        let size = item_size(self.dtype)?;
        let mut values = Vec::with_capacity(length);
        let mut place = vec![0usize; self.shape.len()];
        let mut at = 0usize;
        loop {
            let value = at
                .checked_mul(size)
                .and_then(|at| rest.get(at..at.checked_add(size)?));
            values.extend_from_slice(value.ok_or_else(outside)?);
            // The next place, counting as an odometer does; what a wrap adds it takes away again.
            let mut d = self.shape.len();
            loop {
                if d == 0 {
                    return Ok(Cow::Owned(values));
                }
                d -= 1;
                place[d] += 1;
                at = at.wrapping_add(self.strides[d]);
                if place[d] < self.shape[d] {
                    break;
                }
                at = at.wrapping_sub(self.strides[d].wrapping_mul(self.shape[d]));
                place[d] = 0;
            }
        }
    }

    /// Reads it. Truth values become `U8`.
    ///
    /// # Errors
    /// A type that candle has not, or damage, in words.
    pub fn load(&self, device: &Device) -> Result<Tensor, String> {
        let dtype = candle_dtype(self.dtype)?;
        let bytes = self.bytes()?;
        Tensor::from_raw_buffer(&bytes, dtype, &self.shape, device).map_err(|e| e.to_string())
    }
}

/// Row-major strides.
pub(crate) fn contiguous_strides(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1usize; shape.len()];
    for d in (1..shape.len()).rev() {
        strides[d - 1] = strides[d].saturating_mul(shape[d].max(1));
    }
    strides
}

/// Bytes of a value; types smaller than a byte have none.
pub(crate) fn item_size(dtype: Dtype) -> Result<usize, String> {
    match dtype.bitsize() {
        bits if bits % 8 == 0 && bits > 0 => Ok(bits / 8),
        bits => Err(format!("{dtype:?} has {bits} bits, no whole bytes")),
    }
}

/// The type a tensor of this kind is read as.
fn candle_dtype(dtype: Dtype) -> Result<DType, String> {
    Ok(match dtype {
        Dtype::BOOL | Dtype::U8 => DType::U8,
        Dtype::U32 => DType::U32,
        Dtype::I16 => DType::I16,
        Dtype::I32 => DType::I32,
        Dtype::I64 => DType::I64,
        Dtype::F16 => DType::F16,
        Dtype::BF16 => DType::BF16,
        Dtype::F32 => DType::F32,
        Dtype::F64 => DType::F64,
        other => return Err(format!("there is no tensor of {other:?} here")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn storage(bytes: usize) -> Arc<Storage> {
        let file: Bytes = (0..bytes).map(|i| i as u8).collect::<Vec<_>>().into();
        Arc::new(Storage::plain("0", &file, 0..bytes, None).unwrap())
    }

    #[test]
    fn strided_values_are_gathered_in_row_major_order() {
        // 3 x 4 bytes, seen transposed, from the second column on, every other row.
        let t = StoredTensor::new(Dtype::U8, vec![3, 2], vec![1, 8], 1, storage(12)).unwrap();
        assert!(!t.is_contiguous());
        assert_eq!(&*t.bytes().unwrap(), [1, 9, 2, 10, 3, 11]);
        let t = StoredTensor::new(Dtype::I16, vec![2, 2], vec![0, 1], 4, storage(12)).unwrap();
        assert_eq!(&*t.bytes().unwrap(), [8, 9, 10, 11, 8, 9, 10, 11]);
        let scalar = StoredTensor::new(Dtype::U8, vec![], vec![], 11, storage(12)).unwrap();
        assert_eq!(&*scalar.bytes().unwrap(), [11]);
        let none = StoredTensor::new(Dtype::F32, vec![0, 5], vec![5, 1], 3, storage(12)).unwrap();
        assert!(none.bytes().unwrap().is_empty());
    }

    #[test]
    fn shapes_that_lead_outside_are_refused() {
        let most = usize::MAX;
        for (shape, strides, offset) in [
            (vec![4], vec![1], 0),
            (vec![3], vec![1], 1),
            (vec![1], vec![1], 3),
            (vec![2, 2], vec![2, 1], 0),
            (vec![2], vec![most], 0),
            (vec![most, most], vec![0, 0], 0),
            (vec![1 << 40], vec![0], 0),
            (vec![1], vec![1], most),
            (vec![0], vec![1], 4),
            (vec![1, 1], vec![1], 0),
            (vec![1; 65], vec![1; 65], 0),
        ] {
            let made = StoredTensor::new(
                Dtype::F32,
                shape.clone(),
                strides.clone(),
                offset,
                storage(12),
            );
            assert!(made.is_err(), "{shape:?} {strides:?} {offset}");
        }
    }
}
