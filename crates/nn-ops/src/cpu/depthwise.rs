//! Convolution of every channel with a kernel of its own: sums of shifted rows, without the columns of a matrix product.

use super::im2col::Geometry;
use super::shared::scratch;
use crate::simd::multiversion;
use rayon::prelude::*;

/// y (n, c, oh, ow) of x (n, c, h, w), w (c, kh, kw) and a bias (c), where there is one.
///
/// Each row of a padded plane is split by its columns' remainders modulo the stride, so that what a tap of the kernel reads
/// for neighbouring outputs lies side by side.
pub(crate) fn forward(g: &Geometry, x: &[f32], w: &[f32], bias: Option<&[f32]>) -> Vec<f32> {
    let taps = g.kh * g.kw;
    let phase = (g.w + 2 * g.padding).div_ceil(g.stride);
    let row = phase * g.stride;
    let mut y = scratch(g.n * g.co * g.oh * g.ow);
    y.par_chunks_mut((g.oh * g.ow).max(1))
        .zip(x.par_chunks((g.h * g.w).max(1)))
        .enumerate()
        .with_min_len(4)
        .for_each_init(
            || vec![0f32; row * (g.h + 2 * g.padding)],
            |padded, (task, (y, x))| {
                let c = task % g.co;
                // The border stays zero from plane to plane.
                for (x, line) in x
                    .chunks_exact(g.w)
                    .zip(padded[g.padding * row..].chunks_exact_mut(row))
                {
                    split(x, line, g.padding, g.stride, phase);
                }
                let start = bias.map_or(0.0, |b| b[c]);
                let kernel = &w[c * taps..][..taps];
                for (oy, y) in y.chunks_exact_mut(g.ow).enumerate() {
                    y.fill(start);
                    for ky in 0..g.kh {
                        let line = &padded[(oy * g.stride + ky) * row..][..row];
                        add_row(y, line, &kernel[ky * g.kw..][..g.kw], g.stride, phase);
                    }
                }
            },
        );
    y
}

/// Column i of `x` goes to place (i + padding) / stride of part (i + padding) % stride.
fn split(x: &[f32], line: &mut [f32], padding: usize, stride: usize, phase: usize) {
    if stride == 1 {
        line[padding..padding + x.len()].copy_from_slice(x);
        return;
    }
    for (i, v) in x.iter().enumerate() {
        let at = i + padding;
        line[at % stride * phase + at / stride] = *v;
    }
}

multiversion! {
    /// Adds what one row of the kernel gives.
    fn add_row(y: &mut [f32], line: &[f32], kernel: &[f32], stride: usize, phase: usize) {
        for (kx, &k) in kernel.iter().enumerate() {
            let from = &line[kx % stride * phase + kx / stride..][..y.len()];
            for (y, v) in y.iter_mut().zip(from) {
                *y += k * *v;
            }
        }
    }
}
