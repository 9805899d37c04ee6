//! Multi-head self-attention in one operator: nothing of size (L, L) is kept between forward and backward.

use crate::cpu::gemm::{Mat, matmul};
use crate::cpu::shared::scratch;
use crate::cpu::transpose::transpose;
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

    /// Queries worked on at a time: with all keys, what a core keeps in its second cache.
    fn block(&self) -> usize {
        const FLOATS: usize = 1 << 16;
        (FLOATS / self.len.max(1) / 16 * 16).clamp(16, self.len.max(16))
    }

    /// Blocks of queries: the first of each, and how many.
    fn blocks(&self) -> impl Iterator<Item = (usize, usize)> {
        let (len, block) = (self.len, self.block());
        let firsts = (0..len).step_by(block);
        firsts.map(move |first| (first, block.min(len - first)))
    }

    /// Matrix `i` (d, L) of some, from column `first` on.
    fn part<'a>(&self, of: &'a [f32], i: usize, first: usize) -> Mat<'a> {
        let size = self.d * self.len;
        Mat::rows(&of[i * size + first..(i + 1) * size], self.len)
    }

    /// p = softmax(scale * q^T k): one row of L for each of `some` queries from `first` on.
    fn probabilities(&self, qkv: &[f32], first: usize, some: usize, p: &mut [f32]) {
        let (q, k) = (self.part(qkv, 0, first), self.part(qkv, 1, 0));
        matmul(p, some, self.len, self.d, q.t(), k, false);
        for row in p[..some * self.len].chunks_exact_mut(self.len) {
            softmax_row(row, self.scale() as f32);
        }
    }

    /// Columns `first..first + some` of `to` (d, L) = `a` (d, L) times the transpose of `b` (some, L).
    fn times_turned(
        &self,
        a: Mat<'_>,
        b: &[f32],
        (first, some): (usize, usize),
        room: &mut Turning,
        to: &mut [f32],
    ) {
        let (d, len) = (self.d, self.len);
        let b = &b[..some * len];
        // A single block is small enough to be read as it lies.
        if some == len {
            return matmul(to, d, len, len, a, Mat::rows(b, len).t(), false);
        }
        let turned = &mut room.turned[..some * len];
        // The product reads its second factor row by row: turned in the cache that is done once, not for every row.
        transpose(b, some, len, turned);
        let block = &mut room.block[..d * some];
        matmul(block, d, some, len, a, Mat::rows(turned, some), false);
        for (to, block) in to.chunks_exact_mut(len).zip(block.chunks_exact(some)) {
            to[first..first + some].copy_from_slice(block);
        }
    }

    /// Room for a block of queries by all keys.
    fn square(&self) -> Vec<f32> {
        scratch(self.block().min(self.len) * self.len)
    }

    /// Room for [`Geo::times_turned`]; a single block takes none.
    fn turning(&self) -> Turning {
        if self.block() >= self.len {
            return Turning::default();
        }
        Turning {
            turned: self.square(),
            block: scratch(self.d * self.block()),
        }
    }
}

/// What a product with a block's transpose is made in.
#[derive(Default)]
struct Turning {
    turned: Vec<f32>,
    block: Vec<f32>,
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
                || (g.square(), g.turning()),
                |(p, turning), (out, qkv)| {
                    let v = g.part(qkv, 2, 0);
                    for (first, some) in g.blocks() {
                        g.probabilities(qkv, first, some, p);
                        g.times_turned(v, p, (first, some), turning, out);
                    }
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
            || (g.square(), g.square(), g.turning()),
            |(p, dp, turning), ((grad, qkv), dy)| {
                let (k, v) = (g.part(qkv, 1, 0), g.part(qkv, 2, 0));
                let (dq, rest) = grad.split_at_mut(d * l);
                let (dk, dv) = rest.split_at_mut(d * l);
                for (first, some) in g.blocks() {
                    g.probabilities(qkv, first, some, p);
                    let (q, dy) = (g.part(qkv, 0, first), g.part(dy, 0, first));
                    // dp[query][key] = sum over channels of dy[c][query] * v[c][key].
                    matmul(dp, some, l, d, dy.t(), v, false);
                    for (p, dp) in p.chunks_exact(l).zip(dp.chunks_exact_mut(l)).take(some) {
                        softmax_backward(p, dp, g.scale() as f32);
                    }
                    g.times_turned(k, dp, (first, some), turning, dq);
                    matmul(dk, d, l, some, q, Mat::rows(&dp[..some * l], l), first > 0);
                    matmul(dv, d, l, some, dy, Mat::rows(&p[..some * l], l), first > 0);
                }
            },
        );
    grad
}
