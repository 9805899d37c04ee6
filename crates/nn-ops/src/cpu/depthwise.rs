//! Convolution of every channel with a kernel of its own: sums of shifted rows, without the columns of a matrix product.

use super::im2col::Geometry;
use super::lanes::{Lanes, dispatch};
use super::shared::scratch;
use rayon::prelude::*;

/// Registers of a tile.
const TILE: usize = 4;
/// Floats of the widest tile.
const WIDEST: usize = TILE * 16;

/// y (n, c, oh, ow) of x (n, c, h, w), w (c, kh, kw) and a bias (c), where there is one.
///
/// Each row of a padded plane is split by its columns' remainders modulo the stride, so that what a tap of the kernel reads
/// for neighbouring outputs lies side by side.
pub(crate) fn forward(g: &Geometry, x: &[f32], w: &[f32], bias: Option<&[f32]>) -> Vec<f32> {
    let phase = (g.w + 2 * g.padding).div_ceil(g.stride);
    let row = phase * g.stride;
    let taps: Vec<usize> = (0..g.kh)
        .flat_map(|ky| (0..g.kw).map(move |kx| (ky, kx)))
        .map(|(ky, kx)| ky * row + kx % g.stride * phase + kx / g.stride)
        .collect();
    let mut y = scratch(g.n * g.co * g.oh * g.ow);
    y.par_chunks_mut((g.oh * g.ow).max(1))
        .zip(x.par_chunks((g.h * g.w).max(1)))
        .enumerate()
        .with_min_len(4)
        .for_each_init(
            // Tiles may read, and forget, a little more than there is.
            || vec![0f32; row * (g.h + 2 * g.padding) + WIDEST],
            |padded, (task, (y, x))| {
                let c = task % g.co;
                // The border stays zero from plane to plane.
                for (x, line) in x
                    .chunks_exact(g.w)
                    .zip(padded[g.padding * row..].chunks_exact_mut(row))
                {
                    split(x, line, g.padding, g.stride, phase);
                }
                let kernel = &w[c * taps.len()..][..taps.len()];
                let start = bias.map_or(0.0, |b| b[c]);
                plane(y, g.ow, padded, row * g.stride, &taps, kernel, start);
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
    for first in 0..stride.min(x.len()) {
        let at = first + padding;
        let part = &mut line[at % stride * phase + at / stride..];
        for (to, v) in part.iter_mut().zip(x[first..].iter().step_by(stride)) {
            *to = *v;
        }
    }
}

dispatch!(plane, plane_with, (y: &mut [f32], width: usize, x: &[f32], step: usize, taps: &[usize], kernel: &[f32], start: f32));

/// The plane `y` of rows of `width`: `start` and for each tap its weight times what lies `taps` after an output's place in
/// `x`, whose rows for neighbouring rows of `y` lie `step` apart.
///
/// # Safety
/// The processor must have the instruction set.
#[inline(always)]
unsafe fn plane_with<V: Lanes>(
    y: &mut [f32],
    width: usize,
    x: &[f32],
    step: usize,
    taps: &[usize],
    kernel: &[f32],
    start: f32,
) {
    let height = y.len() / width;
    let furthest = taps.iter().max().copied().unwrap_or(0);
    // The last tile begins at the latest at the last output.
    assert!((height - 1) * step + width - 1 + furthest + WIDEST <= x.len());
    assert_eq!(taps.len(), kernel.len());
    let mut column = 0;
    while column < width {
        let across = match (width - column).div_ceil(V::LEN) {
            1 => 1,
            2 | 3 => 2,
            _ => TILE,
        };
        let columns = (across * V::LEN).min(width - column);
        let mut line = 0;
        while line < height {
            let down = (TILE / across).min(height - line);
            let (from, to) = (line * step + column, line * width + column);
            let (x, y) = (&x[from..], &mut y[to..]);
            // SAFETY: the first assertion; the rest is the caller's promise.
            line += unsafe {
                match (across, down) {
                    (1, TILE) => {
                        tile::<V, TILE, 1>(y, width, columns, x, step, taps, kernel, start)
                    }
                    (1, _) => tile::<V, 1, 1>(y, width, columns, x, step, taps, kernel, start),
                    (2, 2) => tile::<V, 2, 2>(y, width, columns, x, step, taps, kernel, start),
                    (2, _) => tile::<V, 1, 2>(y, width, columns, x, step, taps, kernel, start),
                    _ => tile::<V, 1, TILE>(y, width, columns, x, step, taps, kernel, start),
                }
            };
        }
        column += columns;
    }
}

/// As [`plane_with`] for the first `columns` of `R` rows, at most `N` registers; `R`.
///
/// # Safety
/// The processor must have the instruction set; `x` must hold `N` registers after the furthest tap of the last row.
#[inline(always)]
#[allow(clippy::too_many_arguments)]
unsafe fn tile<V: Lanes, const R: usize, const N: usize>(
    y: &mut [f32],
    width: usize,
    columns: usize,
    x: &[f32],
    step: usize,
    taps: &[usize],
    kernel: &[f32],
    start: f32,
) -> usize {
    // SAFETY: the caller's promise; what is stored lies in `y` or in `whole`.
    unsafe {
        let mut sums = [[V::splat(start); N]; R];
        for (&tap, &weight) in taps.iter().zip(kernel) {
            let weight = V::splat(weight);
            for (r, sums) in sums.iter_mut().enumerate() {
                debug_assert!(r * step + tap + N * V::LEN <= x.len());
                let from = x.as_ptr().add(r * step + tap);
                for (n, sum) in sums.iter_mut().enumerate() {
                    *sum = sum.mul_add(weight, V::load(from.add(n * V::LEN)));
                }
            }
        }
        for (r, sums) in sums.into_iter().enumerate() {
            let mut whole = [0f32; WIDEST];
            for (n, sum) in sums.into_iter().enumerate() {
                sum.store(whole.as_mut_ptr().add(n * V::LEN));
            }
            y[r * width..][..columns].copy_from_slice(&whole[..columns]);
        }
    }
    R
}
