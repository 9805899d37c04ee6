//! Group normalisation (Wu and He 2018, arXiv 1803.08494), fused with scale, shift and SiLU: one pass over the
//! data for the statistics, one for the result, two for all gradients.

use crate::cpu::shared::{SharedMut, scratch};
use crate::path;
use crate::plan::trace;
use crate::simd::{exp, multiversion};
use crate::storage::{cpu_slice, with_slice};
use candle_core::{CpuStorage, CustomOp3, D, DType, Layout, Module, Result, Shape, Tensor, bail};
use candle_nn::VarBuilder;
use rayon::prelude::*;

/// What follows the normalisation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// Nothing.
    None,
    /// x * sigmoid(x).
    Silu,
}

/// `y = act((x - mean) / sqrt(var + eps) * scale + shift)`, mean and (biased) variance over each picture's group of
/// channels.
///
/// x is (N, C, ...) with at least one more dimension or none; `scale` and `shift` are both (C), or both (N, C) for a
/// modulation that differs between pictures. They may be f32 where x is bf16 or f16; the arithmetic is f32.
///
/// # Errors
/// C not divisible by `groups`, or scale and shift of other shapes.
pub fn group_norm(
    x: &Tensor,
    scale: &Tensor,
    shift: &Tensor,
    groups: usize,
    eps: f64,
    act: Activation,
) -> Result<Tensor> {
    let op = || {
        let constant = !scale.track_op() && !shift.track_op() && scale.rank() == 1;
        constant.then(|| traced(scale, shift, groups, eps, act, false))
    };
    trace::step(&[x], op, || evaluate(x, scale, shift, groups, eps, act))
}

fn traced(
    weight: &Tensor,
    bias: &Tensor,
    groups: usize,
    eps: f64,
    act: Activation,
    modulated: bool,
) -> trace::Op {
    trace::Op::GroupNorm {
        weight: weight.clone(),
        bias: bias.clone(),
        groups,
        eps,
        silu: act == Activation::Silu,
        modulated,
    }
}

fn evaluate(
    x: &Tensor,
    scale: &Tensor,
    shift: &Tensor,
    groups: usize,
    eps: f64,
    act: Activation,
) -> Result<Tensor> {
    let geo = Geo::new(x.shape(), scale.shape(), shift.shape(), groups)?;
    if !path::kernels(x) {
        if !path::is_half(x) {
            return reference(x, scale, shift, &geo, eps, act);
        }
        let [y, scale, shift] = [x, scale, shift].map(|t| t.to_dtype(DType::F32));
        return group_norm(&y?, &scale?, &shift?, groups, eps, act)?.to_dtype(x.dtype());
    }
    let (scale, shift) = (scale.to_dtype(DType::F32)?, shift.to_dtype(DType::F32)?);
    let op = Op { groups, eps, act };
    x.contiguous()?
        .apply_op3(&scale.contiguous()?, &shift.contiguous()?, op)
}

fn reference(
    x: &Tensor,
    scale: &Tensor,
    shift: &Tensor,
    geo: &Geo,
    eps: f64,
    act: Activation,
) -> Result<Tensor> {
    let g = x.reshape((geo.n, geo.groups, geo.c / geo.groups * geo.pixels))?;
    let g = g.broadcast_sub(&g.mean_keepdim(D::Minus1)?)?;
    let var = g.sqr()?.mean_keepdim(D::Minus1)?;
    let g = g.broadcast_div(&(var + eps)?.sqrt()?)?;
    let rows = if geo.per_picture { geo.n } else { 1 };
    let y = g
        .reshape((geo.n, geo.c, geo.pixels))?
        .broadcast_mul(&scale.reshape((rows, geo.c, 1))?)?
        .broadcast_add(&shift.reshape((rows, geo.c, 1))?)?
        .reshape(x.shape())?;
    match act {
        Activation::None => Ok(y),
        Activation::Silu => y.silu(),
    }
}

/// Sizes of one call.
struct Geo {
    n: usize,
    c: usize,
    pixels: usize,
    groups: usize,
    per_picture: bool,
}

impl Geo {
    fn new(x: &Shape, scale: &Shape, shift: &Shape, groups: usize) -> Result<Self> {
        let [n, c, rest @ ..] = x.dims() else {
            bail!("group_norm: expected x (N, C, ...), got {x:?}")
        };
        if groups == 0 || c % groups != 0 {
            bail!("group_norm: {c} channels of {x:?} cannot be split into {groups} groups")
        }
        let per_picture = scale.dims() == [*n, *c] && shift.dims() == [*n, *c];
        if !per_picture && (scale.dims() != [*c] || shift.dims() != [*c]) {
            bail!(
                "group_norm: x {x:?} needs scale and shift both ({c},) or both ({n}, {c}), got {scale:?} and {shift:?}"
            )
        }
        Ok(Self {
            n: *n,
            c: *c,
            pixels: rest.iter().product(),
            groups,
            per_picture,
        })
    }

    #[cfg(feature = "cuda")]
    fn on_cuda(&self, op: &Op) -> crate::cuda::GroupNormGeometry {
        crate::cuda::GroupNormGeometry {
            n: self.n,
            c: self.c,
            pixels: self.pixels,
            groups: self.groups,
            per_picture: self.per_picture,
            silu: op.act == Activation::Silu,
            eps: op.eps,
        }
    }

    /// Channels of one group.
    fn width(&self) -> usize {
        self.c / self.groups
    }

    /// Where the scale of channel `ch` of picture `n` lies.
    fn param(&self, n: usize, ch: usize) -> usize {
        if self.per_picture {
            n * self.c + ch
        } else {
            ch
        }
    }
}

const LANES: usize = 16;

multiversion! {
    /// Sum of (x - centre)^power, power 1 or 2, in 16 partial sums.
    fn moment(x: &[f32], centre: f32, square: bool) -> f64 {
        let mut acc = [0f32; LANES];
        let chunks = x.chunks_exact(LANES);
        let rest: f64 = chunks.remainder().iter().map(|&v| {
            let d = v - centre;
            (if square { d * d } else { d }) as f64
        }).sum();
        if square {
            for c in chunks {
                for (a, v) in acc.iter_mut().zip(c) {
                    let d = v - centre;
                    *a += d * d;
                }
            }
        } else {
            for c in chunks {
                for (a, v) in acc.iter_mut().zip(c) {
                    *a += v - centre;
                }
            }
        }
        acc.iter().map(|&a| a as f64).sum::<f64>() + rest
    }
}

multiversion! {
    fn apply(x: &[f32], a: f32, b: f32, silu: bool, y: &mut [f32]) {
        if silu {
            for (y, x) in y.iter_mut().zip(x) {
                let u = x * a + b;
                *y = u / (1.0 + exp(-u));
            }
        } else {
            for (y, x) in y.iter_mut().zip(x) {
                *y = x * a + b;
            }
        }
    }
}

multiversion! {
    /// du = dy * act'(x * a + b); returns the sums of du and of du * (x - mean).
    fn through_activation(x: &[f32], dy: &[f32], mean: f32, a: f32, b: f32, silu: bool, du: &mut [f32]) -> (f64, f64) {
        let (mut s1, mut s2) = ([0f32; LANES], [0f32; LANES]);
        let grad = |x: f32, dy: f32| {
            if silu {
                let u = x * a + b;
                let s = 1.0 / (1.0 + exp(-u));
                dy * (s * (1.0 + u * (1.0 - s)))
            } else {
                dy
            }
        };
        let n = x.len() / LANES * LANES;
        for ((x, dy), du) in x[..n].chunks_exact(LANES).zip(dy[..n].chunks_exact(LANES)).zip(du[..n].chunks_exact_mut(LANES)) {
            for l in 0..LANES {
                let d = grad(x[l], dy[l]);
                du[l] = d;
                s1[l] += d;
                s2[l] += d * (x[l] - mean);
            }
        }
        let (mut t1, mut t2) = (0f64, 0f64);
        for l in 0..LANES {
            t1 += s1[l] as f64;
            t2 += s2[l] as f64;
        }
        for i in n..x.len() {
            let d = grad(x[i], dy[i]);
            du[i] = d;
            t1 += d as f64;
            t2 += (d * (x[i] - mean)) as f64;
        }
        (t1, t2)
    }
}

multiversion! {
    /// dx = dx * k + x * p + q.
    fn finish(dx: &mut [f32], x: &[f32], k: f32, p: f32, q: f32) {
        for (d, x) in dx.iter_mut().zip(x) {
            *d = *d * k + (x * p + q);
        }
    }
}

/// Mean and 1 / sqrt(var + eps) of one group.
fn statistics(x: &[f32], eps: f64) -> (f32, f32) {
    let m = x.len() as f64;
    let mean = moment(x, 0.0, false) / m;
    // The variance around the rounded mean, corrected for the rounding: exact also for pictures far from zero.
    let rough = mean as f32;
    let shift = mean - rough as f64;
    let var = (moment(x, rough, true) / m - shift * shift).max(0.0);
    (rough, (1.0 / (var + eps).sqrt()) as f32)
}

struct Op {
    groups: usize,
    eps: f64,
    act: Activation,
}

impl Op {
    fn fwd(&self, geo: &Geo, x: &[f32], scale: &[f32], shift: &[f32]) -> Vec<f32> {
        let (px, width) = (geo.pixels, geo.width());
        let mut y = scratch(x.len());
        y.par_chunks_mut((width * px).max(1))
            .zip(x.par_chunks((width * px).max(1)))
            .enumerate()
            .with_min_len(2)
            .for_each(|(task, (y, x))| {
                let (n, g) = (task / geo.groups, task % geo.groups);
                let (mean, rstd) = statistics(x, self.eps);
                for (i, (y, x)) in y.chunks_exact_mut(px).zip(x.chunks_exact(px)).enumerate() {
                    let p = geo.param(n, g * width + i);
                    let a = rstd * scale[p];
                    apply(x, a, shift[p] - mean * a, self.act == Activation::Silu, y);
                }
            });
        y
    }

    fn gradients(
        &self,
        geo: &Geo,
        x: &[f32],
        scale: &[f32],
        shift: &[f32],
        dy: &[f32],
    ) -> [Vec<f32>; 3] {
        let (px, width) = (geo.pixels, geo.width());
        let mut dx = scratch(x.len());
        // Per picture and channel; summed over pictures afterwards if the parameters are shared.
        // Pictures without pixels leave them as they are.
        let mut dscale = vec![0f32; geo.n * geo.c];
        let mut dshift = dscale.clone();
        let (ds, dh) = (SharedMut::new(&mut dscale), SharedMut::new(&mut dshift));
        dx.par_chunks_mut((width * px).max(1))
            .enumerate()
            .with_min_len(2)
            .for_each(|(task, dx)| {
                let (n, g) = (task / geo.groups, task % geo.groups);
                let from = task * width * px;
                let (x, dy) = (&x[from..][..width * px], &dy[from..][..width * px]);
                let (mean, rstd) = statistics(x, self.eps);
                // SAFETY: each task has its own picture and channels.
                let (ds, dh) =
                    unsafe { (ds.slice(task * width, width), dh.slice(task * width, width)) };
                let (mut m1, mut m2) = (0f64, 0f64);
                for i in 0..width {
                    let p = geo.param(n, g * width + i);
                    let a = rstd * scale[p];
                    let r = i * px..(i + 1) * px;
                    let (s1, s2) = through_activation(
                        &x[r.clone()],
                        &dy[r.clone()],
                        mean,
                        a,
                        shift[p] - mean * a,
                        self.act == Activation::Silu,
                        &mut dx[r],
                    );
                    let s2 = s2 * rstd as f64;
                    dh[i] = s1 as f32;
                    ds[i] = s2 as f32;
                    m1 += s1 * scale[p] as f64;
                    m2 += s2 * scale[p] as f64;
                }
                let m = (width * px) as f64;
                let p = (-(rstd as f64) * rstd as f64 * m2 / m) as f32;
                let q = (-(rstd as f64) * m1 / m) as f32 - p * mean;
                for i in 0..width {
                    let r = i * px..(i + 1) * px;
                    let k = rstd * scale[geo.param(n, g * width + i)];
                    finish(&mut dx[r.clone()], &x[r], k, p, q);
                }
            });
        if !geo.per_picture {
            dscale = sum_pictures(&dscale, geo.c);
            dshift = sum_pictures(&dshift, geo.c);
        }
        [dx, dscale, dshift]
    }
}

fn sum_pictures(v: &[f32], c: usize) -> Vec<f32> {
    (0..c)
        .map(|i| v.iter().skip(i).step_by(c).map(|&v| v as f64).sum::<f64>() as f32)
        .collect()
}

impl CustomOp3 for Op {
    fn name(&self) -> &'static str {
        "group_norm"
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
        let geo = Geo::new(l1.shape(), l2.shape(), l3.shape(), self.groups)?;
        let y = self.fwd(
            &geo,
            cpu_slice("group_norm", s1, l1)?,
            cpu_slice("group_norm", s2, l2)?,
            cpu_slice("group_norm", s3, l3)?,
        );
        Ok((CpuStorage::F32(y), l1.shape().clone()))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        s1: &candle_core::CudaStorage,
        l1: &Layout,
        s2: &candle_core::CudaStorage,
        l2: &Layout,
        s3: &candle_core::CudaStorage,
        l3: &Layout,
    ) -> Result<(candle_core::CudaStorage, Shape)> {
        let geo = Geo::new(l1.shape(), l2.shape(), l3.shape(), self.groups)?;
        crate::cuda::group_norm(&geo.on_cuda(self), (s1, l1), (s2, l2), (s3, l3))
    }

    fn bwd(
        &self,
        x: &Tensor,
        scale: &Tensor,
        shift: &Tensor,
        _: &Tensor,
        dy: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let geo = Geo::new(x.shape(), scale.shape(), shift.shape(), self.groups)?;
        let dy = dy.contiguous()?;
        #[cfg(feature = "cuda")]
        if x.device().is_cuda() {
            let g = geo.on_cuda(self);
            let [dx, ds, dh] = crate::cuda::group_norm_gradients(&g, x, scale, shift, &dy)?;
            return Ok((Some(dx), Some(ds), Some(dh)));
        }
        let [dx, ds, dh] = with_slice(x, |x| {
            with_slice(scale, |s| {
                with_slice(shift, |h| {
                    with_slice(&dy, |dy| Ok(self.gradients(&geo, x, s, h, dy)))
                })
            })
        })?;
        let device = x.device();
        Ok((
            Some(Tensor::from_vec(dx, x.shape(), device)?),
            Some(Tensor::from_vec(ds, scale.shape(), device)?),
            Some(Tensor::from_vec(dh, shift.shape(), device)?),
        ))
    }
}

/// A group normalisation layer with learned `weight` and `bias`, each (C).
#[derive(Debug, Clone)]
pub struct GroupNorm {
    weight: Tensor,
    bias: Tensor,
    groups: usize,
    eps: f64,
}

impl GroupNorm {
    /// Reads or creates (ones and zeros) the parameters for `channels`; PyTorch's default `eps` is 1e-5.
    pub fn new(groups: usize, channels: usize, eps: f64, vb: VarBuilder) -> Result<Self> {
        if groups == 0 || !channels.is_multiple_of(groups) {
            bail!("GroupNorm: {channels} channels cannot be split into {groups} groups")
        }
        Ok(Self {
            weight: vb.get_with_hints(channels, "weight", candle_nn::Init::Const(1.0))?,
            bias: vb.get_with_hints(channels, "bias", candle_nn::Init::Const(0.0))?,
            groups,
            eps,
        })
    }

    /// The normalisation followed by `act`, in one operator.
    pub fn forward_act(&self, x: &Tensor, act: Activation) -> Result<Tensor> {
        group_norm(x, &self.weight, &self.bias, self.groups, self.eps, act)
    }

    /// `act(norm(x) * (1 + scale) + shift)`, `scale` and `shift` (N, C): the adaptive form diffusion networks use to
    /// let the noise level in (Dhariwal and Nichol 2021, arXiv 2105.05233).
    pub fn forward_modulated(
        &self,
        x: &Tensor,
        scale: &Tensor,
        shift: &Tensor,
        act: Activation,
    ) -> Result<Tensor> {
        let op = || {
            let constant = !self.weight.track_op() && !self.bias.track_op();
            constant.then(|| traced(&self.weight, &self.bias, self.groups, self.eps, act, true))
        };
        trace::step(&[x, scale, shift], op, || {
            let one_plus = (scale + 1.0)?;
            let weight = self.weight.to_dtype(scale.dtype())?;
            let bias = self.bias.to_dtype(scale.dtype())?;
            let scale = one_plus.broadcast_mul(&weight)?;
            let shift = (one_plus.broadcast_mul(&bias)? + shift)?;
            evaluate(x, &scale, &shift, self.groups, self.eps, act)
        })
    }
}

impl Module for GroupNorm {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.forward_act(x, Activation::None)
    }
}
