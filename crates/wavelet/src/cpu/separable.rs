//! Any wavelet and mode: a sparse matrix applied along one axis or two.
//!
//! Every value is one sum in an order that depends on the lengths and the instruction set alone, so a picture's bands
//! have the same bits in any batch and at any thread count.

use super::dispatch::{Isa, isa};
use super::kernel::GROUP;
use super::{Frame, Kernel, Real, Slot, filled};
use crate::matrix::Matrix;
use rayon::prelude::*;
use std::mem::MaybeUninit;

/// Values from which on a plane is worth several threads.
const LARGE: usize = 1 << 18;
/// Values of a task within a large plane.
const TASK: usize = 1 << 15;

/// Rows per task of a plane: all of them, unless it is large.
fn rows_per_task(plane: usize, row: usize) -> usize {
    if plane < LARGE {
        return usize::MAX;
    }
    TASK.div_ceil(row.max(1))
}

/// A matrix and its kernel.
struct Axis<'a, T> {
    matrix: &'a Matrix,
    kernel: &'a Kernel<T>,
    isa: Isa,
}

impl<'a, T: Real> Axis<'a, T> {
    fn new(matrix: &'a Matrix) -> Self {
        Self {
            matrix,
            kernel: T::kernel(matrix),
            isa: isa(),
        }
    }

    /// Every line of `x` multiplied, at least `min` of them per task.
    fn lines<S: Slot<T>>(&self, x: &[T], out: &mut [S], min: usize) {
        let (n, m) = (self.matrix.cols.max(1), self.matrix.rows().max(1));
        let groups = out.par_chunks_mut(GROUP * m).zip(x.par_chunks(GROUP * n));
        groups
            .with_min_len(min.div_ceil(GROUP))
            .for_each_init(Vec::new, |scratch, (out, x)| {
                self.kernel.lines(self.isa, self.matrix, x, out, scratch);
            });
    }

    /// Values `from..from + out.len()` of row `r` of the matrix times `x`, whose rows are `stride` apart.
    fn row<S: Slot<T>>(&self, r: usize, x: &[T], stride: usize, from: usize, out: &mut [S]) {
        self.kernel
            .row(self.isa, self.matrix, r, x, stride, from, out);
    }
}

/// `x` of (outer, cols, inner) to both halves of the rows, (2, outer, rows / 2, inner).
pub(crate) fn analysis1<T: Real>(x: &[T], matrix: &Matrix, outer: usize, inner: usize) -> Vec<T> {
    let (n, m) = (matrix.cols, matrix.rows() / 2);
    let len = 2 * outer * m * inner;
    if len == 0 {
        return Vec::new();
    }
    let axis = Axis::new(matrix);
    let min = TASK.div_ceil(n * inner);
    let fill = |out: &mut [MaybeUninit<T>]| {
        let (low, high) = out.split_at_mut(len / 2);
        let blocks = low
            .par_chunks_exact_mut(m * inner)
            .zip(high.par_chunks_exact_mut(m * inner));
        let blocks = blocks.zip(x.par_chunks_exact(n * inner)).with_min_len(min);
        blocks.for_each_init(
            || {
                (
                    vec![T::zero(); if inner == 1 { 2 * m } else { 0 }],
                    Vec::new(),
                )
            },
            |(line, scratch), ((low, high), x)| {
                if inner == 1 {
                    axis.kernel.lines(axis.isa, matrix, x, line, scratch);
                    let out = low.iter_mut().chain(high);
                    out.zip(line.iter()).for_each(|(o, &v)| o.put(v));
                } else {
                    for (half, out) in [low, high].into_iter().enumerate() {
                        for (r, out) in out.chunks_exact_mut(inner).enumerate() {
                            axis.row(half * m + r, x, inner, 0, out);
                        }
                    }
                }
            },
        );
    };
    // SAFETY: the blocks are the whole buffer, and every row of each is written.
    unsafe { filled(len, fill) }
}

/// The inverse direction: bands of (outer, cols / 2, inner) to (outer, rows, inner).
pub(crate) fn synthesis1<T: Real>(
    low: &[T],
    high: &[T],
    matrix: &Matrix,
    outer: usize,
    inner: usize,
) -> Vec<T> {
    let (m, n) = (matrix.cols / 2, matrix.rows());
    let len = outer * n * inner;
    if len == 0 {
        return Vec::new();
    }
    let axis = Axis::new(matrix);
    let (min, block) = (TASK.div_ceil(n * inner), m * inner);
    let fill = |out: &mut [MaybeUninit<T>]| {
        let bands = low
            .par_chunks_exact(block)
            .zip(high.par_chunks_exact(block));
        let blocks = out
            .par_chunks_exact_mut(n * inner)
            .zip(bands)
            .with_min_len(min);
        blocks.for_each_init(
            || (Vec::new(), Vec::new()),
            |(both, scratch), (out, (low, high))| {
                both.clear();
                both.extend_from_slice(low);
                both.extend_from_slice(high);
                if inner == 1 {
                    axis.kernel.lines(axis.isa, matrix, both, out, scratch);
                } else {
                    for (r, out) in out.chunks_exact_mut(inner).enumerate() {
                        axis.row(r, both, inner, 0, out);
                    }
                }
            },
        );
    };
    // SAFETY: the blocks are the whole buffer, and every row of each is written.
    unsafe { filled(len, fill) }
}

/// All bands of the pictures `x`, the low one first: `w` along the rows, then `h` along the columns.
pub(crate) fn analysis2<T: Real>(x: &[T], h: &Matrix, w: &Matrix, frame: &Frame) -> Vec<T> {
    let len = 4 * frame.planes() * frame.band_px();
    if len == 0 {
        return Vec::new();
    }
    let [mh, mw] = frame.band;
    let (h, w) = (Axis::new(h), Axis::new(w));
    let min = rows_per_task(frame.picture_px(), frame.size[1]);
    let fill = |out: &mut [MaybeUninit<T>]| {
        let (low, high) = out.split_at_mut(len / 4);
        let planes = x
            .par_chunks_exact(frame.picture_px())
            .zip(frame.split(low, high));
        planes.for_each_init(Vec::new, |rows, (x, [ll, lh, hl, hh])| {
            rows.resize(frame.size[0] * 2 * mw, T::zero());
            w.lines(x, rows, min);
            let lows = ll.par_chunks_exact_mut(mw).zip(hl.par_chunks_exact_mut(mw));
            let highs = lh.par_chunks_exact_mut(mw).zip(hh.par_chunks_exact_mut(mw));
            let bands = lows.zip(highs).enumerate().with_min_len(min);
            bands.for_each(|(r, ((ll, hl), (lh, hh)))| {
                h.row(r, rows, 2 * mw, 0, ll);
                h.row(r, rows, 2 * mw, mw, hl);
                h.row(mh + r, rows, 2 * mw, 0, lh);
                h.row(mh + r, rows, 2 * mw, mw, hh);
            });
        });
    };
    // SAFETY: the planes' bands are the whole buffer, and every row of each is written.
    unsafe { filled(len, fill) }
}

/// The pictures of these bands: `h` along the columns, then `w` along the rows.
pub(crate) fn synthesis2<T: Real>(
    low: &[T],
    high: &[T],
    h: &Matrix,
    w: &Matrix,
    frame: &Frame,
) -> Vec<T> {
    let len = frame.planes() * frame.picture_px();
    if len == 0 {
        return Vec::new();
    }
    let mw = frame.band[1];
    let (h, w) = (Axis::new(h), Axis::new(w));
    let min = rows_per_task(frame.picture_px(), frame.size[1]);
    let fill = |out: &mut [MaybeUninit<T>]| {
        let planes = out.par_chunks_exact_mut(frame.picture_px()).enumerate();
        planes.for_each(|(p, out)| {
            let [ll, lh, hl, hh] = frame.bands(low, high, p);
            // Some rows through both directions, while they are in the first cache.
            let groups = out.par_chunks_mut(GROUP * frame.size[1]).enumerate();
            let groups = groups.with_min_len(min.div_ceil(GROUP));
            groups.for_each_init(<(Vec<T>, Vec<T>)>::default, |(rows, scratch), (g, out)| {
                rows.resize(out.len() / frame.size[1] * 2 * mw, T::zero());
                for (part, bands) in [[ll, lh], [hl, hh]].into_iter().enumerate() {
                    let first = GROUP * g;
                    (h.kernel).synthesis_rows(h.isa, h.matrix, first, bands, mw, part, rows);
                }
                w.kernel.lines(w.isa, w.matrix, rows, out, scratch);
            });
        });
    };
    // SAFETY: the planes are the whole buffer, and every line of each is written.
    unsafe { filled(len, fill) }
}
