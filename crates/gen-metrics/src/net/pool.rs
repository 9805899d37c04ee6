//! 3 x 3 pooling.

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

/// What a window becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pool {
    /// Its maximum.
    Max,
    /// The mean of those of its pixels that lie within the picture (PyTorch's `count_include_pad=False`).
    Mean,
}

impl Pool {
    /// (N, C, H, W) to (N, C, (H + 2 p - 3) / s + 1, ...) over windows of 3 x 3; pixels outside do not count.
    pub(super) fn of3(self, x: &Tensor, stride: usize, padding: usize) -> Result<Tensor> {
        let (_, _, h, w) = x.dims4()?;
        if h.min(w) + 2 * padding < 3 {
            bail!("pool: {:?} is smaller than the 3 x 3 window", x.shape())
        }
        let op = Op {
            pool: self,
            stride,
            padding,
        };
        if x.device().is_cpu() {
            return x.contiguous()?.apply_op1_no_bwd(&op);
        }
        op.reference(x)
    }
}

struct Op {
    pool: Pool,
    stride: usize,
    padding: usize,
}

impl Op {
    /// candle's operators.
    fn reference(&self, x: &Tensor) -> Result<Tensor> {
        let padded = |x: &Tensor| {
            x.pad_with_zeros(2, self.padding, self.padding)?
                .pad_with_zeros(3, self.padding, self.padding)
        };
        match self.pool {
            Pool::Max => {
                // Zeros pad a picture whose smallest value is zero as nothing would.
                let least = x.flatten_all()?.min(0)?;
                let lifted = x.broadcast_sub(&least)?;
                padded(&lifted)?
                    .max_pool2d_with_stride(3, self.stride)?
                    .broadcast_add(&least)
            }
            Pool::Mean => {
                let inside = padded(&x.ones_like()?)?.avg_pool2d_with_stride(3, self.stride)?;
                padded(x)?
                    .avg_pool2d_with_stride(3, self.stride)?
                    .div(&inside)
            }
        }
    }

    fn plane(&self, x: &[f32], w: usize, y: &mut [f32], ow: usize) {
        let h = x.len() / w;
        let range = |o: usize, size: usize| {
            let at = o * self.stride;
            at.saturating_sub(self.padding)..(at + 3).saturating_sub(self.padding).min(size)
        };
        for (oy, y) in y.chunks_exact_mut(ow).enumerate() {
            let lines = range(oy, h);
            for (ox, y) in y.iter_mut().enumerate() {
                let columns = range(ox, w);
                let count = lines.len() * columns.len();
                let window = lines.clone().flat_map(|l| &x[l * w..][columns.clone()]);
                *y = match self.pool {
                    Pool::Max => window.fold(f32::NEG_INFINITY, |m, &v| m.max(v)),
                    Pool::Mean => window.sum::<f32>() / count as f32,
                };
            }
        }
    }
}

impl CustomOp1 for Op {
    fn name(&self) -> &'static str {
        "pool3"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (CpuStorage::F32(x), Some((start, end))) = (storage, layout.contiguous_offsets())
        else {
            bail!("pool3: expected contiguous f32 values")
        };
        let (n, c, h, w) = layout.shape().dims4()?;
        let out = |size: usize| (size + 2 * self.padding - 3) / self.stride + 1;
        let (oh, ow) = (out(h), out(w));
        let mut y = vec![0f32; n * c * oh * ow];
        y.par_chunks_mut((oh * ow).max(1))
            .zip(x[start..end].par_chunks((h * w).max(1)))
            .with_min_len(8)
            .for_each(|(y, x)| self.plane(x, w, y, ow));
        Ok((CpuStorage::F32(y), (n, c, oh, ow).into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    #[test]
    fn the_kernel_is_the_reference() {
        let x: Vec<f32> = (0..2 * 3 * 7 * 8)
            .map(|i| (i as f32 * 0.73).sin() - 2.0)
            .collect();
        let x = Tensor::from_vec(x, (2, 3, 7, 8), &Device::Cpu).unwrap();
        for (pool, stride, padding) in [
            (Pool::Max, 2, 0),
            (Pool::Max, 1, 1),
            (Pool::Mean, 1, 1),
            (Pool::Mean, 2, 1),
        ] {
            let op = Op {
                pool,
                stride,
                padding,
            };
            let (a, b) = (
                pool.of3(&x, stride, padding).unwrap(),
                op.reference(&x).unwrap(),
            );
            assert_eq!(a.dims(), b.dims());
            let off = (a - b).unwrap().abs().unwrap().max_all().unwrap();
            assert!(off.to_scalar::<f32>().unwrap() < 1e-5, "{pool:?} {stride}");
        }
    }
}
