//! Multi-head self-attention in one operator: nothing of size (L, L) is kept between forward and backward.

use crate::cpu::gemm::{Mat, matmul};
use crate::cpu::shared::scratch;
use crate::path;
use crate::plan::opaque;
use crate::softmax::{scaled_softmax, softmax_backward, softmax_row};
use crate::storage::{cpu_slice, with_slice};
use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

/// `softmax(q^T k / sqrt(d)) v` for every head: qkv (N, 3 C, L) to (N, C, L), L positions, C / heads = d channels each.
///
/// Channels lie head by head, in each head q, k and v of d channels (the order of improved-diffusion's QKVAttention).
///
/// # Errors
/// A channel count not divisible by 3 * heads, or a wrong rank.
pub fn self_attention(qkv: &Tensor, heads: usize) -> Result<Tensor> {
    let geo = Geo::new(qkv.shape(), heads)?;
    if !path::cpu_kernels(qkv) {
        return reference(qkv, &geo);
    }
    qkv.contiguous()?.apply_op1(Op { heads })
}

/// [`self_attention`] over all pixels: qkv (N, 3 C, H, W) to (N, C, H, W).
///
/// # Errors
/// As [`self_attention`].
pub fn pixel_attention(qkv: &Tensor, heads: usize) -> Result<Tensor> {
    opaque(&[qkv], move |x| {
        let (n, c3, h, w) = x[0].dims4()?;
        self_attention(&x[0].reshape((n, c3, h * w))?, heads)?.reshape((n, c3 / 3, h, w))
    })
}

fn reference(qkv: &Tensor, g: &Geo) -> Result<Tensor> {
    let parts = qkv.reshape((g.n * g.heads, 3, g.d, g.len))?;
    // Each (N * heads, d, L).
    let part = |i| parts.narrow(1, i, 1)?.squeeze(1)?.contiguous();
    let (q, k, v) = (part(0)?, part(1)?, part(2)?);
    let scores = turned(&q)?.matmul(&k)?;
    let p = scaled_softmax(&scores, g.scale())?;
    // v (d, L) times p^T (L, L).
    let out = v.matmul(&turned(&p)?)?;
    out.reshape((g.n, g.heads * g.d, g.len))
}

/// The transpose of each matrix; CUDA's products read it where it lies.
fn turned(x: &Tensor) -> Result<Tensor> {
    let x = x.transpose(1, 2)?;
    if path::cuda_kernels(&x) {
        return Ok(x);
    }
    x.contiguous()
}

struct Geo {
    n: usize,
    heads: usize,
    d: usize,
    len: usize,
}

impl Geo {
    fn new(qkv: &Shape, heads: usize) -> Result<Self> {
        let [n, c3, len] = qkv.dims() else {
            bail!("self_attention: expected qkv (N, 3 C, L), got {qkv:?}")
        };
        if heads == 0 || c3 % (3 * heads) != 0 {
            bail!("self_attention: {c3} channels of {qkv:?} cannot be q, k and v of {heads} heads")
        }
        Ok(Self {
            n: *n,
            heads,
            d: c3 / 3 / heads,
            len: *len,
        })
    }

    fn scale(&self) -> f64 {
        1.0 / (self.d as f64).sqrt()
    }

    /// Rows = softmax(scale * q^T k): one row of L per query.
    fn probabilities(&self, qkv: &[f32], p: &mut [f32]) {
        let (d, l) = (self.d, self.len);
        let q = Mat::rows(&qkv[..d * l], l);
        let k = Mat::rows(&qkv[d * l..2 * d * l], l);
        matmul(p, l, l, d, q.t(), k, false);
        for row in p[..l * l].chunks_exact_mut(l) {
            softmax_row(row, self.scale() as f32);
        }
    }
}

struct Op {
    heads: usize,
}

impl CustomOp1 for Op {
    fn name(&self) -> &'static str {
        "self_attention"
    }

    fn cpu_fwd(&self, s: &CpuStorage, l: &Layout) -> Result<(CpuStorage, Shape)> {
        let g = Geo::new(l.shape(), self.heads)?;
        let (d, len) = (g.d, g.len);
        let mut out = scratch(g.n * g.heads * d * len);
        out.par_chunks_mut((d * len).max(1))
            .zip(cpu_slice("self_attention", s, l)?.par_chunks((3 * d * len).max(1)))
            .for_each_init(
                || scratch(len * len),
                |p, (out, qkv)| {
                    g.probabilities(qkv, p);
                    let v = Mat::rows(&qkv[2 * d * len..], len);
                    matmul(out, d, len, len, v, Mat::rows(p, len).t(), false);
                },
            );
        Ok((CpuStorage::F32(out), (g.n, g.heads * d, len).into()))
    }

    fn bwd(&self, qkv: &Tensor, _: &Tensor, dy: &Tensor) -> Result<Option<Tensor>> {
        let g = Geo::new(qkv.shape(), self.heads)?;
        let dy = dy.contiguous()?;
        let grad = with_slice(qkv, |qkv| with_slice(&dy, |dy| Ok(gradient(&g, qkv, dy))))?;
        Tensor::from_vec(grad, qkv.shape(), qkv.device()).map(Some)
    }
}

fn gradient(g: &Geo, qkv: &[f32], dy: &[f32]) -> Vec<f32> {
    let (d, l) = (g.d, g.len);
    let mut grad = scratch(qkv.len());
    grad.par_chunks_mut((3 * d * l).max(1))
        .zip(qkv.par_chunks((3 * d * l).max(1)))
        .zip(dy.par_chunks((d * l).max(1)))
        .for_each_init(
            || (scratch(l * l), scratch(l * l)),
            |(p, dp), ((grad, qkv), dy)| {
                g.probabilities(qkv, p);
                let part = |i: usize| Mat::rows(&qkv[i * d * l..(i + 1) * d * l], l);
                let (q, k, v) = (part(0), part(1), part(2));
                let dy = Mat::rows(dy, l);
                // dp[query][key] = sum over channels of dy[c][query] * v[c][key].
                matmul(dp, l, l, d, dy.t(), v, false);
                for (p, dp) in p.chunks_exact(l).zip(dp.chunks_exact_mut(l)) {
                    softmax_backward(p, dp, g.scale() as f32);
                }
                let (dq, rest) = grad.split_at_mut(d * l);
                let (dk, dv) = rest.split_at_mut(d * l);
                matmul(dq, d, l, l, k, Mat::rows(dp, l).t(), false);
                matmul(dk, d, l, l, q, Mat::rows(dp, l), false);
                matmul(dv, d, l, l, dy, Mat::rows(p, l), false);
            },
        );
    grad
}
