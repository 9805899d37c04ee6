//! Elementwise activations with one-pass gradients: SiLU and LeakyReLU.

use crate::cpu::epilogue::Act;
use crate::cpu::shared::scratch;
use crate::path;
use crate::plan::trace;
use crate::simd::{exp, multiversion};
use crate::storage::{cpu_slice, with_slice};
use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

/// Elements per parallel task.
const CHUNK: usize = 1 << 14;

/// `x * sigmoid(x)`.
///
/// # Errors
/// Only those of the device.
pub fn silu(x: &Tensor) -> Result<Tensor> {
    trace::step(
        &[x],
        || Some(trace::Op::Act(Act::Silu)),
        || {
            if path::kernels(x) {
                x.contiguous()?.apply_op1(Op::Silu)
            } else {
                x.silu()
            }
        },
    )
}

/// `x` where positive, `slope * x` elsewhere.
///
/// # Errors
/// Only those of the device.
pub fn leaky_relu(x: &Tensor, slope: f64) -> Result<Tensor> {
    let op = || Some(trace::Op::Act(Act::Leaky(slope as f32)));
    trace::step(&[x], op, || {
        if path::kernels(x) {
            x.contiguous()?.apply_op1(Op::LeakyRelu(slope as f32))
        } else {
            candle_nn::ops::leaky_relu(x, slope)
        }
    })
}

/// `1 / (1 + exp(-x))`.
///
/// # Errors
/// Only those of the device.
pub fn sigmoid(x: &Tensor) -> Result<Tensor> {
    let op = || Some(trace::Op::Act(Act::Sigmoid));
    trace::step(&[x], op, || candle_nn::ops::sigmoid(x))
}

/// The hyperbolic tangent.
///
/// # Errors
/// Only those of the device.
pub fn tanh(x: &Tensor) -> Result<Tensor> {
    trace::step(&[x], || Some(trace::Op::Act(Act::Tanh)), || x.tanh())
}

#[derive(Clone, Copy)]
enum Op {
    Silu,
    LeakyRelu(f32),
}

#[cfg(feature = "cuda")]
impl From<Op> for crate::cuda::Function {
    fn from(op: Op) -> Self {
        match op {
            Op::Silu => Self::Silu,
            Op::LeakyRelu(slope) => Self::LeakyRelu(slope),
        }
    }
}

multiversion! {
    fn value(op: Op, x: &[f32], y: &mut [f32]) {
        match op {
            Op::Silu => for (y, &x) in y.iter_mut().zip(x) { *y = x / (1.0 + exp(-x)); },
            Op::LeakyRelu(s) => for (y, &x) in y.iter_mut().zip(x) { *y = if x > 0.0 { x } else { s * x }; },
        }
    }
}

multiversion! {
    fn gradient(op: Op, x: &[f32], dy: &[f32], dx: &mut [f32]) {
        match op {
            Op::Silu => for ((dx, &x), &dy) in dx.iter_mut().zip(x).zip(dy) {
                let s = 1.0 / (1.0 + exp(-x));
                *dx = dy * (s * (1.0 + x * (1.0 - s)));
            },
            Op::LeakyRelu(k) => for ((dx, &x), &dy) in dx.iter_mut().zip(x).zip(dy) {
                *dx = if x > 0.0 { dy } else { k * dy };
            },
        }
    }
}

impl CustomOp1 for Op {
    fn name(&self) -> &'static str {
        match self {
            Op::Silu => "silu",
            Op::LeakyRelu(_) => "leaky_relu",
        }
    }

    fn cpu_fwd(&self, s: &CpuStorage, l: &Layout) -> Result<(CpuStorage, Shape)> {
        let x = cpu_slice(self.name(), s, l)?;
        let mut y = scratch(x.len());
        y.par_chunks_mut(CHUNK)
            .zip(x.par_chunks(CHUNK))
            .for_each(|(y, x)| value(*self, x, y));
        Ok((CpuStorage::F32(y), l.shape().clone()))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        s: &candle_core::CudaStorage,
        l: &Layout,
    ) -> Result<(candle_core::CudaStorage, Shape)> {
        crate::cuda::activation((*self).into(), (s, l))
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, dy: &Tensor) -> Result<Option<Tensor>> {
        let dy = dy.contiguous()?;
        #[cfg(feature = "cuda")]
        if x.device().is_cuda() {
            return crate::cuda::activation_gradient((*self).into(), x, &dy).map(Some);
        }
        let dx = with_slice(x, |x| {
            with_slice(&dy, |dy| {
                let mut dx = scratch(x.len());
                dx.par_chunks_mut(CHUNK)
                    .zip(x.par_chunks(CHUNK).zip(dy.par_chunks(CHUNK)))
                    .for_each(|(dx, (x, dy))| gradient(*self, x, dy, dx));
                Ok(dx)
            })
        })?;
        Tensor::from_vec(dx, x.shape(), x.device()).map(Some)
    }
}
