//! Calls of the elementwise kernels and those by rows.

use super::{Call, Constant, Operand, Taps};
use candle_core::{CudaStorage, Result, Shape, Tensor};

/// As `act` in kernels.cu.
#[derive(Clone, Copy)]
pub(crate) enum Function {
    Silu,
    LeakyRelu(f32),
}

impl Function {
    fn constants(self) -> [Constant; 2] {
        match self {
            Self::Silu => [Constant::Int(1), Constant::Float(0.0)],
            Self::LeakyRelu(slope) => [Constant::Int(2), Constant::Float(slope)],
        }
    }
}

pub(crate) fn activation(f: Function, x: Operand) -> Result<(CudaStorage, Shape)> {
    Call::elementwise("activation", x.1.shape(), f.constants()).run(&[x])
}

pub(crate) fn activation_gradient(f: Function, x: &Tensor, dy: &Tensor) -> Result<Tensor> {
    Call::elementwise("activation_grad", x.shape(), f.constants()).of(&[x, dy])
}

pub(crate) fn add_scaled(a: Operand, b: Operand, k: f32) -> Result<(CudaStorage, Shape)> {
    Call::elementwise("add_scaled", a.1.shape(), [k.into()]).run(&[a, b])
}

/// Doubling and halving of planes; the constants are the smaller plane's height and width.
pub(crate) mod planes {
    use super::*;

    fn call(kernel: &'static str, shape: &Shape, h: usize, w: usize, k: Option<f32>) -> Call {
        let rest = [h.into(), w.into()]
            .into_iter()
            .chain(k.map(Constant::Float));
        Call::elementwise(kernel, shape, rest)
    }

    /// (.., h, w) to (.., 2 h, 2 w).
    pub(crate) fn repeat(to: &Shape, h: usize, w: usize, factor: f32) -> Call {
        call("repeat2x", to, h, w, Some(factor))
    }

    /// (.., 2 h, 2 w) to (.., h, w).
    pub(crate) fn gather(to: &Shape, h: usize, w: usize, factor: f32) -> Call {
        call("gather2x", to, h, w, Some(factor))
    }

    /// (.., h, w) to (.., 2 h, 2 w).
    pub(crate) fn bilinear(to: &Shape, h: usize, w: usize) -> Call {
        call("bilinear2x", to, h, w, None)
    }

    /// (.., 2 h, 2 w) to (.., h, w).
    pub(crate) fn bilinear_gradient(to: &Shape, h: usize, w: usize) -> Call {
        call("bilinear2x_grad", to, h, w, None)
    }

    /// (.., h, w), any size, to (.., h / 2, w / 2).
    pub(crate) fn max(to: &Shape, h: usize, w: usize) -> Call {
        call("max2x", to, h, w, None)
    }

    /// To (.., h, w), from the pictures and the gradient of their maxima.
    pub(crate) fn max_gradient(to: &Shape, h: usize, w: usize) -> Call {
        call("max2x_grad", to, h, w, None)
    }
}

/// A FIR plan on planes (h, w) to (oh, ow); at most 32 taps.
pub(crate) struct Fir<'a> {
    pub(crate) taps: &'a [f64],
    pub(crate) up: usize,
    pub(crate) down: usize,
    pub(crate) before: isize,
}

impl Fir<'_> {
    /// More taps than this do not fit a call.
    pub(crate) const MOST: usize = 32;

    pub(crate) fn call(&self, to: &Shape, from: (usize, usize), out: (usize, usize)) -> Call {
        let mut taps = [0f32; Self::MOST];
        for (place, tap) in taps.iter_mut().zip(self.taps) {
            *place = *tap as f32;
        }
        let sizes = [from.0, from.1, out.0, out.1, self.up, self.down];
        let rest = sizes.into_iter().map(Constant::from).chain([
            Constant::Int(self.before as i64),
            self.taps.len().into(),
            Constant::Taps(Taps(taps)),
        ]);
        Call::elementwise("upfirdn", to, rest)
    }
}

/// softmax(scale x) along rows of `len`.
pub(crate) fn softmax(shape: &Shape, len: usize, scale: f32) -> Call {
    let rows = shape.elem_count() / len.max(1);
    Call::rows(
        "softmax",
        shape.clone(),
        rows,
        len,
        vec![len.into(), scale.into()],
    )
}

/// Its gradient, from probabilities and their gradient.
pub(crate) fn softmax_gradient(p: &Tensor, dp: &Tensor, len: usize, scale: f32) -> Result<Tensor> {
    let rows = p.elem_count() / len.max(1);
    let constants = vec![len.into(), scale.into()];
    Call::rows("softmax_grad", p.shape().clone(), rows, len, constants).of(&[p, dp])
}
