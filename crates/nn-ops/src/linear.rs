//! A fully connected layer whose rows do not depend on each other's company.

use crate::conv::{Conv2dConfig, conv2d};
use candle_core::{Module, Result, Tensor, bail};
use candle_nn::{Init, VarBuilder};

/// `y = x w^T + b`: x (N, I), w (O, I), b (O).
///
/// One product per row: a matrix product over all rows may sum in another order when there are more of them, and a
/// picture must not change with its batch.
///
/// # Errors
/// Shapes that do not fit each other.
pub fn linear(x: &Tensor, w: &Tensor, b: Option<&Tensor>) -> Result<Tensor> {
    let (&[n, i], &[o, wi]) = (x.dims(), w.dims()) else {
        bail!(
            "linear: expected x (N, I) and w (O, I), got {:?} and {:?}",
            x.shape(),
            w.shape()
        )
    };
    if i != wi {
        bail!("linear: x {:?} does not fit w {:?}", x.shape(), w.shape())
    }
    let x = x.reshape((n, i, 1, 1))?;
    conv2d(&x, &w.reshape((o, i, 1, 1))?, b, Conv2dConfig::default())?.reshape((n, o))
}

/// A fully connected layer: parameters `weight` (O, I) and `bias` (O).
#[derive(Debug, Clone)]
pub struct Linear {
    weight: Tensor,
    bias: Tensor,
}

impl Linear {
    /// Reads or creates (PyTorch's default initialisation) a layer from `inputs` to `outputs` features.
    ///
    /// # Errors
    /// A missing or misshapen parameter.
    pub fn new(inputs: usize, outputs: usize, vb: VarBuilder) -> Result<Self> {
        let bound = 1.0 / (inputs.max(1) as f64).sqrt();
        let init = Init::Uniform {
            lo: -bound,
            up: bound,
        };
        Ok(Self {
            weight: vb.get_with_hints((outputs, inputs), "weight", init)?,
            bias: vb.get_with_hints(outputs, "bias", init)?,
        })
    }

    /// A layer from tensors at hand, `weight` (O, I) and `bias` (O).
    pub fn from_tensors(weight: Tensor, bias: Tensor) -> Self {
        Self { weight, bias }
    }

    /// Multiply-adds for one row, counted as in [`crate::count`].
    pub fn multiply_adds(&self) -> u64 {
        self.weight.elem_count() as u64
    }
}

impl Module for Linear {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        linear(x, &self.weight, Some(&self.bias))
    }
}
