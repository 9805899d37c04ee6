//! Batch normalisation (Ioffe and Szegedy 2015, arXiv 1502.03167) with PyTorch's running statistics, all gradients in
//! two passes over the data.

use crate::cpu::shared::scratch;
use crate::path::{self, Path};
use crate::simd::multiversion;
use crate::storage::{cpu_slice, with_slice};
use candle_core::{
    CpuStorage, CustomOp3, DType, Layout, ModuleT, Result, Shape, Tensor, Var, bail,
};
use candle_nn::{Init, VarBuilder};
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

fn fast(tensors: &[&Tensor]) -> bool {
    path::current() == Path::Fast
        && tensors
            .iter()
            .all(|t| t.device().is_cpu() && t.dtype() == DType::F32)
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
                    .map(|p| sums(p, centre))
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

const LANES: usize = 16;

multiversion! {
    /// Sums of x - centre and of its square.
    fn sums(x: &[f32], centre: f32) -> (f64, f64) {
        let (mut s1, mut s2) = ([0f32; LANES], [0f32; LANES]);
        let chunks = x.chunks_exact(LANES);
        let (mut t1, mut t2) = (0f64, 0f64);
        for v in chunks.remainder() {
            let d = (v - centre) as f64;
            t1 += d;
            t2 += d * d;
        }
        for c in chunks {
            for l in 0..LANES {
                let d = c[l] - centre;
                s1[l] += d;
                s2[l] += d * d;
            }
        }
        for l in 0..LANES {
            t1 += s1[l] as f64;
            t2 += s2[l] as f64;
        }
        (t1, t2)
    }
}

multiversion! {
    /// Sums of dy and of dy * (x - mean).
    fn products(x: &[f32], dy: &[f32], mean: f32) -> (f64, f64) {
        let (mut s1, mut s2) = ([0f32; LANES], [0f32; LANES]);
        let (xs, dys) = (x.chunks_exact(LANES), dy.chunks_exact(LANES));
        let (mut t1, mut t2) = (0f64, 0f64);
        for (x, dy) in xs.remainder().iter().zip(dys.remainder()) {
            t1 += *dy as f64;
            t2 += (dy * (x - mean)) as f64;
        }
        for (x, dy) in xs.zip(dys) {
            for l in 0..LANES {
                s1[l] += dy[l];
                s2[l] += dy[l] * (x[l] - mean);
            }
        }
        for l in 0..LANES {
            t1 += s1[l] as f64;
            t2 += s2[l] as f64;
        }
        (t1, t2)
    }
}

multiversion! {
    fn apply(x: &[f32], mean: f32, scale: f32, shift: f32, y: &mut [f32]) {
        for (y, x) in y.iter_mut().zip(x) {
            *y = (x - mean) * scale + shift;
        }
    }
}

multiversion! {
    /// dx = dy * k + (x - mean) * p + q.
    fn input_gradient(x: &[f32], dy: &[f32], mean: f32, factors: [f32; 3], dx: &mut [f32]) {
        let [k, p, q] = factors;
        for ((dx, x), dy) in dx.iter_mut().zip(x).zip(dy) {
            *dx = dy * k + ((x - mean) * p + q);
        }
    }
}

/// The normalisation with the statistics it was made with.
struct Op {
    mean: Vec<f32>,
    rstd: Vec<f32>,
    /// Whether the statistics are functions of x.
    of_batch: bool,
}

impl Op {
    fn gradients(&self, geo: &Geo, x: &[f32], scale: &[f32], dy: &[f32]) -> [Vec<f32>; 3] {
        let m = (geo.n * geo.pixels) as f64;
        let channel = |ch: usize| {
            let (mean, rstd) = (self.mean[ch], self.rstd[ch] as f64);
            let (s1, s2) = geo
                .planes(x, ch)
                .zip(geo.planes(dy, ch))
                .map(|(x, dy)| products(x, dy, mean))
                .fold((0.0, 0.0), |a, b| (a.0 + b.0, a.1 + b.1));
            let k = rstd * scale[ch] as f64;
            let through_statistics = if self.of_batch { -k / m } else { 0.0 };
            let p = through_statistics * rstd * rstd * s2;
            let q = through_statistics * s1;
            (
                [k as f32, p as f32, q as f32],
                (rstd * s2) as f32,
                s1 as f32,
            )
        };
        let channels: Vec<_> = (0..geo.c).into_par_iter().map(channel).collect();
        let mut dx = scratch(x.len());
        let px = geo.pixels.max(1);
        dx.par_chunks_mut(px)
            .zip(x.par_chunks(px).zip(dy.par_chunks(px)))
            .enumerate()
            .with_min_len(4)
            .for_each(|(i, (dx, (x, dy)))| {
                let ch = i % geo.c;
                input_gradient(x, dy, self.mean[ch], channels[ch].0, dx);
            });
        [
            dx,
            channels.iter().map(|c| c.1).collect(),
            channels.iter().map(|c| c.2).collect(),
        ]
    }
}

impl CustomOp3 for Op {
    fn name(&self) -> &'static str {
        "batch_norm"
    }

    fn cpu_fwd(
        &self,
        s1: &CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
        s3: &CpuStorage,
        l3: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let geo = Geo::new(l1.shape(), &[("scale", l2.shape()), ("shift", l3.shape())])?;
        let (x, scale) = (
            cpu_slice(self.name(), s1, l1)?,
            cpu_slice(self.name(), s2, l2)?,
        );
        let shift = cpu_slice(self.name(), s3, l3)?;
        let mut y = scratch(x.len());
        let px = geo.pixels.max(1);
        y.par_chunks_mut(px)
            .zip(x.par_chunks(px))
            .enumerate()
            .with_min_len(4)
            .for_each(|(i, (y, x))| {
                let ch = i % geo.c;
                apply(x, self.mean[ch], self.rstd[ch] * scale[ch], shift[ch], y);
            });
        Ok((CpuStorage::F32(y), l1.shape().clone()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        scale: &Tensor,
        shift: &Tensor,
        _: &Tensor,
        dy: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let geo = Geo::new(
            x.shape(),
            &[("scale", scale.shape()), ("shift", shift.shape())],
        )?;
        let dy = dy.contiguous()?;
        let [dx, dscale, dshift] = with_slice(x, |x| {
            with_slice(scale, |s| {
                with_slice(&dy, |dy| Ok(self.gradients(&geo, x, s, dy)))
            })
        })?;
        let tensor = |data, shape: &Shape| Tensor::from_vec(data, shape, x.device()).map(Some);
        Ok((
            tensor(dx, x.shape())?,
            tensor(dscale, scale.shape())?,
            tensor(dshift, shift.shape())?,
        ))
    }
}

/// Constants of a batch normalisation layer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BatchNormConfig {
    /// Added to the variance.
    pub eps: f64,
    /// Weight of the newest batch in the running statistics.
    pub momentum: f64,
}

impl Default for BatchNormConfig {
    /// torch's defaults: 1e-5 and 0.1.
    fn default() -> Self {
        Self {
            eps: 1e-5,
            momentum: 0.1,
        }
    }
}

/// A batch normalisation layer, as `torch.nn.BatchNorm2d`: `weight`, `bias`, `running_mean` and `running_var`, (C) each.
///
/// A pass in training normalises by the batch and moves the running statistics towards its mean and *unbiased* variance;
/// otherwise these normalise. Built on [`crate::Params`], they are variables there, saved and loaded with the others; no
/// gradient reaches them, so an optimiser leaves them alone. torch's counter `num_batches_tracked` serves only another
/// kind of average and is neither read nor written.
#[derive(Debug, Clone)]
pub struct BatchNorm {
    weight: Tensor,
    bias: Tensor,
    running_mean: Var,
    running_var: Var,
    config: BatchNormConfig,
}

impl BatchNorm {
    /// Reads or creates (weight and variance one, bias and mean zero) a layer for `channels`.
    ///
    /// # Errors
    /// A missing or misshapen parameter.
    pub fn new(channels: usize, config: BatchNormConfig, vb: VarBuilder) -> Result<Self> {
        let get = |name, value| vb.get_with_hints(channels, name, Init::Const(value));
        Ok(Self {
            weight: get("weight", 1.0)?,
            bias: get("bias", 0.0)?,
            running_mean: Var::from_tensor(&get("running_mean", 0.0)?)?,
            running_var: Var::from_tensor(&get("running_var", 1.0)?)?,
            config,
        })
    }

    /// The running mean, (C).
    pub fn running_mean(&self) -> &Tensor {
        self.running_mean.as_tensor()
    }

    /// The running variance (unbiased), (C).
    pub fn running_var(&self) -> &Tensor {
        self.running_var.as_tensor()
    }

    fn track(&self, batch: &BatchStatistics) -> Result<()> {
        let m = self.config.momentum;
        let unbiased = batch.count as f64 / (batch.count as f64 - 1.0);
        for (running, new) in [
            (&self.running_mean, batch.mean.clone()),
            (&self.running_var, (&batch.var * unbiased)?),
        ] {
            let new = new.to_dtype(running.dtype())?;
            running.set(&((running.as_tensor().detach() * (1.0 - m))? + (new * m)?)?)?;
        }
        Ok(())
    }
}

impl ModuleT for BatchNorm {
    fn forward_t(&self, x: &Tensor, train: bool) -> Result<Tensor> {
        let eps = self.config.eps;
        if !train {
            let (mean, var) = (self.running_mean(), self.running_var());
            return batch_norm_eval(x, mean, var, &self.weight, &self.bias, eps);
        }
        let (y, batch) = batch_norm_train(x, &self.weight, &self.bias, eps)?;
        self.track(&batch)?;
        Ok(y)
    }
}
