//! What a network sees in pictures: one vector per picture.

use crate::error::{Error, Result};

/// N vectors of D finite numbers, one per picture.
#[derive(Debug, Clone, PartialEq)]
pub struct Features {
    /// (N, D), row by row.
    values: Vec<f32>,
    dim: usize,
}

impl Features {
    /// Vectors of `dim` numbers, one after the other; their number follows from the length.
    ///
    /// # Errors
    /// [`Error::Shape`] if `dim` is 0 or does not divide the length, [`Error::NotFinite`] naming the first bad value.
    pub fn new(values: Vec<f32>, dim: usize) -> Result<Self> {
        if dim == 0 || !values.len().is_multiple_of(dim) {
            return Err(Error::Shape {
                what: "features".into(),
                found: values.len(),
                expected: format!("a multiple of the dimension {dim} was expected"),
            });
        }
        if let Some(at) = values.iter().position(|v| !v.is_finite()) {
            return Err(Error::NotFinite {
                what: "features".into(),
                row: at / dim,
                column: at % dim,
                value: values[at].into(),
            });
        }
        Ok(Self { values, dim })
    }

    /// N, the number of vectors.
    pub fn count(&self) -> usize {
        self.values.len() / self.dim
    }

    /// D, the numbers in a vector.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// All numbers, (N, D) row by row.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// The vectors, in order.
    pub fn rows(&self) -> impl ExactSizeIterator<Item = &[f32]> {
        self.values.chunks_exact(self.dim)
    }

    /// The first `count` vectors, or all if there are fewer.
    pub fn head(&self, count: usize) -> Self {
        let kept = count.min(self.count()) * self.dim;
        Self {
            values: self.values[..kept].to_vec(),
            dim: self.dim,
        }
    }

    /// In f64.
    pub(crate) fn wide(&self) -> Vec<f64> {
        self.values.iter().map(|&v| v.into()).collect()
    }

    /// Errs if the two are of different dimensions.
    pub(crate) fn same_space(op: &'static str, a: &Self, b: &Self) -> Result<()> {
        if a.dim == b.dim {
            return Ok(());
        }
        Err(Error::Dims {
            op,
            a: "the first set",
            dim_a: a.dim,
            b: "the second",
            dim_b: b.dim,
        })
    }
}
