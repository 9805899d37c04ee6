//! The two-dimensional Haar transform of even sizes, where no boundary mode matters: one pass each way.

use super::dispatch::{dispatched, isa};
use super::{Frame, Real, Slot};
use rayon::prelude::*;

/// Values of a picture per task; fixed, so that the work is cut the same way at any thread count.
const TASK: usize = 1 << 16;

/// Rows of a band per chunk, and chunks per task.
fn cut(frame: &Frame) -> (usize, usize) {
    let [h, w] = frame.band;
    let rows = (TASK / (4 * w).max(1)).clamp(1, h.max(1));
    (rows, (TASK / (4 * rows * w).max(1)).max(1))
}

/// All bands of `x`; writes every value of `low` and `high`.
pub(crate) fn forward<T: Real, S: Slot<T>>(x: &[T], low: &mut [S], high: &mut [S], frame: &Frame) {
    if x.is_empty() {
        return;
    }
    let (w, (rows, chunks), isa) = (frame.band[1], cut(frame), isa());
    let planes = x
        .chunks_exact(frame.picture_px())
        .zip(frame.split(low, high));
    let tasks: Vec<_> = planes
        .flat_map(|(plane, [ll, lh, hl, hh])| {
            let bands = ll.chunks_mut(rows * w).zip(lh.chunks_mut(rows * w));
            let more = hl.chunks_mut(rows * w).zip(hh.chunks_mut(rows * w));
            plane.chunks(4 * rows * w).zip(bands.zip(more))
        })
        .collect();
    let tasks = tasks.into_par_iter().with_min_len(chunks);
    tasks.for_each(|(x, ((ll, lh), (hl, hh)))| forward_rows(isa, x, w, ll, lh, hl, hh));
}

/// The pictures whose bands these are; writes every value of `out`.
pub(crate) fn inverse<T: Real, S: Slot<T>>(low: &[T], high: &[T], out: &mut [S], frame: &Frame) {
    if low.is_empty() {
        return;
    }
    let (w, (rows, chunks), isa) = (frame.band[1], cut(frame), isa());
    let planes = out.chunks_exact_mut(frame.picture_px()).enumerate();
    let tasks: Vec<_> = planes
        .flat_map(|(p, plane)| {
            let chunks = plane.chunks_mut(4 * rows * w).enumerate();
            chunks.map(move |(i, out)| (p, i * rows * w, out))
        })
        .collect();
    let tasks = tasks.into_par_iter().with_min_len(chunks);
    tasks.for_each(|(p, at, out)| {
        let [ll, lh, hl, hh] = frame
            .bands(low, high, p)
            .map(|band| &band[at..][..out.len() / 4]);
        inverse_rows(isa, ll, lh, hl, hh, w, out);
    });
}

dispatched!(forward_rows = forward_body<T: Real, S: Slot<T>>(
    x: &[T],
    w: usize,
    ll: &mut [S],
    lh: &mut [S],
    hl: &mut [S],
    hh: &mut [S],
));

#[inline(always)]
fn forward_body<const FMA: bool, T: Real, S: Slot<T>>(
    x: &[T],
    w: usize,
    ll: &mut [S],
    lh: &mut [S],
    hl: &mut [S],
    hh: &mut [S],
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
            ll[i].put((s + u) * half);
            lh[i].put((s - u) * half);
            hl[i].put((d + v) * half);
            hh[i].put((d - v) * half);
        }
    }
}

dispatched!(inverse_rows = inverse_body<T: Real, S: Slot<T>>(
    ll: &[T],
    lh: &[T],
    hl: &[T],
    hh: &[T],
    w: usize,
    out: &mut [S],
));

#[inline(always)]
fn inverse_body<const FMA: bool, T: Real, S: Slot<T>>(
    ll: &[T],
    lh: &[T],
    hl: &[T],
    hh: &[T],
    w: usize,
    out: &mut [S],
) {
    let half = T::from_f64(0.5);
    let bands = ll
        .chunks_exact(w)
        .zip(lh.chunks_exact(w))
        .zip(hl.chunks_exact(w))
        .zip(hh.chunks_exact(w));
    for (two, (((ll, lh), hl), hh)) in out.chunks_exact_mut(4 * w).zip(bands) {
        let (upper, lower) = two.split_at_mut(2 * w);
        let (upper, lower) = (upper.as_chunks_mut::<2>().0, lower.as_chunks_mut::<2>().0);
        for i in 0..w {
            let (s, u) = (ll[i] + lh[i], ll[i] - lh[i]);
            let (d, v) = (hl[i] + hh[i], hl[i] - hh[i]);
            upper[i][0].put((s + d) * half);
            upper[i][1].put((s - d) * half);
            lower[i][0].put((u + v) * half);
            lower[i][1].put((u - v) * half);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::dispatch::{Isa, detected};
    use super::*;

    /// Elementwise sums in one order: the same bits on every instruction set, at every width.
    #[test]
    fn instruction_sets_agree_to_the_bit() {
        for w in (1..=40).chain([67, 128]) {
            let x: Vec<f32> = (0..8 * w).map(|i| (i as f32 * 0.37).sin()).collect();
            let run = |isa| {
                let mut bands = [(); 4].map(|()| vec![f32::NAN; 2 * w]);
                let [ll, lh, hl, hh] = &mut bands;
                forward_rows(isa, &x, w, ll, lh, hl, hh);
                let mut back = vec![f32::NAN; 8 * w];
                inverse_rows(isa, ll, lh, hl, hh, w, &mut back);
                (bands, back)
            };
            let (bands, back) = run(Isa::Portable);
            assert!(x.iter().zip(&back).all(|(a, b)| (a - b).abs() < 1e-6));
            for isa in [Isa::Avx2, Isa::Avx512] {
                if isa <= detected() {
                    assert!(
                        run(isa) == (bands.clone(), back.clone()),
                        "{isa:?}, width {w}"
                    );
                }
            }
        }
    }
}
