//! Any wavelet and mode: a sparse matrix applied along one axis or two.
//!
//! Several lines go through a matrix side by side, so that the innermost loop is over lines, without dependence. Each
//! value is the sum of its row's terms in the order of the columns, whatever the shape, batch or thread count.

use super::dispatch::dispatched;
use super::{Frame, Real, filled, write};
use crate::matrix::Matrix;
use rayon::prelude::*;
use std::mem::MaybeUninit;

/// Lines side by side.
const LANES: usize = 16;

/// `x` as lines of `matrix.cols` values, each multiplied by the matrix.
pub(crate) fn lines<T: Real>(x: &[T], matrix: &Matrix) -> Vec<T> {
    let (n, m) = (matrix.cols.max(1), matrix.rows());
    let count = x.len() / n;
    if m == 0 || count == 0 {
        return Vec::new();
    }
    let mut out = vec![T::zero(); count * m];
    let blocks = out.par_chunks_mut(LANES * m).zip(x.par_chunks(LANES * n));
    blocks.for_each_init(Vec::new, |scratch, (out, x)| block(x, matrix, out, scratch));
    out
}

/// All bands of the pictures `x`, the low one first: `h` along the columns and `w` along the rows.
pub(crate) fn analysis<T: Real>(x: &[T], h: &Matrix, w: &Matrix, frame: &Frame) -> Vec<T> {
    if x.is_empty() {
        return Vec::new();
    }
    let [mh, mw] = frame.band;
    let fill = |out: &mut [MaybeUninit<T>]| {
        let planes: Vec<_> = x.chunks_exact(frame.picture_px()).zip(frame.split(out)).collect();
        planes.into_par_iter().for_each_init(Scratch::default, |s, (x, [ll, lh, hl, hh])| {
            s.rows.resize(frame.size[0] * 2 * mw, T::zero());
            along_rows(x, w, &mut s.rows, &mut s.lines);
            s.columns.resize(4 * mh * mw, T::zero());
            columns(&s.rows, h, 2 * mw, &mut s.columns);
            let (upper, lower) = s.columns.split_at(2 * mh * mw);
            for (half, low, high) in [(upper, ll, hl), (lower, lh, hh)] {
                let bands = low.chunks_exact_mut(mw).zip(high.chunks_exact_mut(mw));
                for (row, (low, high)) in half.chunks_exact(2 * mw).zip(bands) {
                    write(low, &row[..mw]);
                    write(high, &row[mw..]);
                }
            }
        });
    };
    // SAFETY: the planes' bands are the whole buffer, and every row of each is written.
    unsafe { filled(4 * frame.planes() * frame.band_px(), fill) }
}

/// The pictures of these bands: `h` along the columns and `w` along the rows.
pub(crate) fn synthesis<T: Real>(low: &[T], high: &[T], h: &Matrix, w: &Matrix, frame: &Frame) -> Vec<T> {
    let ([mh, mw], px) = (frame.band, frame.band_px());
    let mut out = vec![T::zero(); frame.planes() * frame.picture_px()];
    if out.is_empty() {
        return out;
    }
    let planes = out.par_chunks_exact_mut(frame.picture_px()).enumerate();
    planes.for_each_init(Scratch::default, |s, (p, out)| {
        s.columns.clear();
        let ll = &low[frame.low_at(p)..][..px];
        let [lh, hl, hh] = [0, 1, 2].map(|b| &high[frame.high_at(p, b)..][..px]);
        for (left, right) in [(ll, hl), (lh, hh)] {
            for r in 0..mh {
                s.columns.extend_from_slice(&left[r * mw..][..mw]);
                s.columns.extend_from_slice(&right[r * mw..][..mw]);
            }
        }
        s.rows.resize(frame.size[0] * 2 * mw, T::zero());
        columns(&s.columns, h, 2 * mw, &mut s.rows);
        along_rows(&s.rows, w, out, &mut s.lines);
    });
    out
}

/// What a thread keeps from plane to plane.
#[derive(Default)]
struct Scratch<T> {
    rows: Vec<T>,
    columns: Vec<T>,
    lines: Vec<T>,
}

/// Every row of a plane multiplied by the matrix.
fn along_rows<T: Real>(x: &[T], matrix: &Matrix, out: &mut [T], scratch: &mut Vec<T>) {
    let blocks = out.chunks_mut(LANES * matrix.rows()).zip(x.chunks(LANES * matrix.cols));
    blocks.for_each(|(out, x)| block(x, matrix, out, scratch));
}

/// At most [`LANES`] lines: transposed, multiplied as columns, transposed back; a single one without the detour.
fn block<T: Real>(x: &[T], matrix: &Matrix, out: &mut [T], scratch: &mut Vec<T>) {
    let (n, m) = (matrix.cols, matrix.rows());
    if x.len() == n {
        return columns(x, matrix, 1, out);
    }
    let lanes = x.len() / n;
    scratch.resize((n + m) * lanes, T::zero());
    let (before, after) = scratch.split_at_mut(n * lanes);
    for (lane, line) in x.chunks_exact(n).enumerate() {
        for (slot, v) in before.chunks_exact_mut(lanes).zip(line) {
            slot[lane] = *v;
        }
    }
    columns(before, matrix, lanes, after);
    for (lane, line) in out.chunks_exact_mut(m).enumerate() {
        for (slot, v) in after.chunks_exact(lanes).zip(line) {
            *v = slot[lane];
        }
    }
}

dispatched!(
    /// Matrix times `x` of (cols, width), into (rows, width).
    columns = columns_body(x: &[T], matrix: &Matrix, width: usize, out: &mut [T])
);

#[inline(always)]
fn columns_body<T: Real>(x: &[T], matrix: &Matrix, width: usize, out: &mut [T]) {
    for (r, out) in out.chunks_exact_mut(width).enumerate() {
        let (wide, rest) = out.as_chunks_mut::<LANES>();
        let tail = wide.len() * LANES;
        for (i, out) in wide.iter_mut().enumerate() {
            let mut acc = [T::zero(); LANES];
            for (col, weights) in matrix.row(r) {
                for (k, &weight) in weights.iter().enumerate() {
                    let weight = T::from_f64(weight);
                    let x = &x[(col + k) * width + i * LANES..][..LANES];
                    for (a, v) in acc.iter_mut().zip(x) {
                        *a = *a + weight * *v;
                    }
                }
            }
            *out = acc;
        }
        for (i, out) in rest.iter_mut().enumerate() {
            let mut acc = T::zero();
            for (col, weights) in matrix.row(r) {
                for (k, &weight) in weights.iter().enumerate() {
                    acc = acc + T::from_f64(weight) * x[(col + k) * width + tail + i];
                }
            }
            *out = acc;
        }
    }
}
