//! The inner loop of every separable transform: a weighted sum of shifted rows, vectorised along the row.

use super::dispatch::dispatched;
use super::{Real, Slot};
use crate::matrix::Run;

/// Values summed side by side in registers: two AVX-512 vectors of f32.
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
    for (o, a) in out.iter_mut().zip(acc) {
        o.put(a);
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

dispatched!(
    /// Even and odd samples together.
    interleave = interleave_body<T: Real, S: Slot<T>>(even: &[T], odd: &[T], out: &mut [S])
);

#[inline(always)]
fn interleave_body<const FMA: bool, T: Real, S: Slot<T>>(even: &[T], odd: &[T], out: &mut [S]) {
    let (pairs, rest) = out.as_chunks_mut::<2>();
    for (([a, b], &e), &o) in pairs.iter_mut().zip(even).zip(odd) {
        a.put(e);
        b.put(o);
    }
    if let Some(last) = rest.first_mut() {
        last.put(even[pairs.len()]);
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

    #[test]
    fn interleaving_undoes_deinterleaving() {
        for n in 0..70usize {
            let x: Vec<f64> = (0..n).map(|i| i as f64).collect();
            for isa in [Isa::Portable, Isa::Avx2, Isa::Avx512] {
                let (mut even, mut odd) = (vec![0.0; n.div_ceil(2)], vec![0.0; n / 2]);
                deinterleave(isa, &x, &mut even, &mut odd);
                assert!(even.iter().enumerate().all(|(i, &v)| v == 2.0 * i as f64));
                let mut back = vec![f64::NAN; n];
                interleave(isa, &even, &odd, &mut back);
                assert_eq!(back, x);
            }
        }
    }
}
