//! Matrices turned about the diagonal, 16 x 16 floats at a time.

use crate::simd::{Isa, isa};

/// `to` (columns x rows) from `from` (rows x columns), both row by row.
pub(crate) fn transpose(from: &[f32], rows: usize, columns: usize, to: &mut [f32]) {
    assert!(from.len() == rows * columns && to.len() == from.len());
    let (r16, c16) = (rows / 16 * 16, columns / 16 * 16);
    for r in (0..r16).step_by(16) {
        for c in (0..c16).step_by(16) {
            let src = std::array::from_fn(|i| from[(r + i) * columns + c..][..16].as_ptr());
            let dst = std::array::from_fn(|i| to[(c + i) * rows + r..][..16].as_mut_ptr());
            // SAFETY: slices of 16 floats each, just bounded; those written are of another matrix than those read.
            unsafe { transpose16(&src, &dst) };
        }
    }
    for r in 0..rows {
        let done = if r < r16 { c16 } else { 0 };
        for c in done..columns {
            to[c * rows + r] = from[r * columns + c];
        }
    }
}

/// `dst[j][i] = src[i][j]` for 16 rows of 16.
///
/// # Safety
/// Every `src` must be readable and every `dst` writable for 16 floats, and no `dst` may overlap a `src`.
#[inline]
pub(crate) unsafe fn transpose16(src: &[*const f32; 16], dst: &[*mut f32; 16]) {
    #[cfg(target_arch = "x86_64")]
    if isa() == Isa::Avx512 {
        // SAFETY: the caller's promise, and `isa` found the instruction set.
        return unsafe { avx512(src, dst) };
    }
    let mut rows = [[0f32; 16]; 16];
    for (row, src) in rows.iter_mut().zip(src) {
        // SAFETY: the caller's promise.
        *row = unsafe { src.cast::<[f32; 16]>().read_unaligned() };
    }
    for (j, dst) in dst.iter().enumerate() {
        let column: [f32; 16] = std::array::from_fn(|i| rows[i][j]);
        // SAFETY: the caller's promise.
        unsafe { dst.cast::<[f32; 16]>().write_unaligned(column) };
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
unsafe fn avx512(src: &[*const f32; 16], dst: &[*mut f32; 16]) {
    use std::arch::x86_64::*;
    let pd = _mm512_castps_pd;
    let ps = _mm512_castpd_ps;
    // SAFETY: the caller's promise.
    let rows: [__m512; 16] = std::array::from_fn(|i| unsafe { _mm512_loadu_ps(src[i]) });
    // Within each 128-bit lane: pairs of rows, then quadruples, so that lane l of t[4 g + k] holds column 4 l + k of
    // rows 4 g .. 4 g + 4.
    let mut t = [_mm512_setzero_ps(); 16];
    for g in 0..4 {
        let r = &rows[4 * g..4 * g + 4];
        let (a, b) = (
            _mm512_unpacklo_ps(r[0], r[1]),
            _mm512_unpackhi_ps(r[0], r[1]),
        );
        let (c, d) = (
            _mm512_unpacklo_ps(r[2], r[3]),
            _mm512_unpackhi_ps(r[2], r[3]),
        );
        t[4 * g] = ps(_mm512_unpacklo_pd(pd(a), pd(c)));
        t[4 * g + 1] = ps(_mm512_unpackhi_pd(pd(a), pd(c)));
        t[4 * g + 2] = ps(_mm512_unpacklo_pd(pd(b), pd(d)));
        t[4 * g + 3] = ps(_mm512_unpackhi_pd(pd(b), pd(d)));
    }
    // Then a 4 x 4 transpose of the lanes.
    for k in 0..4 {
        let a = _mm512_shuffle_f32x4::<0x88>(t[k], t[4 + k]);
        let b = _mm512_shuffle_f32x4::<0xdd>(t[k], t[4 + k]);
        let c = _mm512_shuffle_f32x4::<0x88>(t[8 + k], t[12 + k]);
        let d = _mm512_shuffle_f32x4::<0xdd>(t[8 + k], t[12 + k]);
        // SAFETY: the caller's promise.
        unsafe {
            _mm512_storeu_ps(dst[k], _mm512_shuffle_f32x4::<0x88>(a, c));
            _mm512_storeu_ps(dst[4 + k], _mm512_shuffle_f32x4::<0x88>(b, d));
            _mm512_storeu_ps(dst[8 + k], _mm512_shuffle_f32x4::<0xdd>(a, c));
            _mm512_storeu_ps(dst[12 + k], _mm512_shuffle_f32x4::<0xdd>(b, d));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_size_is_turned() {
        for (rows, columns) in [
            (0, 3),
            (1, 1),
            (3, 40),
            (16, 16),
            (17, 33),
            (64, 48),
            (40, 15),
        ] {
            let from: Vec<f32> = (0..rows * columns).map(|i| i as f32).collect();
            let mut to = vec![-1.0; from.len()];
            transpose(&from, rows, columns, &mut to);
            for r in 0..rows {
                for c in 0..columns {
                    assert_eq!(
                        to[c * rows + r],
                        from[r * columns + c],
                        "{rows} x {columns}"
                    );
                }
            }
        }
    }
}
