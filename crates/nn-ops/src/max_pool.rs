//! 2 x 2 maxima with PyTorch's gradient: the whole of it to the first maximum of each window.

use crate::cpu::shared::scratch;
use crate::path;
use crate::plan::trace;
use crate::scale::Pool2x;
use crate::simd::multiversion;
use crate::storage::{cpu_slice, with_slice};
use candle_core::{CpuStorage, CustomOp1, D, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

/// (N, C, H, W) to (N, C, H / 2, W / 2), maxima of 2 x 2 pixels; an odd last row or column is left out, as by
/// `torch.nn.MaxPool2d(2)`. A NaN in a window is its maximum.
///
/// # Errors
/// A rank other than 4 or a picture smaller than 2 x 2.
pub fn max_pool2x(x: &Tensor) -> Result<Tensor> {
    let (n, c, h, w) = x.dims4()?;
    if h < 2 || w < 2 {
        bail!(
            "max_pool2x: {:?} is smaller than the 2 x 2 window",
            x.shape()
        )
    }
    trace::step(
        &[x],
        || Some(trace::Op::Pool(Pool2x::Max)),
        || evaluate(x, n, c, h, w),
    )
}

fn evaluate(x: &Tensor, n: usize, c: usize, h: usize, w: usize) -> Result<Tensor> {
    if path::kernels(x) {
        return x.contiguous()?.apply_op1(Op);
    }
    let (h, w) = (h / 2, w / 2);
    // (N, C, H / 2, W / 2, 4): one window per row. Not candle's max_pool2d, whose gradient is 4 times too small.
    let windows = x
        .narrow(2, 0, 2 * h)?
        .narrow(3, 0, 2 * w)?
        .reshape(&[n, c, h, 2, w, 2][..])?
        .permute([0, 1, 2, 4, 3, 5])?
        .reshape((n, c, h, w, 4))?;
    let first = windows.argmax_keepdim(D::Minus1)?;
    windows.gather(&first, D::Minus1)?.squeeze(4)
}

/// The first maximum among the four of a window, and which it is.
#[inline(always)]
fn first_max(v: [f32; 4]) -> (f32, u32) {
    let (mut most, mut first) = (v[0], 0);
    for (i, v) in (1..).zip(&v[1..]) {
        let (value, index) = (*v, i);
        let wins = value > most || value.is_nan();
        most = if wins { value } else { most };
        first = if wins { index } else { first };
    }
    (most, first)
}

/// The windows of a pair of rows.
#[inline(always)]
fn windows<'a>(upper: &'a [f32], lower: &'a [f32]) -> impl Iterator<Item = [f32; 4]> + 'a {
    upper
        .chunks_exact(2)
        .zip(lower.chunks_exact(2))
        .map(|(a, b)| [a[0], a[1], b[0], b[1]])
}

multiversion! {
    /// Maxima of a pair of rows.
    fn row_maxima(upper: &[f32], lower: &[f32], y: &mut [f32]) {
        for (y, v) in y.iter_mut().zip(windows(upper, lower)) {
            *y = first_max(v).0;
        }
    }
}

multiversion! {
    /// The gradient of a pair of rows; an odd last column has none.
    fn row_gradient(upper: &[f32], lower: &[f32], dy: &[f32], above: &mut [f32], below: &mut [f32]) {
        let pairs = above.chunks_exact_mut(2).zip(below.chunks_exact_mut(2));
        for ((above, below), (v, dy)) in pairs.zip(windows(upper, lower).zip(dy)) {
            let first = first_max(v).1;
            let part = |k: u32| if k == first { *dy } else { 0.0 };
            above.copy_from_slice(&[part(0), part(1)]);
            below.copy_from_slice(&[part(2), part(3)]);
        }
        above[2 * dy.len()..].fill(0.0);
        below[2 * dy.len()..].fill(0.0);
    }
}

struct Op;

impl CustomOp1 for Op {
    fn name(&self) -> &'static str {
        "max_pool2x"
    }

    fn cpu_fwd(&self, s: &CpuStorage, l: &Layout) -> Result<(CpuStorage, Shape)> {
        let x = cpu_slice(self.name(), s, l)?;
        let (n, c, h, w) = l.shape().dims4()?;
        let (oh, ow) = (h / 2, w / 2);
        let mut y = scratch(n * c * oh * ow);
        y.par_chunks_mut(oh * ow)
            .zip(x.par_chunks(h * w))
            .with_min_len(8)
            .for_each(|(y, x)| {
                for (y, rows) in y.chunks_exact_mut(ow).zip(x.chunks_exact(2 * w)) {
                    let (upper, lower) = rows.split_at(w);
                    row_maxima(upper, lower, y);
                }
            });
        Ok((CpuStorage::F32(y), (n, c, oh, ow).into()))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        s: &candle_core::CudaStorage,
        l: &Layout,
    ) -> Result<(candle_core::CudaStorage, Shape)> {
        let (n, c, h, w) = l.shape().dims4()?;
        crate::cuda::planes::max(&(n, c, h / 2, w / 2).into(), h, w).run(&[(s, l)])
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, dy: &Tensor) -> Result<Option<Tensor>> {
        let (_, _, h, w) = x.dims4()?;
        let (oh, ow) = (h / 2, w / 2);
        let dy = dy.contiguous()?;
        #[cfg(feature = "cuda")]
        if x.device().is_cuda() {
            let call = crate::cuda::planes::max_gradient(x.shape(), h, w);
            return call.of(&[x, &dy]).map(Some);
        }
        let dx = with_slice(x, |x| {
            with_slice(&dy, |dy| {
                let mut dx = scratch(x.len());
                dx.par_chunks_mut(h * w)
                    .zip(x.par_chunks(h * w).zip(dy.par_chunks(oh * ow)))
                    .with_min_len(8)
                    .for_each(|(dx, (x, dy))| {
                        let (pairs, odd) = dx.split_at_mut(2 * oh * w);
                        odd.fill(0.0);
                        let rows = pairs.chunks_exact_mut(2 * w).zip(x.chunks_exact(2 * w));
                        for ((dx, x), dy) in rows.zip(dy.chunks_exact(ow)) {
                            let (upper, lower) = x.split_at(w);
                            let (above, below) = dx.split_at_mut(w);
                            row_gradient(upper, lower, dy, above, below);
                        }
                    });
                Ok(dx)
            })
        })?;
        Tensor::from_vec(dx, x.shape(), x.device()).map(Some)
    }
}
