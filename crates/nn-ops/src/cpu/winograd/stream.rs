//! Layers whose transformed weights no second cache holds. Each weight is read once per chunk of tiles, transformed into
//! the cache a few channels at a time, and used there for all tiles of the chunk: memory moves the 9 numbers of a
//! kernel, not the 36 of its transform, and nothing is kept between calls.
//!
//! Sums run over the input channels in order, as they do elsewhere, so the results are the same bits.

use super::kernels::{Source, transform_kernels};
use super::product::{self, Shares, product};
use super::{BLOCK, POINTS, Sizes, transform_back, transform_tiles};
use crate::cpu::epilogue::Epilogue;
use crate::cpu::planes::View;
use crate::cpu::shared::{SharedMut, aligned};
use rayon::prelude::*;

/// Input channels whose transforms are in the cache at a time.
const DEPTH: usize = 32;
/// Tiles that go together: with their sums for 64 output channels about half a second cache.
const TILES: usize = 66;
/// Tiles of one task of the input's transform.
const PART: usize = 6;

/// As [`super::forward`] with weights as they are.
///
/// # Safety
/// As there.
pub(super) unsafe fn forward(
    s: &Sizes,
    x: View<'_>,
    w: Source<'_>,
    y: View<'_>,
    epilogue: &Epilogue<'_>,
) {
    let (ci, blocks) = (s.ci_all(), s.co_all() / BLOCK);
    let chunks = s.tiles().div_ceil(TILES).max(1);
    let chunk = s.tiles().div_ceil(chunks).next_multiple_of(product::ROWS);
    let shares = Shares::new(blocks);
    let most = shares.most();
    let stride = chunk * ci + BLOCK;
    let mut v = aligned(POINTS * stride);
    for first in (0..s.tiles()).step_by(chunk.max(1)) {
        let count = chunk.min(s.tiles() - first);
        let shared = SharedMut::new(&mut v);
        (0..count.div_ceil(PART)).into_par_iter().for_each(|part| {
            let (from, some) = (part * PART, PART.min(count - part * PART));
            // SAFETY: each task has tiles of its own; the pictures are as the caller promises.
            unsafe { transform_tiles(s, x, first + from, some, shared, from * ci, stride) };
        });
        (0..shares.count).into_par_iter().for_each_init(
            || {
                (
                    aligned(POINTS * (DEPTH * most + 1) * BLOCK),
                    aligned(POINTS * chunk * most * BLOCK),
                )
            },
            |(u, m), task| {
                let (block, some) = shares.group(task);
                for from in (0..ci).step_by(DEPTH) {
                    let depth = DEPTH.min(ci - from);
                    // Not a power of two apart, or the 36 places of a kernel would share a set of the first cache.
                    let point = some * depth * BLOCK + BLOCK;
                    for b in 0..some {
                        for c in (0..depth).step_by(BLOCK) {
                            let at = (b * depth + c) * BLOCK;
                            // SAFETY: the buffer is this task's.
                            unsafe {
                                let u = SharedMut::new(u);
                                transform_kernels(w, s, block + b, from + c, u, at, point);
                            }
                        }
                    }
                    for xi in 0..POINTS {
                        product(
                            count,
                            depth,
                            some,
                            &v[xi * stride + from..],
                            (ci, 1),
                            &u[xi * point..][..some * depth * BLOCK],
                            (depth * BLOCK, BLOCK),
                            &mut m[xi * count * some * BLOCK..][..count * some * BLOCK],
                            from > 0,
                        );
                    }
                }
                // SAFETY: tasks have output blocks of their own; the rest is the caller's promise.
                unsafe { transform_back(s, m, first, count, block, some, y, epilogue) };
            },
        );
    }
}
