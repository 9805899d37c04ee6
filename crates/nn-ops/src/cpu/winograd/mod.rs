//! Convolution with a 3 x 3 kernel, stride 1 and "same" padding by Winograd's minimal filtering (Lavin and Gray 2016,
//! arXiv 1509.09308): F(4 x 4, 3 x 3) makes 4 x 4 output pixels with 36 products instead of 144.
//!
//! A tile of 6 x 6 input pixels becomes 36 values per channel; for each of the 36 a matrix product over channels
//! follows, and its results become the tile of 4 x 4 output pixels. Channels lie side by side in registers
//! ([`Blocked`]). Every sum runs over the input channels in order, whatever the batch, the blocking and the threads.

mod gradient;
mod kernels;
mod product;
mod stream;
mod transform;

use super::blocked::{BLOCK, Blocked};
use super::epilogue::Epilogue;
use super::lanes::{Lanes, dispatch};
use super::planes::{Planes, View};
use super::shared::{SharedMut, aligned};
pub(crate) use gradient::weight_gradient;
pub(crate) use kernels::{Kernels, Packed, Source};
pub(super) use product::Shares;
use product::group;
use product::product;
use rayon::prelude::*;

/// Output pixels of a tile, along each axis.
const TILE: usize = 4;
/// Products per tile and channel.
const POINTS: usize = 36;
/// Transformed input of one task, in floats: half of a usual L2 cache.
const TASK: usize = 1 << 17;
/// Transformed weights that every task can read again and again, in floats.
const LIGHT: usize = 1 << 18;
/// Tiles that make up for transforming weights all at once.
const MANY: usize = 256;

/// Sizes of one call.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sizes {
    pub n: usize,
    pub ci: usize,
    pub co: usize,
    pub h: usize,
    pub w: usize,
}

impl Sizes {
    fn tiles_x(&self) -> usize {
        self.w.div_ceil(TILE)
    }
    fn tiles_y(&self) -> usize {
        self.h.div_ceil(TILE)
    }
    fn tiles(&self) -> usize {
        self.n * self.tiles_y() * self.tiles_x()
    }
    /// Floats of all transformed weights.
    fn transformed(&self) -> usize {
        POINTS * self.ci_all() * self.co_all()
    }
    /// Whether all weights are better transformed at once: where they fit into half of a usual second cache, or into a
    /// third one and there are enough tiles to make up for it. The sums are the same either way.
    fn at_once(&self) -> bool {
        self.light() || (self.transformed() <= 4 * LIGHT && self.tiles() >= MANY)
    }
    /// Whether the transformed weights are small enough to keep.
    pub(crate) fn light(&self) -> bool {
        self.transformed() <= LIGHT
    }
    /// Whether a plan, for pictures of this size, keeps the weights transformed: those that are small, and those of large
    /// pictures, whose tiles make up for reading four times as much.
    pub(crate) fn keep(&self) -> bool {
        let one = self.tiles_x() * self.tiles_y();
        self.light() || (self.transformed() <= 4 * LIGHT && one >= MANY / 4)
    }
    /// Input channels, filled up to whole blocks.
    fn ci_all(&self) -> usize {
        self.ci.next_multiple_of(BLOCK)
    }
    /// Output channels, filled up to whole blocks.
    fn co_all(&self) -> usize {
        self.co.next_multiple_of(BLOCK)
    }

    /// The input as tiles can read it: one pixel of border before, and enough after for the last tile.
    pub(crate) fn input(&self) -> Blocked {
        let (ph, pw) = (self.tiles_y() * TILE + 2, self.tiles_x() * TILE + 2);
        Blocked {
            n: self.n,
            c: self.ci,
            h: self.h,
            w: self.w,
            before: 1,
            ph,
            pw,
        }
    }

    /// The output as tiles write it: whole tiles, no border before.
    pub(crate) fn output(&self) -> Blocked {
        let (ph, pw) = (self.tiles_y() * TILE, self.tiles_x() * TILE);
        Blocked {
            n: self.n,
            c: self.co,
            h: self.h,
            w: self.w,
            before: 0,
            ph,
            pw,
        }
    }

    /// Picture and upper left pixel of a tile.
    fn tile(&self, t: usize) -> (usize, usize, usize) {
        let (tx, rest) = (t % self.tiles_x(), t / self.tiles_x());
        (
            rest / self.tiles_y(),
            rest % self.tiles_y() * TILE,
            tx * TILE,
        )
    }
}

/// The weights of a call.
#[derive(Clone, Copy)]
pub(crate) enum Weights<'a> {
    Plain(Source<'a>),
    /// Transformed before.
    Kept(&'a Kernels),
}

/// Tiles `first..first + count` of `x`, transformed: 36 planes `stride` apart, of count x channels, from `at` on.
///
/// # Safety
/// Nobody may write the pictures, or touch the tiles' places in `v`, meanwhile.
#[inline(always)]
unsafe fn tiles_with<V: Lanes>(
    s: &Sizes,
    x: View<'_>,
    first: usize,
    count: usize,
    v: SharedMut<'_, f32>,
    at: usize,
    stride: usize,
) {
    let (p, channels) = (x.planes, s.ci_all());
    assert!(first + count <= s.tiles() && stride >= count * channels);
    let line = p.line();
    let mut corner = [0f32; 36 * BLOCK];
    for t in 0..count {
        let (n, y, px) = s.tile(first + t);
        // The window's first line and column, from the plane's own; one pixel outside of the tile on each side.
        let (top, left) = ((y + p.before) as isize - 1, (px + p.before) as isize - 1);
        let inside = top >= 0 && left >= 0 && top as usize + 6 <= p.ph && left as usize + 6 <= p.pw;
        for block in 0..channels / BLOCK {
            // SAFETY: nobody writes it, by the caller's promise.
            let plane = unsafe { x.read(n, block) };
            let (src, line) = if inside {
                let from = (top as usize * p.pw + left as usize) * BLOCK;
                assert!(from + 5 * (line + BLOCK) + BLOCK <= plane.len());
                (plane[from..].as_ptr(), line)
            } else {
                window(plane, &p, top, left, &mut corner);
                (corner.as_ptr(), 6 * BLOCK)
            };
            // SAFETY: 6 x 6 pixels are readable by the assert or the corner's size; the 36 places written are this
            // task's, by the caller's promise, and `slice_at` bounds them.
            unsafe {
                let to = v.slice_at(
                    at + t * channels + block * BLOCK,
                    (POINTS - 1) * stride + BLOCK,
                );
                transform::input_tile::<V>(src, (line, BLOCK), to, (6 * stride, stride));
            }
        }
    }
}
dispatch!(
    (unsafe) transform_tiles,
    tiles_with,
    (s: &Sizes, x: View<'_>, first: usize, count: usize, v: SharedMut<'_, f32>, at: usize, stride: usize)
);

/// Copies 6 x 6 pixels from line `top`, column `left` on, zeros where the plane ends.
#[inline(always)]
fn window(plane: &[f32], p: &Planes, top: isize, left: isize, to: &mut [f32; 36 * BLOCK]) {
    let x0 = (-left).clamp(0, 6) as usize;
    let x1 = (p.pw as isize - left).clamp(x0 as isize, 6) as usize;
    for (i, to) in to.chunks_exact_mut(6 * BLOCK).enumerate() {
        let y = top + i as isize;
        if y < 0 || y as usize >= p.ph {
            to.fill(0.0);
            continue;
        }
        to[..x0 * BLOCK].fill(0.0);
        to[x1 * BLOCK..].fill(0.0);
        let from = (y as usize * p.pw) as isize + left + x0 as isize;
        to[x0 * BLOCK..x1 * BLOCK]
            .copy_from_slice(&plane[from as usize * BLOCK..][..(x1 - x0) * BLOCK]);
    }
}

/// Products m (36 x count x 16 of `blocks`) of tiles `first..` back to pixels of output blocks from `block` on.
///
/// # Safety
/// Nobody may touch these pixels or write those of the residual meanwhile.
#[inline(always)]
unsafe fn pixels_with<V: Lanes>(
    s: &Sizes,
    m: &[f32],
    first: usize,
    count: usize,
    block: usize,
    blocks: usize,
    y: View<'_>,
    epilogue: &Epilogue<'_>,
) {
    let (p, width) = (y.planes, blocks * BLOCK);
    assert!(m.len() >= POINTS * count * width);
    let mut corner = [0f32; TILE * TILE * BLOCK];
    for t in 0..count {
        let (n, ty, tx) = s.tile(first + t);
        let (rows, columns) = (TILE.min(p.h - ty), TILE.min(p.w - tx));
        for b in 0..blocks {
            let from = p.at(n, block + b) + ((ty + p.before) * p.pw + tx + p.before) * BLOCK;
            let whole = rows == TILE && columns == TILE;
            // SAFETY: m holds 36 planes of count * width floats; four lines of four pixels are this tile's own in y, by
            // the caller's promise and `slice_at`'s check, or those of the corner.
            let (to, line) = unsafe {
                let (to, line) = match whole {
                    true => {
                        let reach = (TILE - 1) * p.line() + TILE * BLOCK;
                        (y.data.slice_at(from, reach), p.line())
                    }
                    false => (corner.as_mut_ptr(), TILE * BLOCK),
                };
                transform::output_tile::<V>(
                    m.as_ptr().add(t * width + b * BLOCK),
                    (6 * count * width, count * width),
                    to,
                    (line, BLOCK),
                );
                (to, line)
            };
            for i in 0..rows {
                // SAFETY: a line of the tile, as above; the residual is the caller's promise.
                unsafe {
                    let sums = std::slice::from_raw_parts_mut(to.add(i * line), columns * BLOCK);
                    epilogue.finish(sums, (n, block + b), (ty + i, tx));
                    if !whole {
                        let to = y.data.slice(from + i * p.line(), columns * BLOCK);
                        to.copy_from_slice(sums);
                    }
                }
            }
        }
    }
}
dispatch!(
    (unsafe) transform_back,
    pixels_with,
    (s: &Sizes, m: &[f32], first: usize, count: usize, block: usize, blocks: usize, y: View<'_>, epilogue: &Epilogue<'_>)
);

/// Convolves `x` into `y`.
///
/// # Safety
/// Nobody may write the pictures x or the residual, or touch y, meanwhile; y overlaps neither.
pub(crate) unsafe fn forward(
    s: &Sizes,
    x: View<'_>,
    weights: Weights<'_>,
    y: View<'_>,
    epilogue: &Epilogue<'_>,
) {
    match weights {
        Weights::Plain(Source::Raw { w, turned }) if s.at_once() => {
            let kernels = Kernels::new(w, s, turned);
            // SAFETY: the caller's promise.
            unsafe { resident(s, x, &kernels, y, epilogue) }
        }
        // SAFETY: the caller's promise.
        Weights::Plain(source) => unsafe { stream::forward(s, x, source, y, epilogue) },
        // SAFETY: the caller's promise.
        Weights::Kept(kernels) => unsafe { resident(s, x, kernels, y, epilogue) },
    }
}

/// With all transformed weights in the second cache: every task takes some tiles through all three stages.
///
/// # Safety
/// As [`forward`].
unsafe fn resident(
    s: &Sizes,
    x: View<'_>,
    kernels: &Kernels,
    y: View<'_>,
    epilogue: &Epilogue<'_>,
) {
    let (ci, blocks) = (s.ci_all(), s.co_all() / BLOCK);
    let group = group(blocks);
    let per_task = (TASK / (POINTS * ci))
        .clamp(1, 48)
        .next_multiple_of(product::ROWS);
    let point = kernels.point;
    (0..s.tiles().div_ceil(per_task))
        .into_par_iter()
        .for_each_init(
            || {
                // 16 floats apart from a power of two, so that the 36 places of a tile fall into different cache sets.
                let stride = per_task * ci + BLOCK;
                (
                    aligned(POINTS * stride),
                    stride,
                    aligned(POINTS * per_task * group * BLOCK),
                )
            },
            |(v, stride, m), task| {
                let first = task * per_task;
                let count = per_task.min(s.tiles() - first);
                // SAFETY: the buffer is this task's; the pictures are as `forward`'s caller promises.
                unsafe { transform_tiles(s, x, first, count, SharedMut::new(v), 0, *stride) };
                for block in (0..blocks).step_by(group) {
                    let some = group.min(blocks - block);
                    for xi in 0..POINTS {
                        let u =
                            &kernels.data[xi * point + block * ci * BLOCK..][..some * ci * BLOCK];
                        let m = &mut m[xi * count * some * BLOCK..][..count * some * BLOCK];
                        product(
                            count,
                            ci,
                            some,
                            &v[xi * *stride..],
                            (ci, 1),
                            u,
                            (ci * BLOCK, BLOCK),
                            m,
                            false,
                        );
                    }
                    // SAFETY: tasks have tiles of their own; the rest is the caller's promise.
                    unsafe { transform_back(s, m, first, count, block, some, y, epilogue) };
                }
            },
        );
}
