//! A fully connected layer whose rows do not depend on each other's company.

use crate::conv::{Conv2dConfig, conv2d};
use crate::path;
use crate::plan::trace::{self, Function, Op};
use candle_core::{Module, Result, Tensor, bail};
use candle_nn::{Init, VarBuilder};
use std::sync::Arc;

/// `y = x w^T + b`: x (N, I), w (O, I), b (O).
///
/// One product per row on the CPU: a matrix product over all rows may sum in another order when there are more of them,
/// and a picture must not change with its batch. Weights and bias are rounded to the type of x.
///
/// # Errors
/// Shapes that do not fit each other.
pub fn linear(x: &Tensor, w: &Tensor, b: Option<&Tensor>) -> Result<Tensor> {
    let (&[_, i], &[_, wi]) = (x.dims(), w.dims()) else {
        bail!(
            "linear: expected x (N, I) and w (O, I), got {:?} and {:?}",
            x.shape(),
            w.shape()
        )
    };
    if i != wi {
        bail!("linear: x {:?} does not fit w {:?}", x.shape(), w.shape())
    }
    let constant = !w.track_op() && !b.is_some_and(Tensor::track_op);
    let op = || {
        let (w, b) = (w.clone(), b.cloned());
        let again: Function = Arc::new(move |x| evaluate(&x[0], &w, b.as_ref()));
        constant.then_some(Op::Plain(again))
    };
    trace::step(&[x], op, || evaluate(x, w, b))
}

fn evaluate(x: &Tensor, w: &Tensor, b: Option<&Tensor>) -> Result<Tensor> {
    let ((n, i), (o, _)) = (x.dims2()?, w.dims2()?);
    if path::cuda_kernels(x) {
        let y = x.matmul(&w.to_dtype(x.dtype())?.t()?)?;
        return match b {
            Some(b) => y.broadcast_add(&b.to_dtype(x.dtype())?),
            None => Ok(y),
        };
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
