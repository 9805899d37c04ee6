//! Softmax along the last dimension, with a gradient (candle's `softmax_last_dim` has none and does not say so).

use crate::cpu::shared::scratch;
use crate::path;
use crate::simd::{exp, multiversion};
use crate::storage::{cpu_slice, with_slice};
use candle_core::{CpuStorage, CustomOp1, D, DType, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

/// Rows per parallel task, at least.
const ROWS: usize = 16;

/// `exp(x) / sum(exp(x))` along the last dimension, computed around the largest value.
///
/// # Errors
/// A scalar or an empty last dimension.
pub fn softmax(x: &Tensor) -> Result<Tensor> {
    if x.dims().last().is_none_or(|len| *len == 0) {
        bail!(
            "softmax: {:?} has no elements along its last dimension",
            x.shape()
        )
    }
    scaled_softmax(x, 1.0)
}

/// The softmax of `scale * x`, for a positive scale.
pub(crate) fn scaled_softmax(x: &Tensor, scale: f64) -> Result<Tensor> {
    if path::kernels(x) {
        return x.contiguous()?.apply_op1(Op {
            scale: scale as f32,
        });
    }
    if path::is_half(x) {
        return scaled_softmax(&x.to_dtype(DType::F32)?, scale)?.to_dtype(x.dtype());
    }
    if scale == 1.0 {
        return candle_nn::ops::softmax(x, D::Minus1);
    }
    candle_nn::ops::softmax(&(x * scale)?, D::Minus1)
}

multiversion! {
    /// row = softmax(row * scale); 16 partial sums.
    pub(crate) fn softmax_row(row: &mut [f32], scale: f32) {
        let larger = |m: f32, v: f32| if v > m { v } else { m };
        let mut most = [f32::NEG_INFINITY; 16];
        let chunks = row.chunks_exact(16);
        let rest = chunks.remainder().iter().fold(f32::NEG_INFINITY, |m, &v| larger(m, v));
        for c in chunks {
            for (m, &v) in most.iter_mut().zip(c) {
                *m = larger(*m, v);
            }
        }
        let max = most.into_iter().fold(rest, larger);
        let mut acc = [0f32; 16];
        let mut chunks = row.chunks_exact_mut(16);
        for c in &mut chunks {
            for (a, v) in acc.iter_mut().zip(c) {
                *v = exp((*v - max) * scale);
                *a += *v;
            }
        }
        let mut sum: f32 = acc.iter().sum();
        for v in chunks.into_remainder() {
            *v = exp((*v - max) * scale);
            sum += *v;
        }
        let r = 1.0 / sum;
        row.iter_mut().for_each(|v| *v *= r);
    }
}

multiversion! {
    /// The softmax's backward: dp becomes (dp - sum(dp * p)) * p * scale.
    pub(crate) fn softmax_backward(p: &[f32], dp: &mut [f32], scale: f32) {
        let mut acc = [0f32; 16];
        let n = p.len() / 16 * 16;
        for (p, d) in p[..n].chunks_exact(16).zip(dp[..n].chunks_exact(16)) {
            for l in 0..16 {
                acc[l] += p[l] * d[l];
            }
        }
        let mut dot: f32 = acc.iter().sum();
        for i in n..p.len() {
            dot += p[i] * dp[i];
        }
        for (d, p) in dp.iter_mut().zip(p) {
            *d = (*d - dot) * p * scale;
        }
    }
}

struct Op {
    scale: f32,
}

impl CustomOp1 for Op {
    fn name(&self) -> &'static str {
        "softmax"
    }

    fn cpu_fwd(&self, s: &CpuStorage, l: &Layout) -> Result<(CpuStorage, Shape)> {
        let x = cpu_slice(self.name(), s, l)?;
        let mut y = scratch(x.len());
        let len = l.dims().last().copied().unwrap_or(1);
        y.par_chunks_mut(len)
            .zip(x.par_chunks(len))
            .with_min_len(ROWS)
            .for_each(|(row, x)| {
                row.copy_from_slice(x);
                softmax_row(row, self.scale);
            });
        Ok((CpuStorage::F32(y), l.shape().clone()))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        s: &candle_core::CudaStorage,
        l: &Layout,
    ) -> Result<(candle_core::CudaStorage, Shape)> {
        let len = l.dims().last().copied().unwrap_or(1);
        crate::cuda::softmax(l.shape(), len, self.scale).run(&[(s, l)])
    }

    fn bwd(&self, _: &Tensor, y: &Tensor, dy: &Tensor) -> Result<Option<Tensor>> {
        let len = y.dim(D::Minus1)?;
        let dy = dy.contiguous()?;
        #[cfg(feature = "cuda")]
        if y.device().is_cuda() {
            return crate::cuda::softmax_gradient(y, &dy, len, self.scale).map(Some);
        }
        let dx = with_slice(y, |y| {
            with_slice(&dy, |dy| {
                let mut dx = scratch(dy.len());
                dx.par_chunks_mut(len)
                    .zip(y.par_chunks(len).zip(dy.par_chunks(len)))
                    .with_min_len(ROWS)
                    .for_each(|(dx, (y, dy))| {
                        dx.copy_from_slice(dy);
                        softmax_backward(y, dx, self.scale);
                    });
                Ok(dx)
            })
        })?;
        Tensor::from_vec(dx, y.shape(), y.device()).map(Some)
    }
}
