//! The fused operator: one pass forwards, two passes for all gradients.

use super::Geo;
use crate::cpu::shared::scratch;
use crate::simd::multiversion;
use crate::storage::{cpu_slice, with_slice};
use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

const LANES: usize = 16;

multiversion! {
    /// Sums of x - centre and of its square.
    pub(super) fn sums(x: &[f32], centre: f32) -> (f64, f64) {
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
pub(super) struct Op {
    pub(super) mean: Vec<f32>,
    pub(super) rstd: Vec<f32>,
    /// Whether the statistics are functions of x.
    pub(super) of_batch: bool,
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
