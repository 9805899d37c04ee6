//! Bilinear doubling of pictures, with the gradient candle's operator lacks.

use crate::cpu::shared::scratch;
use crate::path;
use crate::plan::trace;
use crate::scale::Upsample2x;
use crate::simd::multiversion;
use crate::storage::{cpu_slice, with_slice};
use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

/// (N, C, H, W) to (N, C, 2 H, 2 W) by linear interpolation along both axes, as `torch.nn.functional.interpolate` with
/// `scale_factor=2, mode="bilinear", align_corners=False`.
///
/// New pixels lie a quarter of a pixel beside the old ones: 3/4 of the nearest and 1/4 of the next, the outermost repeated
/// beyond the edge.
///
/// # Errors
/// A rank other than 4 or an empty picture.
pub fn upsample_bilinear2x(x: &Tensor) -> Result<Tensor> {
    let (_, _, h, w) = x.dims4()?;
    if h == 0 || w == 0 {
        bail!(
            "upsample_bilinear2x: {:?} has no pixels to interpolate",
            x.shape()
        )
    }
    let op = || Some(trace::Op::Upsample(Upsample2x::Bilinear));
    trace::step(&[x], op, || {
        if path::kernels(x) {
            return x.contiguous()?.apply_op1(Op);
        }
        double_axis(&double_axis(x, 2)?, 3)
    })
}

/// Doubles the size along `axis`.
fn double_axis(x: &Tensor, axis: usize) -> Result<Tensor> {
    let len = x.dim(axis)?;
    let (first, last) = (x.narrow(axis, 0, 1)?, x.narrow(axis, len - 1, 1)?);
    let before = Tensor::cat(&[&first, &x.narrow(axis, 0, len - 1)?], axis)?;
    let after = Tensor::cat(&[&x.narrow(axis, 1, len - 1)?, &last], axis)?;
    let near = (x * 0.75)?;
    let pair = [(&near + (before * 0.25)?)?, (&near + (after * 0.25)?)?];
    let mut dims = x.dims().to_vec();
    dims[axis] *= 2;
    Tensor::stack(&pair, axis + 1)?.reshape(dims)
}

multiversion! {
    /// y = 3/4 near + 1/4 far.
    fn blend(near: &[f32], far: &[f32], y: &mut [f32]) {
        for ((y, a), b) in y.iter_mut().zip(near).zip(far) {
            *y = 0.75 * a + 0.25 * b;
        }
    }
}

/// A plane (h, w) to (2 h, 2 w); `line` holds w floats.
fn forward(x: &[f32], h: usize, w: usize, line: &mut [f32], y: &mut [f32]) {
    let row = |i: usize| &x[i * w..(i + 1) * w];
    for (o, y) in y.chunks_exact_mut(2 * w).enumerate() {
        let i = o / 2;
        let far = if o % 2 == 0 {
            i.saturating_sub(1)
        } else {
            (i + 1).min(h - 1)
        };
        blend(row(i), row(far), line);
        y[0] = line[0];
        y[2 * w - 1] = line[w - 1];
        for (pair, l) in y[1..2 * w - 1].chunks_exact_mut(2).zip(line.windows(2)) {
            pair[0] = 0.75 * l[0] + 0.25 * l[1];
            pair[1] = 0.25 * l[0] + 0.75 * l[1];
        }
    }
}

multiversion! {
    /// y = 3/4 (near[0] + near[1]) + 1/4 (far[0] + far[1]).
    fn gather(near: [&[f32]; 2], far: [&[f32]; 2], y: &mut [f32]) {
        let far = far[0].iter().zip(far[1]);
        for ((y, (a, b)), (c, d)) in y.iter_mut().zip(near[0].iter().zip(near[1])).zip(far) {
            *y = 0.75 * (a + b) + 0.25 * (c + d);
        }
    }
}

/// The transpose of [`forward`]: what each old pixel gave, it gets back. `line` holds 2 w floats.
fn backward(dy: &[f32], h: usize, w: usize, line: &mut [f32], dx: &mut [f32]) {
    let (h2, w2) = (2 * h, 2 * w);
    let row = |o: usize| &dy[o * w2..(o + 1) * w2];
    for (i, dx) in dx.chunks_exact_mut(w).enumerate() {
        let far = [row((2 * i).saturating_sub(1)), row((2 * i + 2).min(h2 - 1))];
        gather([row(2 * i), row(2 * i + 1)], far, line);
        for (j, dx) in dx.iter_mut().enumerate() {
            let (before, after) = ((2 * j).saturating_sub(1), (2 * j + 2).min(w2 - 1));
            *dx = 0.75 * (line[2 * j] + line[2 * j + 1]) + 0.25 * (line[before] + line[after]);
        }
    }
}

struct Op;

impl CustomOp1 for Op {
    fn name(&self) -> &'static str {
        "upsample_bilinear2x"
    }

    fn cpu_fwd(&self, s: &CpuStorage, l: &Layout) -> Result<(CpuStorage, Shape)> {
        let x = cpu_slice(self.name(), s, l)?;
        let (n, c, h, w) = l.shape().dims4()?;
        let mut y = scratch(4 * x.len());
        y.par_chunks_mut(4 * h * w)
            .zip(x.par_chunks(h * w))
            .with_min_len(8)
            .for_each_init(|| scratch(w), |line, (y, x)| forward(x, h, w, line, y));
        Ok((CpuStorage::F32(y), (n, c, 2 * h, 2 * w).into()))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        s: &candle_core::CudaStorage,
        l: &Layout,
    ) -> Result<(candle_core::CudaStorage, Shape)> {
        let (n, c, h, w) = l.shape().dims4()?;
        let to = Shape::from((n, c, 2 * h, 2 * w));
        crate::cuda::planes::bilinear(&to, h, w).run(&[(s, l)])
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, dy: &Tensor) -> Result<Option<Tensor>> {
        let (_, _, h, w) = x.dims4()?;
        #[cfg(feature = "cuda")]
        if x.device().is_cuda() {
            let call = crate::cuda::planes::bilinear_gradient(x.shape(), h, w);
            return call.of(&[&dy.contiguous()?]).map(Some);
        }
        let dx = with_slice(&dy.contiguous()?, |dy| {
            let mut dx = scratch(dy.len() / 4);
            dx.par_chunks_mut(h * w)
                .zip(dy.par_chunks(4 * h * w))
                .with_min_len(8)
                .for_each_init(
                    || scratch(2 * w),
                    |line, (dx, dy)| backward(dy, h, w, line, dx),
                );
            Ok(dx)
        })?;
        Tensor::from_vec(dx, x.shape(), x.device()).map(Some)
    }
}
