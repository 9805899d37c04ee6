//! Any convolution as a matrix product: patches become columns. For strides, large paddings and groups; the common
//! case has a direct kernel of its own.

use super::gemm::{Mat, matmul};
use super::shared::{SharedMut, scratch};
use rayon::prelude::*;

/// Shapes of one convolution.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Geometry {
    pub n: usize,
    pub ci: usize,
    pub h: usize,
    pub w: usize,
    pub co: usize,
    pub kh: usize,
    pub kw: usize,
    pub stride: usize,
    pub padding: usize,
    pub groups: usize,
    pub oh: usize,
    pub ow: usize,
}

impl Geometry {
    fn ci_g(&self) -> usize {
        self.ci / self.groups
    }
    fn co_g(&self) -> usize {
        self.co / self.groups
    }
    /// Rows of the column matrix of one group.
    fn rows(&self) -> usize {
        self.ci_g() * self.kh * self.kw
    }
    fn pixels(&self) -> usize {
        self.oh * self.ow
    }
    /// A 1 x 1 convolution reads its input as the column matrix.
    fn plain(&self) -> bool {
        self.kh == 1 && self.kw == 1 && self.stride == 1 && self.padding == 0
    }

    /// For each row of the column matrix and each output line: (input line if inside, first valid output column,
    /// end of them, input column of the first).
    fn for_lines(&self, mut f: impl FnMut(usize, Option<usize>, usize, usize, usize)) {
        let (s, p) = (self.stride as isize, self.padding as isize);
        for c in 0..self.ci_g() {
            for ky in 0..self.kh {
                for kx in 0..self.kw {
                    let r = (c * self.kh + ky) * self.kw + kx;
                    let shift = kx as isize - p;
                    // Output columns x with 0 <= x * s + shift < w.
                    let x0 = ((-shift).max(0) as usize)
                        .div_ceil(self.stride)
                        .min(self.ow);
                    let x1 = ((self.w as isize - shift + s - 1) / s)
                        .clamp(x0 as isize, self.ow as isize) as usize;
                    for y in 0..self.oh {
                        let iy = (y * self.stride + ky) as isize - p;
                        // A tap may miss the whole line of a picture smaller than the kernel.
                        let line = (iy >= 0 && (iy as usize) < self.h && x0 < x1)
                            .then(|| (c * self.h + iy as usize) * self.w);
                        let from = (x0 as isize * s + shift).max(0) as usize;
                        f(r * self.pixels() + y * self.ow, line, x0, x1, from);
                    }
                }
            }
        }
    }

    /// Patches of x (ci / groups, h, w) as columns: rows x pixels.
    fn gather(&self, x: &[f32], col: &mut [f32]) {
        self.for_lines(|at, line, x0, x1, from| {
            let out = &mut col[at..at + self.ow];
            let Some(line) = line else {
                out.fill(0.0);
                return;
            };
            out[..x0].fill(0.0);
            out[x1..].fill(0.0);
            if self.stride == 1 {
                out[x0..x1].copy_from_slice(&x[line + from..][..x1 - x0]);
            } else {
                for (o, v) in out[x0..x1]
                    .iter_mut()
                    .zip(x[line + from..].iter().step_by(self.stride))
                {
                    *o = *v;
                }
            }
        });
    }

    /// The transpose of `gather`: adds columns back into x.
    fn scatter(&self, col: &[f32], x: &mut [f32]) {
        self.for_lines(|at, line, x0, x1, from| {
            if let Some(line) = line {
                for (o, v) in x[line + from..]
                    .iter_mut()
                    .step_by(self.stride)
                    .zip(&col[at + x0..at + x1])
                {
                    *o += *v;
                }
            }
        });
    }

    /// y (n, co, oh, ow) = x * w + bias.
    pub(crate) fn forward(&self, x: &[f32], w: &[f32], bias: Option<&[f32]>) -> Vec<f32> {
        let (px, rows, co_g) = (self.pixels(), self.rows(), self.co_g());
        let mut y = scratch(self.n * self.co * px);
        let shared = SharedMut::new(&mut y);
        let x_group = self.ci_g() * self.h * self.w;
        (0..self.n * self.groups).into_par_iter().for_each_init(
            || scratch(if self.plain() { 0 } else { rows * px }),
            |col, task| {
                let g = task % self.groups;
                let x = &x[task * x_group..][..x_group];
                let cols = if self.plain() {
                    x
                } else {
                    self.gather(x, col);
                    &col[..]
                };
                // SAFETY: each task has its own picture and group.
                let y = unsafe { shared.slice(task * co_g * px, co_g * px) };
                let w = &w[g * co_g * rows..][..co_g * rows];
                matmul(
                    y,
                    co_g,
                    px,
                    rows,
                    Mat::rows(w, rows),
                    Mat::rows(cols, px),
                    false,
                );
                if let Some(bias) = bias {
                    for (y, b) in y.chunks_exact_mut(px).zip(&bias[g * co_g..]) {
                        y.iter_mut().for_each(|v| *v += b);
                    }
                }
            },
        );
        y
    }

    /// Gradient of the input (n, ci, h, w).
    pub(crate) fn input_gradient(&self, dy: &[f32], w: &[f32]) -> Vec<f32> {
        let (px, rows, co_g) = (self.pixels(), self.rows(), self.co_g());
        let x_group = self.ci_g() * self.h * self.w;
        let mut dx = scratch(self.n * self.ci * self.h * self.w);
        dx.par_chunks_mut(x_group).enumerate().for_each_init(
            || scratch(if self.plain() { 0 } else { rows * px }),
            |col, (task, dx)| {
                let g = task % self.groups;
                let dy = &dy[task * co_g * px..][..co_g * px];
                let wt = Mat::rows(&w[g * co_g * rows..][..co_g * rows], rows).t();
                if self.plain() {
                    matmul(dx, rows, px, co_g, wt, Mat::rows(dy, px), false);
                } else {
                    matmul(col, rows, px, co_g, wt, Mat::rows(dy, px), false);
                    dx.fill(0.0);
                    self.scatter(col, dx);
                }
            },
        );
        dx
    }

    /// Gradient of the weights (co, ci / groups, kh, kw).
    pub(crate) fn weight_gradient(&self, x: &[f32], dy: &[f32]) -> Vec<f32> {
        let (px, rows, co_g) = (self.pixels(), self.rows(), self.co_g());
        let x_group = self.ci_g() * self.h * self.w;
        // Pictures are summed in chunks of a fixed size and the chunks in order: the same sum for any thread count.
        let chunk = self.n.div_ceil(8).max(1);
        let parts: Vec<Vec<f32>> = (0..self.n.div_ceil(chunk))
            .into_par_iter()
            .map(|part| {
                let mut dw = vec![0f32; self.co * rows];
                let mut col = scratch(if self.plain() { 0 } else { rows * px });
                for n in part * chunk..((part + 1) * chunk).min(self.n) {
                    for g in 0..self.groups {
                        let task = n * self.groups + g;
                        let x = &x[task * x_group..][..x_group];
                        let cols = if self.plain() {
                            x
                        } else {
                            self.gather(x, &mut col);
                            &col[..]
                        };
                        let dy = Mat::rows(&dy[task * co_g * px..][..co_g * px], px);
                        let dw = &mut dw[g * co_g * rows..][..co_g * rows];
                        matmul(dw, co_g, rows, px, dy, Mat::rows(cols, px).t(), true);
                    }
                }
                dw
            })
            .collect();
        let mut parts = parts.into_iter();
        let mut dw = parts.next().unwrap_or_else(|| vec![0f32; self.co * rows]);
        for part in parts {
            dw.iter_mut().zip(&part).for_each(|(a, b)| *a += b);
        }
        dw
    }
}

/// Sum of dy (n, co, pixels) over pictures and pixels, in f64 and in a fixed order.
pub(crate) fn bias_gradient(dy: &[f32], co: usize, pixels: usize) -> Vec<f32> {
    (0..co)
        .into_par_iter()
        .with_min_len(4)
        .map(|c| {
            let planes = dy.chunks_exact(pixels).skip(c).step_by(co);
            planes.map(plane_sum).sum::<f64>() as f32
        })
        .collect()
}

fn plane_sum(plane: &[f32]) -> f64 {
    const L: usize = 16;
    let mut acc = [0f32; L];
    let chunks = plane.chunks_exact(L);
    let rest: f32 = chunks.remainder().iter().sum();
    for c in chunks {
        for (a, v) in acc.iter_mut().zip(c) {
            *a += v;
        }
    }
    acc.iter().map(|&v| v as f64).sum::<f64>() + rest as f64
}
