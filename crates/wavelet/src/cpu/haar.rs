//! The two-dimensional Haar transform of even sizes, where no boundary mode matters: one pass each way.

use super::dispatch::dispatched;
use super::{Frame, Real, filled};
use rayon::prelude::*;
use std::mem::MaybeUninit;

/// Values of a picture per task; fixed, so that the work is cut the same way at any thread count.
const TASK: usize = 1 << 15;

/// Rows of a band per task.
fn rows_per_task(frame: &Frame) -> usize {
    (TASK / (4 * frame.band[1]).max(1)).clamp(1, frame.band[0].max(1))
}

/// All bands of `x`, the low one first.
pub(crate) fn forward<T: Real>(x: &[T], frame: &Frame) -> Vec<T> {
    let (w, rows) = (frame.band[1], rows_per_task(frame));
    if x.is_empty() {
        return Vec::new();
    }
    let fill = |out: &mut [MaybeUninit<T>]| {
        let planes = x.chunks_exact(frame.picture_px()).zip(frame.split(out));
        let tasks: Vec<_> = planes
            .flat_map(|(plane, [ll, lh, hl, hh])| {
                let bands = ll.chunks_mut(rows * w).zip(lh.chunks_mut(rows * w));
                let more = hl.chunks_mut(rows * w).zip(hh.chunks_mut(rows * w));
                plane.chunks(4 * rows * w).zip(bands.zip(more))
            })
            .collect();
        tasks
            .into_par_iter()
            .for_each(|(x, ((ll, lh), (hl, hh)))| forward_rows(x, w, ll, lh, hl, hh));
    };
    // SAFETY: the tasks cover the four bands of every plane, which are the whole buffer, and each writes all it has.
    unsafe { filled(x.len(), fill) }
}

/// The pictures whose bands these are.
pub(crate) fn inverse<T: Real>(low: &[T], high: &[T], frame: &Frame) -> Vec<T> {
    let (w, rows) = (frame.band[1], rows_per_task(frame));
    if low.is_empty() {
        return Vec::new();
    }
    let fill = |out: &mut [MaybeUninit<T>]| {
        let tasks: Vec<_> = out
            .chunks_exact_mut(frame.picture_px())
            .enumerate()
            .flat_map(|(p, plane)| plane.chunks_mut(4 * rows * w).enumerate().map(move |(i, rows)| (p, i, rows)))
            .collect();
        tasks.into_par_iter().for_each(|(p, i, out)| {
            let (at, len) = (i * rows * w, out.len() / 4);
            let ll = &low[frame.low_at(p) + at..][..len];
            let [lh, hl, hh] = [0, 1, 2].map(|b| &high[frame.high_at(p, b) + at..][..len]);
            inverse_rows(ll, lh, hl, hh, w, out);
        });
    };
    // SAFETY: the tasks cover every plane of the buffer, and each writes all rows it has.
    unsafe { filled(4 * low.len(), fill) }
}

dispatched!(forward_rows = forward_body(
    x: &[T],
    w: usize,
    ll: &mut [MaybeUninit<T>],
    lh: &mut [MaybeUninit<T>],
    hl: &mut [MaybeUninit<T>],
    hh: &mut [MaybeUninit<T>],
));

#[inline(always)]
fn forward_body<T: Real>(
    x: &[T],
    w: usize,
    ll: &mut [MaybeUninit<T>],
    lh: &mut [MaybeUninit<T>],
    hl: &mut [MaybeUninit<T>],
    hh: &mut [MaybeUninit<T>],
) {
    let half = T::from_f64(0.5);
    let bands = ll
        .chunks_exact_mut(w)
        .zip(lh.chunks_exact_mut(w))
        .zip(hl.chunks_exact_mut(w))
        .zip(hh.chunks_exact_mut(w));
    for (two, (((ll, lh), hl), hh)) in x.chunks_exact(4 * w).zip(bands) {
        let (upper, lower) = two.split_at(2 * w);
        let (upper, lower) = (upper.as_chunks::<2>().0, lower.as_chunks::<2>().0);
        for i in 0..w {
            let ([p, q], [r, t]) = (upper[i], lower[i]);
            let (s, d, u, v) = (p + q, p - q, r + t, r - t);
            ll[i].write((s + u) * half);
            lh[i].write((s - u) * half);
            hl[i].write((d + v) * half);
            hh[i].write((d - v) * half);
        }
    }
}

dispatched!(inverse_rows = inverse_body(
    ll: &[T],
    lh: &[T],
    hl: &[T],
    hh: &[T],
    w: usize,
    out: &mut [MaybeUninit<T>],
));

#[inline(always)]
fn inverse_body<T: Real>(ll: &[T], lh: &[T], hl: &[T], hh: &[T], w: usize, out: &mut [MaybeUninit<T>]) {
    let half = T::from_f64(0.5);
    let bands = ll.chunks_exact(w).zip(lh.chunks_exact(w)).zip(hl.chunks_exact(w)).zip(hh.chunks_exact(w));
    for (two, (((ll, lh), hl), hh)) in out.chunks_exact_mut(4 * w).zip(bands) {
        let (upper, lower) = two.split_at_mut(2 * w);
        let (upper, lower) = (upper.as_chunks_mut::<2>().0, lower.as_chunks_mut::<2>().0);
        for i in 0..w {
            let (s, u) = (ll[i] + lh[i], ll[i] - lh[i]);
            let (d, v) = (hl[i] + hh[i], hl[i] - hh[i]);
            upper[i][0].write((s + d) * half);
            upper[i][1].write((s - d) * half);
            lower[i][0].write((u + v) * half);
            lower[i][1].write((u - v) * half);
        }
    }
}
