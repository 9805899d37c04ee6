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

dispatched!(
    /// `out[i] = sum over runs and k of pool[at + k] * x[(col + k) * stride + i]`, in that order for every i.
    combine = combine_body<T: Real, S: Slot<T>>(
        out: &mut [S], x: &[T], stride: usize, runs: &[Run], pool: &[T],
    )
);

#[inline(always)]
fn combine_body<const FMA: bool, T: Real, S: Slot<T>>(
    out: &mut [S],
    x: &[T],
    stride: usize,
    runs: &[Run],
    pool: &[T],
) {
    let n = out.len();
    let mut at = 0;
    while wide_registers::<FMA, T>() && at + WIDEST <= n {
        block::<FMA, WIDEST, T, S>(&mut out[at..], x, at, stride, runs, pool);
        at += WIDEST;
    }
    while at + WIDE <= n {
        block::<FMA, WIDE, T, S>(&mut out[at..], x, at, stride, runs, pool);
        at += WIDE;
    }
    if at < n && n >= LANES {
        if at + LANES <= n {
            block::<FMA, LANES, T, S>(&mut out[at..], x, at, stride, runs, pool);
        }
        // The last block may overlap the one before: the same values again.
        let at = n - LANES;
        block::<FMA, LANES, T, S>(&mut out[at..], x, at, stride, runs, pool);
    } else {
        while at < n {
            block::<FMA, 1, T, S>(&mut out[at..], x, at, stride, runs, pool);
            at += 1;
        }
    }
}

#[inline(always)]
fn block<const FMA: bool, const N: usize, T: Real, S: Slot<T>>(
    out: &mut [S],
    x: &[T],
    at: usize,
    stride: usize,
    runs: &[Run],
    pool: &[T],
) {
    let mut acc = [T::zero(); N];
    for run in runs {
        add::<FMA, N, T>(&mut acc, x, at, stride, run, pool);
    }
    for (o, a) in out.iter_mut().zip(acc) {
        o.put(a);
    }
}

/// Whether the registers hold [`WIDEST`] sums: not those of SSE, nor 256 bits of f64.
#[inline(always)]
fn wide_registers<const FMA: bool, T>() -> bool {
    FMA && size_of::<T>() == 4
}

#[inline(always)]
fn add<const FMA: bool, const N: usize, T: Real>(
    acc: &mut [T; N],
    x: &[T],
    at: usize,
    stride: usize,
    run: &Run,
    pool: &[T],
) {
    let weights = &pool[run.at as usize..][..run.len as usize];
    for (k, &weight) in weights.iter().enumerate() {
        let x = &x[(run.col + k) * stride + at..][..N];
        for (a, &v) in acc.iter_mut().zip(x) {
            *a = if FMA {
                weight.fused(v, *a)
            } else {
                *a + weight * v
            };
        }
    }
}

dispatched!(
    /// Two such sums of one line by turns: `out[2 i + p] = sum over runs[p] and k of pool[at + k] * x[col + k + i]`.
    combine_pairs = pairs_body<T: Real, S: Slot<T>>(
        out: &mut [S], x: &[T], runs: [&[Run]; 2], pool: &[T],
    )
);

#[inline(always)]
fn pairs_body<const FMA: bool, T: Real, S: Slot<T>>(
    out: &mut [S],
    x: &[T],
    runs: [&[Run]; 2],
    pool: &[T],
) {
    let out = out.as_chunks_mut::<2>().0;
    let n = out.len();
    let mut at = 0;
    while wide_registers::<FMA, T>() && at + WIDE <= n {
        pairs::<FMA, WIDE, T, S>(&mut out[at..], x, at, runs, pool);
        at += WIDE;
    }
    while at + LANES <= n {
        pairs::<FMA, LANES, T, S>(&mut out[at..], x, at, runs, pool);
        at += LANES;
    }
    if at < n && n >= LANES {
        // Overlaps the block before: the same values again.
        let at = n - LANES;
        pairs::<FMA, LANES, T, S>(&mut out[at..], x, at, runs, pool);
    } else {
        while at < n {
            pairs::<FMA, 1, T, S>(&mut out[at..], x, at, runs, pool);
            at += 1;
        }
    }
}

#[inline(always)]
fn pairs<const FMA: bool, const N: usize, T: Real, S: Slot<T>>(
    out: &mut [[S; 2]],
    x: &[T],
    at: usize,
    [even, odd]: [&[Run]; 2],
    pool: &[T],
) {
    let (mut e, mut o) = ([T::zero(); N], [T::zero(); N]);
    for run in even {
        add::<FMA, N, T>(&mut e, x, at, 1, run, pool);
    }
    for run in odd {
        add::<FMA, N, T>(&mut o, x, at, 1, run, pool);
    }
    for ((pair, e), o) in out.iter_mut().zip(e).zip(o) {
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
                combine(isa, &mut got, &x, stride, &runs, &pool);
                for (g, w) in got.iter().zip(&want) {
                    assert!(
                        (*g as f64 - w).abs() < 2e-6,
                        "{isa:?}, {n} values: {g} for {w}"
                    );
                }
            }
        }
    }

    /// The same of pairs: both sums are bit by bit those of `combine`.
    #[test]
    fn pairs_are_two_sums_by_turns() {
        let pool: Vec<f32> = (0..9).map(|k| 0.2 * k as f32 - 0.7).collect();
        let run = |col, at, len| Run { col, at, len };
        let (even, odd) = ([run(0, 0, 4), run(107, 4, 5)], [run(1, 3, 4)]);
        let x: Vec<f32> = (0..220).map(|i| (i as f32 * 0.7).sin()).collect();
        for n in 0..=100 {
            for isa in [Isa::Portable, Isa::Avx2, Isa::Avx512] {
                let mut want = [vec![0.0; n], vec![0.0; n]];
                combine(isa, &mut want[0], &x, 1, &even, &pool);
                combine(isa, &mut want[1], &x, 1, &odd, &pool);
                let mut got = vec![f32::NAN; 2 * n];
                combine_pairs(isa, &mut got, &x, [&even, &odd], &pool);
                for (i, pair) in got.chunks(2).enumerate() {
                    assert_eq!(pair, [want[0][i], want[1][i]], "{isa:?}, {n} pairs");
                }
            }
        }
    }

    #[test]
    fn deinterleaving_parts_even_and_odd() {
        for n in 0..70usize {
            let x: Vec<f64> = (0..n).map(|i| i as f64).collect();
            for isa in [Isa::Portable, Isa::Avx2, Isa::Avx512] {
                let (mut even, mut odd) = (vec![f64::NAN; n.div_ceil(2)], vec![f64::NAN; n / 2]);
                deinterleave(isa, &x, &mut even, &mut odd);
                assert!(even.iter().enumerate().all(|(i, &v)| v == 2.0 * i as f64));
                assert!(
                    odd.iter()
                        .enumerate()
                        .all(|(i, &v)| v == 2.0 * i as f64 + 1.0)
                );
            }
        }
    }
}
