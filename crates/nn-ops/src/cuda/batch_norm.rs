//! Batch normalisation: a launch for the statistics, one for the result, two for all gradients.

use super::{Call, Constant};
use candle_core::{CpuStorage, CudaStorage, CustomOp3, Layout, Result, Shape, Tensor, bail};

/// Sizes of one call.
#[derive(Clone, Copy)]
struct Geometry {
    n: usize,
    c: usize,
    pixels: usize,
}

impl Geometry {
    fn of(shape: &Shape) -> Result<Self> {
        let [n, c, rest @ ..] = shape.dims() else {
            bail!("batch_norm: expected x (N, C, ...), got {shape:?}")
        };
        Ok(Self {
            n: *n,
            c: *c,
            pixels: rest.iter().product(),
        })
    }

    /// A block per channel.
    fn channels(&self, kernel: &'static str, eps: Option<f64>) -> Call {
        let constants = [self.n, self.c, self.pixels].map(Constant::from);
        let constants = constants
            .into_iter()
            .chain(eps.map(|e| Constant::Float(e as f32)));
        let len = self.n * self.pixels;
        Call::rows(kernel, 2 * self.c, self.c, len, constants.collect()).statistics()
    }
}

/// Means and biased variances, (2 C) in f32.
pub(crate) fn batch_statistics(x: &Tensor) -> Result<Tensor> {
    Geometry::of(x.shape())?
        .channels("batch_stats", None)
        .of(&[x])
}

/// `(x - mean) / sqrt(var + eps) * scale + shift`, `statistics` (2 C) in f32 as [`batch_statistics`] gives them; gradients
/// go through them where they are `of_batch`.
pub(crate) fn batch_norm(
    x: &Tensor,
    statistics: Tensor,
    scale: &Tensor,
    shift: &Tensor,
    eps: f64,
    of_batch: bool,
) -> Result<Tensor> {
    let op = Op {
        statistics,
        eps,
        of_batch,
    };
    x.apply_op3(scale, shift, op)
}

struct Op {
    statistics: Tensor,
    eps: f64,
    of_batch: bool,
}

impl CustomOp3 for Op {
    fn name(&self) -> &'static str {
        "batch_norm"
    }

    fn cpu_fwd(
        &self,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        bail!("batch_norm: this form runs on CUDA devices alone")
    }

    fn cuda_fwd(
        &self,
        x: &CudaStorage,
        lx: &Layout,
        scale: &CudaStorage,
        ls: &Layout,
        shift: &CudaStorage,
        lh: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        let g = Geometry::of(lx.shape())?;
        let rest = [
            g.c.into(),
            g.pixels.into(),
            Constant::Float(self.eps as f32),
        ];
        let call = Call::elementwise("batch_norm", lx.shape(), rest);
        super::with_storage(&self.statistics, |statistics| {
            call.run(&[(x, lx), (scale, ls), (shift, lh), statistics])
        })
    }

    fn bwd(
        &self,
        x: &Tensor,
        scale: &Tensor,
        _: &Tensor,
        _: &Tensor,
        dy: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let g = Geometry::of(x.shape())?;
        let dy = dy.contiguous()?;
        let sums = g
            .channels("batch_norm_sums", Some(self.eps))
            .of(&[x, &dy, &self.statistics])?;
        let rest = [
            g.c.into(),
            g.pixels.into(),
            (g.n * g.pixels).into(),
            usize::from(self.of_batch).into(),
            Constant::Float(self.eps as f32),
        ];
        let dx = Call::elementwise("batch_norm_grad", x.shape(), rest).of(&[
            x,
            &dy,
            scale,
            &self.statistics,
            &sums,
        ])?;
        let part = |at: usize| sums.narrow(0, at, g.c);
        Ok((Some(dx), Some(part(g.c)?), Some(part(0)?)))
    }
}
