//! The gradient of the weights, in the transformed domain: 36 matrix products over the tiles of the whole batch.

use super::product::{group, product};
use super::{POINTS, Sizes, transform, transform_tiles};
use crate::cpu::blocked::BLOCK;
use crate::cpu::lanes::{Lanes, dispatch};
use crate::cpu::planes::View;
use crate::cpu::shared::{SharedMut, aligned, scratch};
use rayon::prelude::*;

/// Transformed tiles kept at a time, in floats: half of a usual L3 cache.
const CHUNK: usize = 1 << 21;

/// Tiles `first..first + count` of the output's gradient, transformed: 36 planes `stride` apart, of count x channels, from
/// `at` on.
///
/// # Safety
/// Nobody may touch the tiles' places in `v` meanwhile.
#[inline(always)]
unsafe fn tiles_with<V: Lanes>(
    s: &Sizes,
    dy: &[f32],
    first: usize,
    count: usize,
    v: SharedMut<'_, f32>,
    at: usize,
    stride: usize,
) {
    let (layout, channels) = (s.output(), s.co_all());
    assert!(dy.len() == layout.len() && first + count <= s.tiles() && stride >= count * channels);
    let line = layout.pw * BLOCK;
    for t in 0..count {
        let (n, y, x) = s.tile(first + t);
        for block in 0..channels / BLOCK {
            let from = (n * layout.blocks() + block) * layout.plane() + y * line + x * BLOCK;
            // SAFETY: the layout holds whole tiles; the 36 places are the caller's promise, and `slice_at` bounds them.
            unsafe {
                let to = v.slice_at(
                    at + t * channels + block * BLOCK,
                    (POINTS - 1) * stride + BLOCK,
                );
                transform::gradient_tile::<V>(
                    dy.as_ptr().add(from),
                    (line, BLOCK),
                    to,
                    (6 * stride, stride),
                );
            }
        }
    }
}
dispatch!(
    (unsafe) transform_gradients,
    tiles_with,
    (s: &Sizes, dy: &[f32], first: usize, count: usize, v: SharedMut<'_, f32>, at: usize, stride: usize)
);

/// Gradients of one block of outputs and one input channel, from the transformed sums `u` (36 apart by `point`).
#[inline(always)]
unsafe fn kernels_with<V: Lanes>(u: &[f32], point: usize, taps: &mut [f32; 9 * BLOCK]) {
    assert!(u.len() >= (POINTS - 1) * point + BLOCK);
    // SAFETY: 36 places are read, the last as far as the assert says; the nine written fill `taps`.
    unsafe {
        transform::kernel_gradient_tile::<V>(
            u.as_ptr(),
            (6 * point, point),
            taps.as_mut_ptr(),
            (3 * BLOCK, BLOCK),
        );
    }
}
dispatch!(transform_sums, kernels_with, (u: &[f32], point: usize, taps: &mut [f32; 9 * BLOCK]));

/// Gradient of the weights (co, ci, 3, 3) from blocked pictures x ([`Sizes::input`]) and dy ([`Sizes::output`]).
pub(crate) fn weight_gradient(s: &Sizes, x: &mut [f32], dy: &[f32]) -> Vec<f32> {
    let x = View::of(x, &s.input());
    let (ci, co) = (s.ci_all(), s.co_all());
    let blocks = co / BLOCK;
    let group = group(blocks);
    let point = ci * co;
    let mut sums = aligned(POINTS * point);
    let chunk = (CHUNK / (POINTS * (ci + co)))
        .clamp(32, 2048)
        .min(s.tiles().max(1));
    let (sv, sd) = (chunk * ci + BLOCK, chunk * co + BLOCK);
    let (mut v, mut d) = (aligned(POINTS * sv), aligned(POINTS * sd));
    for first in (0..s.tiles()).step_by(chunk) {
        let count = chunk.min(s.tiles() - first);
        transform_chunk(s, x, dy, first, count, (&mut v, sv), (&mut d, sd));
        // One of the 36 products per task; within it the sum runs over tiles in order.
        sums.par_chunks_mut(point)
            .zip(v.par_chunks(sv))
            .zip(d.par_chunks(sd))
            .for_each(|((sums, v), d)| {
                for block in (0..blocks).step_by(group) {
                    let some = group.min(blocks - block);
                    let sums = &mut sums[block * BLOCK * ci..][..some * BLOCK * ci];
                    product(
                        ci,
                        count,
                        some,
                        v,
                        (1, ci),
                        &d[block * BLOCK..],
                        (BLOCK, co),
                        sums,
                        first > 0,
                    );
                }
            });
    }
    let mut dw = scratch(s.co * s.ci * 9);
    dw.par_chunks_mut(BLOCK * s.ci * 9)
        .enumerate()
        .for_each(|(block, dw)| {
            let start = block / group * group;
            let width = group.min(blocks - start) * BLOCK;
            let mut taps = [0f32; 9 * BLOCK];
            for c in 0..s.ci {
                let at = start * BLOCK * ci + c * width + (block - start) * BLOCK;
                transform_sums(&sums[at..], point, &mut taps);
                for (lane, dw) in dw.chunks_exact_mut(s.ci * 9).enumerate() {
                    for (t, out) in dw[c * 9..][..9].iter_mut().enumerate() {
                        *out = taps[t * BLOCK + lane];
                    }
                }
            }
        });
    dw
}

/// Transforms `count` tiles of both sides, a few per task.
fn transform_chunk(
    s: &Sizes,
    x: View<'_>,
    dy: &[f32],
    first: usize,
    count: usize,
    (v, sv): (&mut [f32], usize),
    (d, sd): (&mut [f32], usize),
) {
    const PART: usize = 16;
    let (ci, co) = (s.ci_all(), s.co_all());
    let (v, d) = (SharedMut::new(v), SharedMut::new(d));
    (0..count.div_ceil(PART)).into_par_iter().for_each(|part| {
        let (from, some) = (part * PART, PART.min(count - part * PART));
        // SAFETY: tasks cover disjoint tiles of every point; the pictures are only read.
        unsafe {
            transform_tiles(s, x, first + from, some, v, from * ci, sv);
            transform_gradients(s, dy, first + from, some, d, from * co, sd);
        }
    });
}
