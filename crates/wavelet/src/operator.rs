//! Analysis and synthesis along one axis as matrices, boundary mode included.
//!
//! Both are linear whatever the mode, so the gradient of either is its transpose, at the ends too.

use crate::matrix::{Builder, Operator};
use crate::{Mode, Wavelet};

/// Analysis of a signal of length `n`: 2 m rows, the m low coefficients above the m high ones.
///
/// `c[o] = sum_j f[j] x[2 o + s - j]`, with s = 1, or F / 2 in periodization.
pub(crate) fn analysis(w: &Wavelet, mode: Mode, n: usize) -> Operator {
    let taps = w.filter_len();
    let m = mode.band_len(n, taps);
    let (shift, even) = match mode {
        Mode::Periodization => (taps / 2, 2 * m),
        _ => (1, n),
    };
    let mut out = Builder::new(n);
    for filter in [w.dec_lo(), w.dec_hi()] {
        let reversed: Vec<f64> = filter.iter().rev().copied().collect();
        let inner = out.share(&reversed);
        for o in 0..m {
            let last = 2 * o + shift;
            if last + 1 >= taps && last < n {
                out.run(inner, last + 1 - taps);
            } else {
                for (j, &f) in filter.iter().enumerate() {
                    let row = &mut out.row;
                    // In periodization an odd signal's last sample comes twice.
                    let mut add = |i: usize, weight| row.push((i.min(n - 1), weight));
                    mode.extend(last as isize - j as isize, even, f, &mut add);
                }
            }
            out.end_row();
        }
    }
    out.finish()
}

/// Synthesis of the first `n` samples from bands of length `m`: n rows, 2 m columns.
///
/// `x[k] = sum_i c[i] f[k + s - 2 i]` with s = F - 2, or F / 2 - 1 around the circle of m in periodization.
pub(crate) fn synthesis(w: &Wavelet, mode: Mode, m: usize, n: usize) -> Operator {
    let half = w.filter_len() / 2;
    let shift = match mode {
        Mode::Periodization => half - 1,
        _ => 2 * half - 2,
    };
    let mut out = Builder::of_bands(m);
    // Taps of either parity, for rising i.
    let filters = [w.rec_lo(), w.rec_hi()].map(|filter| {
        [0, 1].map(|parity| -> Vec<f64> {
            let taps = filter.iter().skip(parity).step_by(2);
            taps.rev().copied().collect()
        })
    });
    let inner = filters
        .each_ref()
        .map(|band| band.each_ref().map(|taps| out.share(taps)));
    for k in 0..n {
        let (parity, last) = ((k + shift) % 2, (k + shift) / 2);
        for band in [0, 1] {
            if last + 1 >= half && last < m {
                out.run(inner[band][parity], band * m + last + 1 - half);
                continue;
            }
            for (tap, &f) in filters[band][parity].iter().enumerate() {
                let i = last as isize - (half - 1 - tap) as isize;
                let i = match mode {
                    Mode::Periodization => i.rem_euclid(m as isize),
                    _ => i,
                };
                if (0..m as isize).contains(&i) {
                    out.row.push((band * m + i as usize, f));
                }
            }
        }
        out.end_row();
    }
    out.finish()
}
