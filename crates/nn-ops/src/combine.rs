//! Two tensors into one: the sum of a residual path, a mask, and channels side by side. On the CPU both use all threads and give
//! contiguous gradients; candle's own run on one, and the gradient of its `cat` is a strided view.

use crate::cpu::shared::{SharedMut, scratch};
use crate::path;
use crate::plan::trace;
use crate::storage::{cpu_slice, with_slice};
use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

/// Elements per parallel task.
const CHUNK: usize = 1 << 14;

/// `a + b`, both of one shape.
///
/// # Errors
/// Shapes that differ.
pub fn add(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    if a.shape() != b.shape() {
        bail!("add: {:?} and {:?} differ", a.shape(), b.shape())
    }
    let op = || Some(trace::Op::Add { factor: 1.0 });
    trace::step(&[a, b], op, || {
        if fast(a) && fast(b) {
            a.contiguous()?.apply_op2(&b.contiguous()?, Op::Add)
        } else {
            a + b
        }
    })
}

/// `(a + b) * factor`, both of one shape: a residual path that keeps its variance, with `factor` 1 / sqrt 2.
///
/// # Errors
/// Shapes that differ.
pub fn add_scaled(a: &Tensor, b: &Tensor, factor: f64) -> Result<Tensor> {
    if a.shape() != b.shape() {
        bail!("add_scaled: {:?} and {:?} differ", a.shape(), b.shape())
    }
    let factor_32 = factor as f32;
    let op = || Some(trace::Op::Add { factor: factor_32 });
    trace::step(&[a, b], op, || {
        if path::kernels(a) && path::kernels(b) {
            a.contiguous()?
                .apply_op2(&b.contiguous()?, Op::AddScaled(factor_32))
        } else {
            (a + b)? * factor
        }
    })
}

/// `x * mask`, the mask a constant: it gets no gradient, and none is computed for it. It may lie elsewhere and be of another
/// type than x.
///
/// # Errors
/// Shapes that differ.
pub fn mask(x: &Tensor, mask: &Tensor) -> Result<Tensor> {
    if x.shape() != mask.shape() {
        bail!("mask: {:?} and {:?} differ", x.shape(), mask.shape())
    }
    if fast(x) && fast(mask) {
        x.contiguous()?
            .apply_op2(&mask.contiguous()?.detach(), Op::Mask)
    } else {
        let mask = mask.detach().to_device(x.device())?;
        x * mask.to_dtype(x.dtype())?
    }
}

/// (N, A, ...) and (N, B, ...) to (N, A + B, ...).
///
/// # Errors
/// Fewer than two dimensions, or others than the second that differ.
pub fn cat_channels(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    joined(a.shape(), b.shape())?;
    trace::step(
        &[a, b],
        || Some(trace::Op::Cat),
        || {
            if fast(a) && fast(b) {
                a.contiguous()?.apply_op2(&b.contiguous()?, Op::Cat)
            } else {
                Tensor::cat(&[a, b], 1)
            }
        },
    )
}

/// x (N, C, H, W) with v (N, C) added to its channels.
///
/// # Errors
/// Shapes that do not fit.
pub fn add_channels(x: &Tensor, v: &Tensor) -> Result<Tensor> {
    let (n, c, _, _) = x.dims4()?;
    if v.dims() != [n, c] {
        bail!("add_channels: {:?} does not fit {:?}", v.shape(), x.shape())
    }
    trace::step(
        &[x, v],
        || Some(trace::Op::AddChannels),
        || x.broadcast_add(&v.reshape((n, c, 1, 1))?),
    )
}

/// Every pixel of x (N, C, H, W) times that of `weight` (N, 1, H, W).
///
/// # Errors
/// Shapes that do not fit.
pub fn gate(x: &Tensor, weight: &Tensor) -> Result<Tensor> {
    let (n, _, h, w) = x.dims4()?;
    if weight.dims() != [n, 1, h, w] {
        bail!("gate: {:?} does not fit {:?}", weight.shape(), x.shape())
    }
    trace::step(
        &[x, weight],
        || Some(trace::Op::Gate),
        || x.broadcast_mul(weight),
    )
}

/// Elsewhere candle's own are single launches already.
fn fast(x: &Tensor) -> bool {
    path::cpu_kernels(x)
}

/// The shape of both side by side, and the floats per picture of each.
fn joined(a: &Shape, b: &Shape) -> Result<(Shape, usize, usize)> {
    match (a.dims(), b.dims()) {
        ([n, ca, rest @ ..], [m, cb, rest_b @ ..]) if n == m && rest == rest_b => {
            let mut dims = a.dims().to_vec();
            dims[1] = ca + cb;
            let item: usize = rest.iter().product();
            Ok((Shape::from(dims), ca * item, cb * item))
        }
        _ => bail!("cat_channels: {a:?} and {b:?} differ in more than their second dimension"),
    }
}

enum Op {
    Add,
    AddScaled(f32),
    Mask,
    Cat,
}

fn pairwise(a: &[f32], b: &[f32], f: impl Fn(f32, f32) -> f32 + Sync) -> Vec<f32> {
    let mut y = scratch(a.len());
    y.par_chunks_mut(CHUNK)
        .zip(a.par_chunks(CHUNK))
        .zip(b.par_chunks(CHUNK))
        .for_each(|((y, a), b)| {
            for ((y, a), b) in y.iter_mut().zip(a).zip(b) {
                *y = f(*a, *b);
            }
        });
    y
}

fn cat(a: &[f32], b: &[f32], len_a: usize, len_b: usize) -> Vec<f32> {
    let mut y = scratch(a.len() + b.len());
    if len_a + len_b > 0 {
        y.par_chunks_mut(len_a + len_b)
            .enumerate()
            .for_each(|(i, y)| {
                let (to_a, to_b) = y.split_at_mut(len_a);
                to_a.copy_from_slice(&a[i * len_a..][..len_a]);
                to_b.copy_from_slice(&b[i * len_b..][..len_b]);
            });
    }
    y
}

fn split(dy: &[f32], len_a: usize, len_b: usize) -> (Vec<f32>, Vec<f32>) {
    let n = dy.len().checked_div(len_a + len_b).unwrap_or(0);
    let (mut a, mut b) = (scratch(n * len_a), scratch(n * len_b));
    let (shared_a, shared_b) = (SharedMut::new(&mut a), SharedMut::new(&mut b));
    (0..n).into_par_iter().for_each(|i| {
        let (from_a, from_b) = dy[i * (len_a + len_b)..][..len_a + len_b].split_at(len_a);
        // SAFETY: each task has a picture of its own.
        let (a, b) = unsafe {
            (
                shared_a.slice(i * len_a, len_a),
                shared_b.slice(i * len_b, len_b),
            )
        };
        a.copy_from_slice(from_a);
        b.copy_from_slice(from_b);
    });
    (a, b)
}

impl CustomOp2 for Op {
    fn name(&self) -> &'static str {
        match self {
            Self::Add => "add",
            Self::AddScaled(_) => "add_scaled",
            Self::Mask => "mask",
            Self::Cat => "cat_channels",
        }
    }

    fn cpu_fwd(
        &self,
        s1: &CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (a, b) = (
            cpu_slice(self.name(), s1, l1)?,
            cpu_slice(self.name(), s2, l2)?,
        );
        Ok(match self {
            Self::Add => (
                CpuStorage::F32(pairwise(a, b, |a, b| a + b)),
                l1.shape().clone(),
            ),
            Self::AddScaled(k) => (
                CpuStorage::F32(pairwise(a, b, |a, b| (a + b) * k)),
                l1.shape().clone(),
            ),
            Self::Mask => (
                CpuStorage::F32(pairwise(a, b, |a, b| a * b)),
                l1.shape().clone(),
            ),
            Self::Cat => {
                let (shape, len_a, len_b) = joined(l1.shape(), l2.shape())?;
                (CpuStorage::F32(cat(a, b, len_a, len_b)), shape)
            }
        })
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        s1: &candle_core::CudaStorage,
        l1: &Layout,
        s2: &candle_core::CudaStorage,
        l2: &Layout,
    ) -> Result<(candle_core::CudaStorage, Shape)> {
        match self {
            Self::AddScaled(k) => crate::cuda::add_scaled((s1, l1), (s2, l2), *k),
            _ => bail!(
                "{}: has no CUDA kernel, candle's operator serves",
                self.name()
            ),
        }
    }

    fn bwd(
        &self,
        a: &Tensor,
        b: &Tensor,
        _: &Tensor,
        dy: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        match self {
            Self::Add => Ok((Some(dy.clone()), Some(dy.clone()))),
            Self::AddScaled(k) => {
                let dx = (dy * f64::from(*k))?;
                Ok((Some(dx.clone()), Some(dx)))
            }
            Self::Mask => {
                let dy = dy.contiguous()?;
                let dx = with_slice(&dy, |dy| {
                    with_slice(b, |b| Ok(pairwise(dy, b, |a, b| a * b)))
                })?;
                Ok((Some(Tensor::from_vec(dx, a.shape(), a.device())?), None))
            }
            Self::Cat => {
                let (_, len_a, len_b) = joined(a.shape(), b.shape())?;
                let dy = dy.contiguous()?;
                let (da, db) = with_slice(&dy, |dy| Ok(split(dy, len_a, len_b)))?;
                Ok((
                    Some(Tensor::from_vec(da, a.shape(), a.device())?),
                    Some(Tensor::from_vec(db, b.shape(), b.device())?),
                ))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{Device, Var};

    #[test]
    fn values_and_gradients_are_those_of_candle() -> Result<()> {
        let wave = |shape: &[usize], seed: f32| {
            let data =
                (0..shape.iter().product::<usize>()).map(|i| ((i as f32 + seed) * 0.7).sin());
            Tensor::from_vec(data.collect(), shape, &Device::Cpu)
        };
        let (a, b) = (
            Var::from_tensor(&wave(&[3, 2, 5, 3], 0.0)?)?,
            Var::from_tensor(&wave(&[3, 4, 5, 3], 0.5)?)?,
        );
        let c = Var::from_tensor(&wave(&[3, 2, 5, 3], 0.9)?)?;
        let flat = |t: &Tensor| t.flatten_all()?.to_vec1::<f32>();
        for (ours, theirs, vars) in [
            (add(&a, &c)?, (a.as_tensor() + c.as_tensor())?, [&a, &c]),
            (
                add_scaled(&a, &c, 0.5)?,
                ((a.as_tensor() + c.as_tensor())? * 0.5)?,
                [&a, &c],
            ),
            (
                cat_channels(&a, &b)?,
                Tensor::cat(&[a.as_tensor(), b.as_tensor()], 1)?,
                [&a, &b],
            ),
        ] {
            assert_eq!(flat(&ours)?, flat(&theirs)?);
            assert_eq!(ours.shape(), theirs.shape());
            let weight = wave(ours.dims(), 0.2)?;
            let (g, h) = (
                (&ours * &weight)?.backward()?,
                (&theirs * &weight)?.backward()?,
            );
            for v in vars {
                assert_eq!(flat(g.get(v).unwrap())?, flat(h.get(v).unwrap())?);
            }
        }
        let (ours, theirs) = (mask(&a, &c)?, (a.as_tensor() * c.as_tensor())?);
        assert_eq!(flat(&ours)?, flat(&theirs)?);
        let (g, h) = (ours.backward()?, theirs.backward()?);
        assert_eq!(flat(g.get(&a).unwrap())?, flat(h.get(&a).unwrap())?);
        assert!(g.get(&c).is_none() && mask(&a, &b).is_err());
        assert!(add_scaled(&a, &b, 0.5).is_err());
        assert!(add(&a, &b).is_err() && cat_channels(&a, &b.narrow(0, 0, 2)?).is_err());
        Ok(())
    }
}
