//! Pictures with 16 channels side by side at every pixel, the layout in which a vector register holds one pixel:
//! (N, ceil(C / 16), H, W, 16), the last block filled up with zeros, optionally inside a border of zeros.

use super::shared::{Aligned, SharedMut, aligned, scratch};
use super::transpose::transpose16;
use rayon::prelude::*;

/// Channels side by side.
pub(crate) const BLOCK: usize = 16;

/// Sizes of a batch of pictures in blocks of channels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Blocked {
    pub n: usize,
    pub c: usize,
    pub h: usize,
    pub w: usize,
    /// Lines and columns of zeros above and to the left.
    pub before: usize,
    /// Lines and columns in all.
    pub ph: usize,
    pub pw: usize,
}

impl Blocked {
    /// Blocks of channels.
    pub(crate) fn blocks(&self) -> usize {
        self.c.div_ceil(BLOCK)
    }

    /// Floats of one block of one picture.
    pub(crate) fn plane(&self) -> usize {
        self.ph * self.pw * BLOCK
    }

    /// Floats of the batch.
    pub(crate) fn len(&self) -> usize {
        self.n * self.blocks() * self.plane()
    }

    /// Where pixel `p` of h * w lies within a plane.
    fn at(&self, p: usize) -> usize {
        ((p / self.w + self.before) * self.pw + p % self.w + self.before) * BLOCK
    }

    /// From x (n, c, h, w).
    pub(crate) fn pack(&self, x: &[f32]) -> Aligned {
        let mut out = aligned(self.len());
        let pixels = self.h * self.w;
        assert_eq!(x.len(), self.n * self.c * pixels);
        out.par_chunks_mut(self.plane().max(1))
            .enumerate()
            .with_min_len(2)
            .for_each(|(task, out)| {
                let (n, first) = (task / self.blocks(), task % self.blocks() * BLOCK);
                let channels = BLOCK.min(self.c - first);
                let x = &x[(n * self.c + first) * pixels..][..channels * pixels];
                self.clear_border(out);
                self.pack_block(x, channels, out);
            });
        out
    }

    fn clear_border(&self, out: &mut [f32]) {
        let (line, side) = (self.pw * BLOCK, self.before * BLOCK);
        let inside = self.w * BLOCK;
        out[..self.before * line].fill(0.0);
        out[(self.before + self.h) * line..].fill(0.0);
        for line in out[self.before * line..][..self.h * line].chunks_exact_mut(line) {
            line[..side].fill(0.0);
            line[side + inside..].fill(0.0);
        }
    }

    pub(crate) fn pack_block(&self, x: &[f32], channels: usize, out: &mut [f32]) {
        let pixels = self.h * self.w;
        let mut corner = [0f32; BLOCK * BLOCK];
        let mut spill = [0f32; BLOCK];
        for p in (0..pixels).step_by(BLOCK) {
            let count = BLOCK.min(pixels - p);
            let whole = count == BLOCK && channels == BLOCK;
            if !whole {
                corner.fill(0.0);
                for (row, x) in corner.chunks_exact_mut(BLOCK).zip(x.chunks_exact(pixels)) {
                    row[..count].copy_from_slice(&x[p..p + count]);
                }
            }
            let src: [*const f32; BLOCK] = std::array::from_fn(|c| match whole {
                true => x[c * pixels + p..][..BLOCK].as_ptr(),
                false => corner[c * BLOCK..].as_ptr(),
            });
            let dst: [*mut f32; BLOCK] = std::array::from_fn(|i| match i < count {
                true => out[self.at(p + i)..][..BLOCK].as_mut_ptr(),
                false => spill.as_mut_ptr(),
            });
            // SAFETY: every source and destination was sliced to 16 floats above; sources are only read, and
            // destinations lie in another buffer.
            unsafe { transpose16(&src, &dst) };
        }
    }

    /// To (n, c, h, w).
    pub(crate) fn unpack(&self, x: &[f32]) -> Vec<f32> {
        let pixels = self.h * self.w;
        let mut out = scratch(self.n * self.c * pixels);
        assert_eq!(x.len(), self.len());
        let shared = SharedMut::new(&mut out);
        x.par_chunks(self.plane().max(1))
            .enumerate()
            .with_min_len(2)
            .for_each(|(task, x)| {
                let (n, first) = (task / self.blocks(), task % self.blocks() * BLOCK);
                let channels = BLOCK.min(self.c - first);
                // SAFETY: each task has channels of its own.
                let out = unsafe { shared.slice((n * self.c + first) * pixels, channels * pixels) };
                self.unpack_block(x, channels, out);
            });
        out
    }

    pub(crate) fn unpack_block(&self, x: &[f32], channels: usize, out: &mut [f32]) {
        let pixels = self.h * self.w;
        let mut corner = [0f32; BLOCK * BLOCK];
        let zero = [0f32; BLOCK];
        for p in (0..pixels).step_by(BLOCK) {
            let count = BLOCK.min(pixels - p);
            let whole = count == BLOCK && channels == BLOCK;
            let src: [*const f32; BLOCK] = std::array::from_fn(|i| match i < count {
                true => x[self.at(p + i)..][..BLOCK].as_ptr(),
                false => zero.as_ptr(),
            });
            let dst: [*mut f32; BLOCK] = std::array::from_fn(|c| match whole {
                true => out[c * pixels + p..][..BLOCK].as_mut_ptr(),
                false => corner[c * BLOCK..].as_mut_ptr(),
            });
            // SAFETY: as in `pack_block`.
            unsafe { transpose16(&src, &dst) };
            if !whole {
                for (row, out) in corner.chunks_exact(BLOCK).zip(out.chunks_exact_mut(pixels)) {
                    out[p..p + count].copy_from_slice(&row[..count]);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packing_and_unpacking_move_every_value_to_its_place() {
        for (n, c, h, w, before, after) in [
            (1, 1, 1, 1, 0, 0),
            (2, 16, 4, 4, 0, 0),
            (3, 21, 5, 7, 1, 3),
            (1, 40, 8, 6, 1, 1),
        ] {
            let layout = Blocked {
                n,
                c,
                h,
                w,
                before,
                ph: h + before + after,
                pw: w + before + after,
            };
            let x: Vec<f32> = (1..=n * c * h * w).map(|i| i as f32).collect();
            let packed = layout.pack(&x);
            for (at, v) in packed.iter().enumerate() {
                let (lane, at) = (at % BLOCK, at / BLOCK);
                let (px, at) = (at % layout.pw, at / layout.pw);
                let (py, at) = (at % layout.ph, at / layout.ph);
                let ch = at % layout.blocks() * BLOCK + lane;
                let inside = ch < c
                    && (before..before + h).contains(&py)
                    && (before..before + w).contains(&px);
                let want = match inside {
                    true => {
                        x[((at / layout.blocks() * c + ch) * h + py - before) * w + px - before]
                    }
                    false => 0.0,
                };
                assert_eq!(*v, want, "{layout:?} y {py} x {px} channel {ch}");
            }
            assert_eq!(layout.unpack(&packed), x, "{layout:?}");
        }
    }
}
