//! Batch normalisation (Ioffe and Szegedy 2015, arXiv 1502.03167) with PyTorch's running statistics, all gradients in
//! two passes over the data.

mod layer;
mod op;

pub use layer::{BatchNorm, BatchNormConfig};

use crate::path;
use crate::storage::with_slice;
use candle_core::{DType, Result, Shape, Tensor, bail};
use op::Op;
use rayon::prelude::*;

/// What one batch measured: (C) each, no gradients through them.
#[derive(Debug, Clone)]
pub struct BatchStatistics {
    /// Mean of every channel over pictures and positions.
    pub mean: Tensor,
    /// Biased variance (divided by `count`).
    pub var: Tensor,
    /// Values per channel.
    pub count: usize,
}

/// `y = (x - mean) / sqrt(var + eps) * scale + shift` with mean and biased variance of this batch: x (N, C, ...), scale
/// and shift (C). Gradients go through the statistics.
///
/// # Errors
/// Shapes that do not fit, or fewer than two values per channel.
pub fn batch_norm_train(
    x: &Tensor,
    scale: &Tensor,
    shift: &Tensor,
    eps: f64,
) -> Result<(Tensor, BatchStatistics)> {
    let geo = Geo::new(
        x.shape(),
        &[("scale", scale.shape()), ("shift", shift.shape())],
    )?;
    let count = geo.n * geo.pixels;
    if count < 2 {
        bail!(
            "batch_norm: training needs at least two values per channel, {:?} has {count}",
            x.shape()
        )
    }
    #[cfg(feature = "cuda")]
    if path::cuda_kernels(x) {
        let x = x.contiguous()?;
        let both = crate::cuda::batch_statistics(&x)?;
        let statistics = BatchStatistics {
            mean: both.narrow(0, 0, geo.c)?,
            var: both.narrow(0, geo.c, geo.c)?,
            count,
        };
        let (scale, shift) = parameters(scale, shift)?;
        let y = crate::cuda::batch_norm(&x, both, &scale, &shift, eps, true)?;
        return Ok((y, statistics));
    }
    if path::is_half(x) {
        let [up, scale, shift] = [x, scale, shift].map(|t| t.to_dtype(DType::F32));
        let (y, statistics) = batch_norm_train(&up?, &scale?, &shift?, eps)?;
        return Ok((y.to_dtype(x.dtype())?, statistics));
    }
    if !fast(&[x, scale, shift]) {
        return reference_train(x, scale, shift, &geo, eps);
    }
    let x = x.contiguous()?;
    let moments = with_slice(&x, |x| Ok(geo.moments(x)))?;
    let (mean, var): (Vec<f32>, Vec<f32>) =
        moments.iter().map(|&(m, v)| (m as f32, v as f32)).unzip();
    let statistics = BatchStatistics {
        mean: Tensor::from_slice(&mean, geo.c, x.device())?,
        var: Tensor::from_vec(var, geo.c, x.device())?,
        count,
    };
    let rstd = moments
        .iter()
        .map(|&(_, v)| (1.0 / (v + eps).sqrt()) as f32)
        .collect();
    let op = Op {
        mean,
        rstd,
        of_batch: true,
    };
    Ok((
        x.apply_op3(&scale.contiguous()?, &shift.contiguous()?, op)?,
        statistics,
    ))
}

/// `y = (x - mean) / sqrt(var + eps) * scale + shift` with given, constant mean and variance, all four (C).
///
/// # Errors
/// Shapes that do not fit.
pub fn batch_norm_eval(
    x: &Tensor,
    mean: &Tensor,
    var: &Tensor,
    scale: &Tensor,
    shift: &Tensor,
    eps: f64,
) -> Result<Tensor> {
    let shapes = [
        ("mean", mean),
        ("var", var),
        ("scale", scale),
        ("shift", shift),
    ]
    .map(|(n, t)| (n, t.shape()));
    let geo = Geo::new(x.shape(), &shapes)?;
    #[cfg(feature = "cuda")]
    if path::cuda_kernels(x) {
        let (mean, var) = parameters(&mean.detach(), &var.detach())?;
        let (scale, shift) = parameters(scale, shift)?;
        let both = Tensor::cat(&[mean, var], 0)?;
        return crate::cuda::batch_norm(&x.contiguous()?, both, &scale, &shift, eps, false);
    }
    if path::is_half(x) {
        let [up, mean, var, scale, shift] =
            [x, mean, var, scale, shift].map(|t| t.to_dtype(DType::F32));
        return batch_norm_eval(&up?, &mean?, &var?, &scale?, &shift?, eps)?.to_dtype(x.dtype());
    }
    if !fast(&[x, mean, var, scale, shift]) {
        let (mean, var) = (mean.detach(), var.detach());
        let d = geo.flat(x)?.broadcast_sub(&geo.row(&mean)?)?;
        return geo
            .finish(&d, &geo.row(&var)?, scale, shift, eps)?
            .reshape(x.shape());
    }
    let rstd = var
        .to_vec1::<f32>()?
        .into_iter()
        .map(|v| (1.0 / (v as f64 + eps).sqrt()) as f32);
    let op = Op {
        mean: mean.to_vec1()?,
        rstd: rstd.collect(),
        of_batch: false,
    };
    x.contiguous()?
        .apply_op3(&scale.contiguous()?, &shift.contiguous()?, op)
}

#[cfg(feature = "cuda")]
fn parameters(a: &Tensor, b: &Tensor) -> Result<(Tensor, Tensor)> {
    let ready = |t: &Tensor| t.to_dtype(DType::F32)?.contiguous();
    Ok((ready(a)?, ready(b)?))
}

fn fast(tensors: &[&Tensor]) -> bool {
    tensors.iter().all(|t| path::cpu_kernels(t))
}

/// candle's operators, through which the gradients find their way.
fn reference_train(
    x: &Tensor,
    scale: &Tensor,
    shift: &Tensor,
    geo: &Geo,
    eps: f64,
) -> Result<(Tensor, BatchStatistics)> {
    let flat = geo.flat(x)?;
    let mean = flat.mean_keepdim((0, 2))?;
    let d = flat.broadcast_sub(&mean)?;
    let var = d.sqr()?.mean_keepdim((0, 2))?;
    let y = geo
        .finish(&d, &var, scale, shift, eps)?
        .reshape(x.shape())?;
    let statistics = BatchStatistics {
        mean: mean.flatten_all()?.detach(),
        var: var.flatten_all()?.detach(),
        count: geo.n * geo.pixels,
    };
    Ok((y, statistics))
}

/// Sizes of one call.
struct Geo {
    n: usize,
    c: usize,
    pixels: usize,
}

impl Geo {
    fn new(x: &Shape, params: &[(&str, &Shape)]) -> Result<Self> {
        let [n, c, rest @ ..] = x.dims() else {
            bail!("batch_norm: expected x (N, C, ...), got {x:?}")
        };
        for (name, shape) in params {
            if shape.dims() != [*c] {
                bail!("batch_norm: x {x:?} needs {name} of shape ({c},), got {shape:?}")
            }
        }
        Ok(Self {
            n: *n,
            c: *c,
            pixels: rest.iter().product(),
        })
    }

    /// (N, C, P).
    fn flat(&self, x: &Tensor) -> Result<Tensor> {
        x.reshape((self.n, self.c, self.pixels))
    }

    /// (C) to (1, C, 1).
    fn row(&self, t: &Tensor) -> Result<Tensor> {
        t.reshape((1, self.c, 1))
    }

    /// From centred values (N, C, P) and variances (1, C, 1).
    fn finish(
        &self,
        d: &Tensor,
        var: &Tensor,
        scale: &Tensor,
        shift: &Tensor,
        eps: f64,
    ) -> Result<Tensor> {
        d.broadcast_div(&(var + eps)?.sqrt()?)?
            .broadcast_mul(&self.row(scale)?)?
            .broadcast_add(&self.row(shift)?)
    }

    /// The planes of a channel, picture by picture.
    fn planes<'a>(&self, x: &'a [f32], channel: usize) -> impl Iterator<Item = &'a [f32]> {
        let (c, px) = (self.c, self.pixels);
        (0..self.n).map(move |i| &x[(i * c + channel) * px..][..px])
    }

    /// Mean and biased variance of every channel: the corrected two-pass algorithm (Chan et al. 1983), exact also far
    /// from zero.
    fn moments(&self, x: &[f32]) -> Vec<(f64, f64)> {
        let m = (self.n * self.pixels) as f64;
        let channel = |ch| {
            let total = |centre| {
                self.planes(x, ch)
                    .map(|p| op::sums(p, centre))
                    .fold((0.0, 0.0), |a, b| (a.0 + b.0, a.1 + b.1))
            };
            let rough = (total(0.0).0 / m) as f32;
            let (first, second) = total(rough);
            let off = first / m;
            (rough as f64 + off, (second / m - off * off).max(0.0))
        };
        (0..self.c).into_par_iter().map(channel).collect()
    }
}
