//! Group normalisation with its activation: one launch forwards, two and a sum backwards.

use super::{Call, Constant, Operand};
use candle_core::{CudaStorage, Result, Shape, Tensor};

/// Sizes and constants of one call.
#[derive(Clone, Copy)]
pub(crate) struct GroupNormGeometry {
    pub(crate) n: usize,
    pub(crate) c: usize,
    pub(crate) pixels: usize,
    pub(crate) groups: usize,
    /// Scale and shift are (N, C) and not (C).
    pub(crate) per_picture: bool,
    pub(crate) silu: bool,
    pub(crate) eps: f64,
}

impl GroupNormGeometry {
    fn call(&self, kernel: &'static str, shape: Shape, pictures: bool, eps: bool) -> Call {
        let width = self.c / self.groups;
        let mut constants: Vec<Constant> = Vec::with_capacity(7);
        if pictures {
            constants.push(self.n.into());
        }
        constants.extend(
            [
                self.groups,
                width,
                self.pixels,
                usize::from(self.per_picture),
                usize::from(self.silu),
            ]
            .map(Constant::from),
        );
        if eps {
            constants.push(Constant::Float(self.eps as f32));
        }
        let blocks = self.n * self.groups;
        Call::rows(kernel, shape, blocks, width * self.pixels, constants)
    }
}

/// x in any type, scale and shift in f32.
pub(crate) fn group_norm(
    g: &GroupNormGeometry,
    x: Operand,
    scale: Operand,
    shift: Operand,
) -> Result<(CudaStorage, Shape)> {
    g.call("group_norm", x.1.shape().clone(), false, true)
        .run(&[x, scale, shift])
}

/// Gradients of x, scale and shift.
pub(crate) fn group_norm_gradients(
    g: &GroupNormGeometry,
    x: &Tensor,
    scale: &Tensor,
    shift: &Tensor,
    dy: &Tensor,
) -> Result<[Tensor; 3]> {
    let all = g.n * g.c;
    let sums = g
        .call(
            "group_norm_sums",
            (2 * all + 2 * g.n * g.groups).into(),
            true,
            true,
        )
        .statistics()
        .of(&[x, dy, scale, shift])?;
    let dx = g
        .call("group_norm_grad", x.shape().clone(), true, false)
        .of(&[x, dy, scale, shift, &sums])?;
    let parts = sums.narrow(0, 0, 2 * all)?;
    let parts = if g.per_picture {
        parts.reshape((2, g.n, g.c))?
    } else {
        parts.reshape((2, g.n, g.c))?.sum(1)?
    };
    let part = |i| parts.get(i)?.reshape(scale.shape());
    Ok([dx, part(1)?, part(0)?])
}
