//! Pictures with a border of zeros, several of them side by side in one flat row per channel.
//!
//! A convolution with a K x K kernel, stride 1 and "same" padding becomes, on rows of width `w + K - 1` laid end to
//! end, a sum of K*K shifted copies: output position p = y * pw + x reads input position p + ky * pw + kx. Positions
//! with x >= w or between pictures come out as rubbish and are not written back.

use super::shared::{SharedMut, scratch};
use rayon::prelude::*;

/// Where everything lies in the flat rows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    pub n: usize,
    pub h: usize,
    pub w: usize,
    /// Side of the kernel.
    pub k: usize,
    /// Width and plane size of one padded picture.
    pub pw: usize,
    pub plane: usize,
    /// Pictures per group: small pictures share a row, so that vector tails are rare.
    pub per_group: usize,
    /// Floats of one channel's row in a group, with room for reads past the end.
    pub row: usize,
}

/// The largest vector tile of the kernels, in floats.
pub(crate) const TILE: usize = 48;

impl Plan {
    pub(crate) fn new(n: usize, h: usize, w: usize, k: usize) -> Self {
        let pw = w + k - 1;
        let plane = (h + k - 1) * pw;
        let per_group = (1200 / plane).clamp(1, n.max(1));
        let row = per_group * plane + (k - 1) * pw + TILE;
        Self {
            n,
            h,
            w,
            k,
            pw,
            plane,
            per_group,
            row,
        }
    }

    pub(crate) fn groups(&self) -> usize {
        self.n.div_ceil(self.per_group)
    }

    /// Pictures in group `g`.
    pub(crate) fn members(&self, g: usize) -> usize {
        self.per_group.min(self.n - g * self.per_group)
    }

    /// Output positions of group `g` that hold results.
    pub(crate) fn positions(&self, g: usize) -> usize {
        (self.members(g) - 1) * self.plane + self.h * self.pw
    }

    /// Copies x (n, c, h, w) into padded rows, groups x c x row, the picture starting at row and column `at`.
    pub(crate) fn pad(&self, x: &[f32], c: usize, at: usize) -> Vec<f32> {
        let mut out = scratch(self.groups() * c * self.row);
        let shared = SharedMut::new(&mut out);
        (0..self.groups() * c)
            .into_par_iter()
            .with_min_len(4)
            .for_each(|task| {
                let (g, ch) = (task / c, task % c);
                // SAFETY: each task has a row of its own.
                let row = unsafe { shared.slice(task * self.row, self.row) };
                self.pad_row(x, c, at, g, ch, row);
            });
        out
    }

    fn pad_row(&self, x: &[f32], c: usize, at: usize, g: usize, ch: usize, row: &mut [f32]) {
        let (h, w, pw) = (self.h, self.w, self.pw);
        let mut filled = 0;
        for member in 0..self.members(g) {
            let picture = (g * self.per_group + member) * c + ch;
            let from = &x[picture * h * w..][..h * w];
            for (y, line) in from.chunks_exact(w).enumerate() {
                let start = member * self.plane + (y + at) * pw + at;
                row[filled..start].fill(0.0);
                row[start..start + w].copy_from_slice(line);
                filled = start + w;
            }
        }
        row[filled..].fill(0.0);
    }

    /// Copies the valid ones of positions `from..from + part.len()` of group `g` into the pictures' plane `ch` of `c`.
    ///
    /// # Safety
    /// No other thread may write the same positions of the same channel.
    pub(crate) unsafe fn unpad(
        &self,
        part: &[f32],
        from: usize,
        g: usize,
        ch: usize,
        c: usize,
        y: &SharedMut<'_, f32>,
    ) {
        let end = from + part.len();
        let mut p = from;
        while p < end {
            let (member, inside) = (p / self.plane, p % self.plane);
            let (line, column) = (inside / self.pw, inside % self.pw);
            let next_line = p - column + self.pw;
            if line < self.h && column < self.w {
                let len = (self.w - column).min(end - p);
                let picture = (g * self.per_group + member) * c + ch;
                let start = (picture * self.h + line) * self.w + column;
                // SAFETY: the caller's promise.
                let to = unsafe { y.slice(start, len) };
                to.copy_from_slice(&part[p - from..][..len]);
            }
            p = next_line;
        }
    }
}
