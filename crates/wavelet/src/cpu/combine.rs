//! The inner loop of every separable transform: a weighted sum of shifted rows, vectorised along the row.

use super::dispatch::dispatched;
use super::{Real, Slot};
use crate::matrix::Run;

/// Values summed side by side in registers: four AVX-512 vectors of f32, enough to hide a multiply-add's latency.
const WIDEST: usize = 64;
/// Half of that, where there are fewer or smaller registers, and for what is left.
const WIDE: usize = 32;
/// Then, for what is left, one.
const LANES: usize = 16;

/// Samples in two places: those of columns below `cut`, and the rest.
#[derive(Debug, Clone, Copy)]
pub(super) struct Parted<'a, T> {
    pub parts: [&'a [T]; 2],
    pub cut: usize,
}

impl<'a, T> Parted<'a, T> {
    /// All in one place.
    pub fn whole(x: &'a [T]) -> Self {
        let cut = usize::MAX;
        Self {
            parts: [x, &[]],
            cut,
        }
    }

    /// Where column `col` is, and its place there.
    #[inline(always)]
    fn column(&self, col: usize) -> (&'a [T], usize) {
        match col.checked_sub(self.cut) {
            Some(col) => (self.parts[1], col),
            None => (self.parts[0], col),
        }
    }
}

dispatched!(
    /// `out[i] = sum over runs and k of pool[at + k] * x[(col + k) * stride + i]`, in that order for every i. No run goes
    /// from one part of the samples to the other.
    combine = combine_body<T: Real, S: Slot<T>>(
        out: &mut [S], x: Parted<'_, T>, stride: usize, runs: &[Run], pool: &[T],
    )
);

#[inline(always)]
fn combine_body<const FMA: bool, T: Real, S: Slot<T>>(
    out: &mut [S],
    x: Parted<'_, T>,
    stride: usize,
    runs: &[Run],
    pool: &[T],
) {
    let n = out.len();
    let mut at = 0;
    while wide_registers::<FMA, T>() && at + WIDEST <= n {
        block::<FMA, { WIDEST / LANES }, LANES, T, S>(&mut out[at..], x, at, stride, runs, pool);
        at += WIDEST;
    }
    while at + WIDE <= n {
        block::<FMA, { WIDE / LANES }, LANES, T, S>(&mut out[at..], x, at, stride, runs, pool);
        at += WIDE;
    }
    if at < n && n >= LANES {
        if at + LANES <= n {
            block::<FMA, 1, LANES, T, S>(&mut out[at..], x, at, stride, runs, pool);
        }
        // The last block may overlap the one before: the same values again.
        let at = n - LANES;
        block::<FMA, 1, LANES, T, S>(&mut out[at..], x, at, stride, runs, pool);
    } else {
        while at < n {
            block::<FMA, 1, 1, T, S>(&mut out[at..], x, at, stride, runs, pool);
            at += 1;
        }
    }
}

/// `M` vectors of `N` values.
#[inline(always)]
fn block<const FMA: bool, const M: usize, const N: usize, T: Real, S: Slot<T>>(
    out: &mut [S],
    x: Parted<'_, T>,
    at: usize,
    stride: usize,
    runs: &[Run],
    pool: &[T],
) {
    let mut acc = [[T::zero(); N]; M];
    for run in runs {
        let weights = &pool[run.at as usize..][..run.len as usize];
        let (x, col) = x.column(run.col);
        for (k, &weight) in weights.iter().enumerate() {
            let x = &x[(col + k) * stride + at..][..M * N];
            for (acc, x) in acc.iter_mut().zip(x.as_chunks::<N>().0) {
                for (a, &v) in acc.iter_mut().zip(x) {
                    *a = if FMA {
                        weight.fused(v, *a)
                    } else {
                        *a + weight * v
                    };
                }
            }
        }
    }
    for (out, acc) in out.as_chunks_mut::<N>().0.iter_mut().zip(acc) {
        for (o, a) in out.iter_mut().zip(acc) {
            o.put(a);
        }
    }
}

/// Whether the registers hold [`WIDEST`] sums: not those of SSE, nor 256 bits of f64.
#[inline(always)]
fn wide_registers<const FMA: bool, T>() -> bool {
    FMA && size_of::<T>() == 4
}

dispatched!(
    /// Two filters at once, `out[f]` by `runs[f]`: the same sums, with samples read once where both refer to the same.
    combine_two = two_body<T: Real>(
        out: [&mut [T]; 2], x: Parted<'_, T>, stride: usize, runs: [&[Run]; 2], pool: &[T],
    )
);

#[inline(always)]
fn two_body<const FMA: bool, T: Real>(
    [a, b]: [&mut [T]; 2],
    x: Parted<'_, T>,
    stride: usize,
    runs: [&[Run]; 2],
    pool: &[T],
) {
    let n = a.len().min(b.len());
    let mut together = runs[0].iter().zip(runs[1]);
    let alike =
        runs[0].len() == runs[1].len() && together.all(|(a, b)| (a.col, a.len) == (b.col, b.len));
    if !alike || n < LANES {
        combine_body::<FMA, T, T>(a, x, stride, runs[0], pool);
        combine_body::<FMA, T, T>(b, x, stride, runs[1], pool);
        return;
    }
    let mut at = 0;
    while at + WIDE <= n {
        two::<FMA, { WIDE / LANES }, T>([&mut a[at..], &mut b[at..]], x, at, stride, runs, pool);
        at += WIDE;
    }
    if at + LANES <= n {
        two::<FMA, 1, T>([&mut a[at..], &mut b[at..]], x, at, stride, runs, pool);
        at += LANES;
    }
    if at < n {
        // Overlaps the block before: the same values again.
        let at = n - LANES;
        two::<FMA, 1, T>([&mut a[at..], &mut b[at..]], x, at, stride, runs, pool);
    }
}

#[inline(always)]
fn two<const FMA: bool, const M: usize, T: Real>(
    [a, b]: [&mut [T]; 2],
    x: Parted<'_, T>,
    at: usize,
    stride: usize,
    runs: [&[Run]; 2],
    pool: &[T],
) {
    let mut acc = [[[T::zero(); LANES]; M]; 2];
    let of = |run: &Run| &pool[run.at as usize..][..run.len as usize];
    for (first, second) in runs[0].iter().zip(runs[1]) {
        let (x, col) = x.column(first.col);
        for (k, (&p, &q)) in of(first).iter().zip(of(second)).enumerate() {
            let x = &x[(col + k) * stride + at..][..M * LANES];
            let [a, b] = &mut acc;
            for ((a, b), x) in a.iter_mut().zip(b).zip(x.as_chunks::<LANES>().0) {
                for i in 0..LANES {
                    (a[i], b[i]) = match FMA {
                        true => (p.fused(x[i], a[i]), q.fused(x[i], b[i])),
                        false => (a[i] + p * x[i], b[i] + q * x[i]),
                    };
                }
            }
        }
    }
    for (out, acc) in [a, b].into_iter().zip(acc) {
        out[..M * LANES].copy_from_slice(acc.as_flattened());
    }
}

dispatched!(
    /// Even and odd samples together, as many pairs as there are.
    interleave = interleave_body<T: Real, S: Slot<T>>(even: &[T], odd: &[T], out: &mut [S])
);

#[inline(always)]
fn interleave_body<const FMA: bool, T: Real, S: Slot<T>>(even: &[T], odd: &[T], out: &mut [S]) {
    for ((pair, &e), &o) in out.as_chunks_mut::<2>().0.iter_mut().zip(even).zip(odd) {
        pair[0].put(e);
        pair[1].put(o);
    }
}

dispatched!(
    /// Even and odd samples apart.
    deinterleave = deinterleave_body<T: Real>(x: &[T], even: &mut [T], odd: &mut [T])
);

#[inline(always)]
fn deinterleave_body<const FMA: bool, T: Real>(x: &[T], even: &mut [T], odd: &mut [T]) {
    let (pairs, rest) = x.as_chunks::<2>();
    for ((&[a, b], e), o) in pairs.iter().zip(even.iter_mut()).zip(odd) {
        (*e, *o) = (a, b);
    }
    if let Some(last) = rest.first() {
        even[pairs.len()] = *last;
    }
}

#[cfg(test)]
mod tests {
    use super::super::dispatch::{Isa, detected};
    use super::*;

    /// Every length around the block sizes, on every instruction set this processor has, against the formula.
    #[test]
    fn combine_is_the_formula_at_every_length() {
        let pool: Vec<f32> = (0..7).map(|k| 0.3 * k as f32 - 0.8).collect();
        let run = |col, at, len| Run { col, at, len };
        let runs = [run(1, 0, 3), run(5, 2, 5)];
        for n in (0..=100).chain([256]) {
            let stride = n + 3;
            let x: Vec<f32> = (0..10 * stride + n)
                .map(|i| (i as f32 * 0.7).sin())
                .collect();
            let want: Vec<f64> = (0..n)
                .map(|i| {
                    runs.iter()
                        .flat_map(|r| (0..r.len as usize).map(move |k| (r, k)))
                        .map(|(r, k)| {
                            let v = x[(r.col + k) * stride + i];
                            pool[r.at as usize + k] as f64 * v as f64
                        })
                        .sum()
                })
                .collect();
            for isa in [Isa::Portable, Isa::Avx2, Isa::Avx512] {
                if isa > detected() {
                    continue;
                }
                let mut got = vec![f32::NAN; n];
                combine(isa, &mut got, Parted::whole(&x), stride, &runs, &pool);
                for (g, w) in got.iter().zip(&want) {
                    assert!(
                        (*g as f64 - w).abs() < 2e-6,
                        "{isa:?}, {n} values: {g} for {w}"
                    );
                }
            }
        }
    }

    /// Two at once are bit by bit what each is alone, whether or not they refer to the same samples.
    #[test]
    fn two_are_each_alone() {
        let pool: Vec<f32> = (0..9).map(|k| 0.2 * k as f32 - 0.7).collect();
        let run = |col, at, len| Run { col, at, len };
        let even = [run(0, 0, 4), run(7, 4, 5)];
        let (alike, other) = ([run(0, 3, 4), run(7, 1, 5)], [run(1, 3, 4)]);
        for n in 0..=100 {
            let values: Vec<f32> = (0..13 * n).map(|i| (i as f32 * 0.7).sin()).collect();
            let (low, high) = values.split_at(6 * n);
            let x = Parted {
                parts: [low, high],
                cut: 6,
            };
            for isa in [Isa::Portable, Isa::Avx2, Isa::Avx512] {
                for odd in [&alike[..], &other] {
                    let [mut p, mut q, mut a, mut b] = [(); 4].map(|()| vec![f32::NAN; n]);
                    combine(isa, &mut p, Parted::whole(&values), n, &even, &pool);
                    combine(isa, &mut q, x, n, odd, &pool);
                    combine_two(isa, [&mut a, &mut b], x, n, [&even, odd], &pool);
                    assert_eq!((a, b), (p, q), "{isa:?}, {n} values");
                }
            }
        }
    }

    #[test]
    fn interleaving_undoes_deinterleaving() {
        for n in 0..70usize {
            let x: Vec<f64> = (0..n).map(|i| i as f64).collect();
            for isa in [Isa::Portable, Isa::Avx2, Isa::Avx512] {
                let (mut even, mut odd) = (vec![0.0; n.div_ceil(2)], vec![0.0; n / 2]);
                deinterleave(isa, &x, &mut even, &mut odd);
                assert!(even.iter().enumerate().all(|(i, &v)| v == 2.0 * i as f64));
                let mut back = vec![f64::NAN; n / 2 * 2];
                interleave(isa, &even, &odd, &mut back);
                assert_eq!(back, x[..n / 2 * 2]);
            }
        }
    }
}
