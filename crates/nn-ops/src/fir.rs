//! Resampling by a separable FIR filter, every channel by itself: zeros between the pixels, padding, filter, every n-th
//! pixel (`upfirdn2d` of Karras et al. 2020, "Analyzing and Improving the Image Quality of StyleGAN", arXiv 1912.04958).

use crate::cpu::shared::scratch;
use crate::path;
use crate::plan::opaque;
use crate::simd::multiversion;
use crate::storage::{cpu_slice, with_slice};
use candle_core::{CpuStorage, CustomOp1, Device, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

/// (N, C, H, W) to (N, C, H', W') with H' = (`up` H + `pad[0]` + `pad[1]` - K) / `down` + 1, likewise W'.
///
/// Along each axis `up` - 1 zeros follow every pixel, then come `pad` zeros before and after (fewer than none crop), the
/// convolution with the K `taps` (the last tap meets the first pixel, as in signal processing) and every `down`-th
/// value is kept. The filter of the picture is the outer product of `taps` with itself.
///
/// # Errors
/// A rank other than 4, no taps, `up` or `down` 0, a filter longer than what it is given, or a result too large to hold.
pub fn upfirdn2d(
    x: &Tensor,
    taps: &[f64],
    up: usize,
    down: usize,
    pad: [isize; 2],
) -> Result<Tensor> {
    let taps = taps.to_vec();
    opaque(&[x], move |x| evaluate(&x[0], &taps, up, down, pad))
}

fn evaluate(x: &Tensor, taps: &[f64], up: usize, down: usize, pad: [isize; 2]) -> Result<Tensor> {
    let (n, c, h, w) = x.dims4()?;
    let plan = Plan {
        taps: taps.iter().rev().copied().collect(),
        up,
        down,
        before: pad[0],
    };
    let (Some(oh), Some(ow)) = (plan.outputs(h, pad[1]), plan.outputs(w, pad[1])) else {
        bail!(
            "upfirdn2d: {:?} cannot be filtered by {} taps with up {up}, down {down} and padding {pad:?}",
            x.shape(),
            taps.len()
        )
    };
    let held = [n, c, oh.max(h), ow.max(w), size_of::<f64>()];
    let held = held.into_iter().try_fold(1usize, usize::checked_mul);
    if held.is_none_or(|bytes| bytes > isize::MAX as usize) {
        bail!(
            "upfirdn2d: {:?} would become {oh} x {ow} pictures, beyond any memory",
            x.shape()
        )
    }
    if !plan.serves(x) {
        return plan.reference(x, oh, ow);
    }
    x.contiguous()?.apply_op1(Op { plan, oh, ow })
}

/// Doubles a picture: each new pixel is a mean of old ones weighted by `taps`, whose sum becomes 1. Two equal taps repeat
/// every pixel; \[1, 3, 3, 1\] is the choice of NCSN++ (Song et al. 2021, arXiv 2011.13456).
///
/// # Errors
/// As [`upfirdn2d`], or taps whose sum is 0.
pub fn upsample_fir2x(x: &Tensor, taps: &[f64]) -> Result<Tensor> {
    let p = taps.len() as isize - 2;
    let pad = [(p + 1).div_euclid(2) + 1, p.div_euclid(2)];
    upfirdn2d(x, &with_sum(taps, 2.0)?, 2, 1, pad)
}

/// Halves a picture: as [`upsample_fir2x`]. Two equal taps are means of 2 x 2 pixels.
///
/// # Errors
/// As [`upfirdn2d`], or taps whose sum is 0.
pub fn downsample_fir2x(x: &Tensor, taps: &[f64]) -> Result<Tensor> {
    let p = taps.len() as isize - 2;
    let pad = [(p + 1).div_euclid(2), p.div_euclid(2)];
    upfirdn2d(x, &with_sum(taps, 1.0)?, 1, 2, pad)
}

/// `taps` times what makes their sum `gain`.
///
/// # Errors
/// Taps whose sum is 0 or not finite.
pub fn with_sum(taps: &[f64], gain: f64) -> Result<Vec<f64>> {
    let sum: f64 = taps.iter().sum();
    if !sum.is_finite() || sum == 0.0 {
        bail!("FIR resampling: the taps {taps:?} need a sum other than 0")
    }
    Ok(taps.iter().map(|t| t * (gain / sum)).collect())
}

/// What happens along one axis: output o is the sum over t of taps\[t\] u\[o down + t - before\], u the input with
/// `up` - 1 zeros after every value, and zero outside.
#[derive(Debug, Clone)]
struct Plan {
    taps: Vec<f64>,
    up: usize,
    down: usize,
    before: isize,
}

impl Plan {
    /// How many outputs `len` inputs give with `after` zeros behind them.
    fn outputs(&self, len: usize, after: isize) -> Option<usize> {
        let line = isize::try_from(len.checked_mul(self.up)?).ok()?;
        let line = line.checked_add(self.before)?.checked_add(after)?;
        let rest = usize::try_from(line.checked_sub_unsigned(self.taps.len())?).ok()?;
        // Far below where sums of these would wrap.
        let small = |n: isize| n.unsigned_abs() < isize::MAX as usize / 8;
        let valid = self.up > 0 && self.down > 0 && !self.taps.is_empty() && len > 0;
        let valid = valid && small(self.before) && small(after) && rest < isize::MAX as usize / 8;
        valid.then(|| rest / self.down + 1)
    }

    /// Whether a kernel does it where `x` lies.
    fn serves(&self, x: &Tensor) -> bool {
        #[cfg(feature = "cuda")]
        if self.taps.len() > crate::cuda::Fir::MOST {
            return path::cpu_kernels(x);
        }
        path::kernels(x)
    }

    #[cfg(feature = "cuda")]
    fn call(&self, to: &Shape, from: (usize, usize), out: (usize, usize)) -> crate::cuda::Call {
        let fir = crate::cuda::Fir {
            taps: &self.taps,
            up: self.up,
            down: self.down,
            before: self.before,
        };
        fir.call(to, from, out)
    }

    /// The transposed map: from gradients of the outputs to those of the inputs.
    fn transposed(&self) -> Self {
        Self {
            taps: self.taps.iter().rev().copied().collect(),
            up: self.down,
            down: self.up,
            before: self.taps.len() as isize - 1 - self.before,
        }
    }

    /// The input, of `len`, that tap `t` of output `o` meets.
    fn input(&self, o: usize, t: usize, len: usize) -> Option<usize> {
        let at = usize::try_from((o * self.down + t) as isize - self.before).ok()?;
        (at.is_multiple_of(self.up) && at / self.up < len).then(|| at / self.up)
    }

    /// The map as a matrix (inputs, outputs).
    fn matrix(&self, inputs: usize, outputs: usize, like: &Tensor) -> Result<Tensor> {
        let mut data = vec![0f64; inputs * outputs];
        for o in 0..outputs {
            for (t, tap) in self.taps.iter().enumerate() {
                if let Some(i) = self.input(o, t, inputs) {
                    data[i * outputs + o] += tap;
                }
            }
        }
        // Rounded before it moves: Metal has no f64.
        Tensor::from_vec(data, (inputs, outputs), &Device::Cpu)?
            .to_dtype(like.dtype())?
            .to_device(like.device())
    }

    fn reference(&self, x: &Tensor, oh: usize, ow: usize) -> Result<Tensor> {
        let (n, c, h, w) = x.dims4()?;
        // Rows: (N C H, W) to (N C H, W'), then columns: (N C W', H) to (N C W', H').
        let x = x.contiguous()?.reshape((n * c * h, w))?;
        let x = x
            .matmul(&self.matrix(w, ow, &x)?)?
            .reshape((n * c, h, ow))?;
        let x = x.transpose(1, 2)?.contiguous()?.reshape((n * c * ow, h))?;
        let x = x
            .matmul(&self.matrix(h, oh, &x)?)?
            .reshape((n * c, ow, oh))?;
        x.transpose(1, 2)?.contiguous()?.reshape((n, c, oh, ow))
    }

    /// All planes (h, w) of `x` to planes (oh, ow).
    fn planes(&self, x: &[f32], (h, w): (usize, usize), (oh, ow): (usize, usize)) -> Vec<f32> {
        let taps: Vec<f32> = self.taps.iter().map(|&t| t as f32).collect();
        let reach = ow.saturating_sub(1) * self.down + taps.len();
        let mut y = scratch(x.len() / (h * w).max(1) * oh * ow);
        y.par_chunks_mut((oh * ow).max(1))
            .zip(x.par_chunks((h * w).max(1)))
            .with_min_len(4)
            .for_each_init(
                || (vec![0f32; w], vec![0f32; reach]),
                |(row, line), (y, x)| {
                    for (o, y) in y.chunks_exact_mut(ow).enumerate() {
                        row.fill(0.0);
                        for (t, &tap) in taps.iter().enumerate() {
                            if let Some(i) = self.input(o, t, h) {
                                accumulate(tap, &x[i * w..(i + 1) * w], row);
                            }
                        }
                        // The places between and around the pixels stay zero.
                        for (j, &v) in row.iter().enumerate() {
                            let at = (j * self.up) as isize + self.before;
                            if let Some(place) =
                                usize::try_from(at).ok().and_then(|at| line.get_mut(at))
                            {
                                *place = v;
                            }
                        }
                        correlate(line, &taps, self.down, y);
                    }
                },
            );
        y
    }
}

multiversion! {
    /// y += a x.
    fn accumulate(a: f32, x: &[f32], y: &mut [f32]) {
        for (y, x) in y.iter_mut().zip(x) {
            *y += a * x;
        }
    }
}

multiversion! {
    /// y[o] = sum over t of taps[t] line[o * step + t].
    fn correlate(line: &[f32], taps: &[f32], step: usize, y: &mut [f32]) {
        y.fill(0.0);
        for (t, &tap) in taps.iter().enumerate() {
            match step {
                1 => for (y, x) in y.iter_mut().zip(&line[t..]) { *y += tap * x; },
                2 => for (y, x) in y.iter_mut().zip(line[t..].iter().step_by(2)) { *y += tap * x; },
                _ => for (y, x) in y.iter_mut().zip(line[t..].iter().step_by(step)) { *y += tap * x; },
            }
        }
    }
}

struct Op {
    plan: Plan,
    oh: usize,
    ow: usize,
}

impl CustomOp1 for Op {
    fn name(&self) -> &'static str {
        "upfirdn2d"
    }

    fn cpu_fwd(&self, s: &CpuStorage, l: &Layout) -> Result<(CpuStorage, Shape)> {
        let x = cpu_slice(self.name(), s, l)?;
        let (n, c, h, w) = l.shape().dims4()?;
        let y = self.plan.planes(x, (h, w), (self.oh, self.ow));
        Ok((CpuStorage::F32(y), (n, c, self.oh, self.ow).into()))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        s: &candle_core::CudaStorage,
        l: &Layout,
    ) -> Result<(candle_core::CudaStorage, Shape)> {
        let (n, c, h, w) = l.shape().dims4()?;
        let to = Shape::from((n, c, self.oh, self.ow));
        self.plan
            .call(&to, (h, w), (self.oh, self.ow))
            .run(&[(s, l)])
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, dy: &Tensor) -> Result<Option<Tensor>> {
        let (_, _, h, w) = x.dims4()?;
        let transposed = self.plan.transposed();
        #[cfg(feature = "cuda")]
        if x.device().is_cuda() {
            let call = transposed.call(x.shape(), (self.oh, self.ow), (h, w));
            return call.of(&[&dy.contiguous()?]).map(Some);
        }
        let dx = with_slice(&dy.contiguous()?, |dy| {
            Ok(transposed.planes(dy, (self.oh, self.ow), (h, w)))
        })?;
        Tensor::from_vec(dx, x.shape(), x.device()).map(Some)
    }
}
