//! Doubling and halving of pictures: nearest neighbour x2 and 2 x 2 means, each the other's transpose up to a factor.

use crate::cpu::shared::scratch;
use crate::path;
use crate::plan::trace;
use crate::scale::{Pool2x, Upsample2x};
use crate::storage::{cpu_slice, with_slice};
use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

/// (N, C, H, W) to (N, C, 2 H, 2 W), every pixel repeated.
///
/// # Errors
/// A rank other than 4.
pub fn upsample_nearest2x(x: &Tensor) -> Result<Tensor> {
    let (n, c, h, w) = x.dims4()?;
    let op = || Some(trace::Op::Upsample(Upsample2x::Nearest));
    trace::step(&[x], op, || repeated(x, n, c, h, w))
}

fn repeated(x: &Tensor, n: usize, c: usize, h: usize, w: usize) -> Result<Tensor> {
    if fast(x) {
        return x.contiguous()?.apply_op1(Op::Repeat);
    }
    // Not candle's upsample_nearest2d, whose backward overwrites gradients that are already there.
    x.reshape((n, c, h, 1, w, 1))?
        .broadcast_as((n, c, h, 2, w, 2))?
        .reshape((n, c, 2 * h, 2 * w))
}

/// (N, C, H, W) to (N, C, H / 2, W / 2), means of 2 x 2 pixels; H and W even.
///
/// # Errors
/// A rank other than 4 or an odd size.
pub fn avg_pool2x(x: &Tensor) -> Result<Tensor> {
    let (n, c, h, w) = x.dims4()?;
    if h % 2 != 0 || w % 2 != 0 {
        bail!("avg_pool2x: {:?} needs an even height and width", x.shape())
    }
    trace::step(
        &[x],
        || Some(trace::Op::Pool(Pool2x::Mean)),
        || {
            if fast(x) {
                return x.contiguous()?.apply_op1(Op::Mean);
            }
            x.reshape((n, c, h / 2, 2, w / 2, 2))?.mean(5)?.mean(3)
        },
    )
}

fn fast(x: &Tensor) -> bool {
    path::kernels(x)
}

/// Every pixel of planes (h, w) becomes 2 x 2 pixels of `factor` times its value.
fn repeat(x: &[f32], h: usize, w: usize, factor: f32) -> Vec<f32> {
    let mut y = scratch(x.len() * 4);
    y.par_chunks_mut((4 * h * w).max(1))
        .zip(x.par_chunks((h * w).max(1)))
        .with_min_len(8)
        .for_each(|(y, x)| {
            for (lines, x) in y.chunks_exact_mut(4 * w).zip(x.chunks_exact(w)) {
                let (first, second) = lines.split_at_mut(2 * w);
                for (y, x) in first.chunks_exact_mut(2).zip(x) {
                    y.fill(x * factor);
                }
                second.copy_from_slice(first);
            }
        });
    y
}

/// Sums of 2 x 2 pixels of planes (2 h, 2 w), times `factor`.
fn gather(x: &[f32], h: usize, w: usize, factor: f32) -> Vec<f32> {
    let mut y = scratch(x.len() / 4);
    y.par_chunks_mut((h * w).max(1))
        .zip(x.par_chunks((4 * h * w).max(1)))
        .with_min_len(8)
        .for_each(|(y, x)| {
            for (y, lines) in y.chunks_exact_mut(w).zip(x.chunks_exact(4 * w)) {
                let (a, b) = lines.split_at(2 * w);
                for ((y, a), b) in y.iter_mut().zip(a.chunks_exact(2)).zip(b.chunks_exact(2)) {
                    *y = ((a[0] + a[1]) + (b[0] + b[1])) * factor;
                }
            }
        });
    y
}

enum Op {
    Repeat,
    Mean,
}

impl CustomOp1 for Op {
    fn name(&self) -> &'static str {
        match self {
            Op::Repeat => "upsample_nearest2x",
            Op::Mean => "avg_pool2x",
        }
    }

    fn cpu_fwd(&self, s: &CpuStorage, l: &Layout) -> Result<(CpuStorage, Shape)> {
        let x = cpu_slice(self.name(), s, l)?;
        let (n, c, h, w) = l.shape().dims4()?;
        Ok(match self {
            Op::Repeat => (
                CpuStorage::F32(repeat(x, h, w, 1.0)),
                (n, c, 2 * h, 2 * w).into(),
            ),
            Op::Mean => (
                CpuStorage::F32(gather(x, h / 2, w / 2, 0.25)),
                (n, c, h / 2, w / 2).into(),
            ),
        })
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        s: &candle_core::CudaStorage,
        l: &Layout,
    ) -> Result<(candle_core::CudaStorage, Shape)> {
        use crate::cuda::planes;
        let (n, c, h, w) = l.shape().dims4()?;
        let call = match self {
            Op::Repeat => planes::repeat(&(n, c, 2 * h, 2 * w).into(), h, w, 1.0),
            Op::Mean => planes::gather(&(n, c, h / 2, w / 2).into(), h / 2, w / 2, 0.25),
        };
        call.run(&[(s, l)])
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, dy: &Tensor) -> Result<Option<Tensor>> {
        let (_, _, h, w) = x.dims4()?;
        let dy = dy.contiguous()?;
        #[cfg(feature = "cuda")]
        if x.device().is_cuda() {
            use crate::cuda::planes;
            let call = match self {
                Op::Repeat => planes::gather(x.shape(), h, w, 1.0),
                Op::Mean => planes::repeat(x.shape(), h / 2, w / 2, 0.25),
            };
            return call.of(&[&dy]).map(Some);
        }
        let dx = with_slice(&dy, |dy| {
            Ok(match self {
                Op::Repeat => gather(dy, h, w, 1.0),
                Op::Mean => repeat(dy, h / 2, w / 2, 0.25),
            })
        })?;
        Tensor::from_vec(dx, x.shape(), x.device()).map(Some)
    }
}
