//! Convolution with a 3 x 3 kernel, stride 1 and "same" padding by Winograd's minimal filtering (Lavin and Gray 2016,
//! arXiv 1509.09308): F(4 x 4, 3 x 3) makes 4 x 4 output pixels with 36 products instead of 144.
//!
//! A tile of 6 x 6 input pixels becomes 36 values per channel; for each of the 36 a matrix product over channels
//! follows, and its results become the tile of 4 x 4 output pixels. Channels lie side by side in registers
//! ([`Blocked`]). Every sum runs over the input channels in order, whatever the batch, the blocking and the threads.

mod gradient;
mod product;
mod transform;

use super::blocked::{BLOCK, Blocked};
use super::lanes::{Lanes, dispatch};
use super::shared::{SharedMut, scratch};
pub(crate) use gradient::weight_gradient;
use product::product;
use rayon::prelude::*;

/// Output pixels of a tile, along each axis.
const TILE: usize = 4;
/// Products per tile and channel.
const POINTS: usize = 36;
/// Transformed input of one task, in floats: half of a usual L2 cache.
const TASK: usize = 1 << 17;

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

/// The kernels' transforms: 36 x (output blocks) x (input channels, filled up) x 16 output channels.
pub(crate) struct Kernels {
    data: Vec<f32>,
}

impl Kernels {
    /// Of weights (co, ci, 3, 3). With `turned`, those of the gradient of the input: channels exchanged, kernels
    /// rotated by 180 degrees; `s` then names the sizes of that convolution.
    pub(crate) fn new(w: &[f32], s: &Sizes, turned: bool) -> Self {
        assert_eq!(w.len(), s.co * s.ci * 9);
        let (ci, blocks) = (s.ci_all(), s.co_all() / BLOCK);
        let mut data = scratch(POINTS * blocks * ci * BLOCK);
        let shared = SharedMut::new(&mut data);
        (0..blocks * s.ci_all() / BLOCK)
            .into_par_iter()
            .for_each(|task| {
                let (block, part) = (task % blocks, task / blocks);
                transform_kernels(w, s, turned, block, part, &shared);
            });
        Self { data }
    }

    /// Memory in use.
    pub(crate) fn bytes(&self) -> usize {
        size_of_val(&self.data[..])
    }
}

#[inline(always)]
unsafe fn kernels_with<V: Lanes>(
    w: &[f32],
    s: &Sizes,
    turned: bool,
    block: usize,
    part: usize,
    out: &SharedMut<'_, f32>,
) {
    let (ci, blocks) = (s.ci_all(), s.co_all() / BLOCK);
    let point = blocks * ci * BLOCK;
    let lanes = BLOCK.min(s.co - block * BLOCK);
    for c in part * BLOCK..(part + 1) * BLOCK {
        let mut taps = [0f32; 9 * BLOCK];
        if c < s.ci {
            for lane in 0..lanes {
                let o = block * BLOCK + lane;
                let from = if turned { c * s.co + o } else { o * s.ci + c };
                for (t, v) in w[from * 9..][..9].iter().enumerate() {
                    taps[if turned { 8 - t } else { t } * BLOCK + lane] = *v;
                }
            }
        }
        let at = (block * ci + c) * BLOCK;
        // SAFETY: each task writes its own output block and input channels; the largest address is
        // 35 * point + at + 16 <= 36 * point, the whole of `out`.
        unsafe {
            let dst = out.slice_at(at, (POINTS - 1) * point + BLOCK);
            transform::kernel_tile::<V>(taps.as_ptr(), (3 * BLOCK, BLOCK), dst, (6 * point, point));
        }
    }
}
dispatch!(
    transform_kernels,
    kernels_with,
    (w: &[f32], s: &Sizes, turned: bool, block: usize, part: usize, out: &SharedMut<'_, f32>)
);

/// Tiles `first..first + count`, transformed: 36 x count x channels.
#[inline(always)]
unsafe fn tiles_with<V: Lanes>(
    s: &Sizes,
    x: &[f32],
    first: usize,
    count: usize,
    v: &mut [f32],
    stride: usize,
) {
    let (layout, channels) = (s.input(), s.ci_all());
    assert!(x.len() == layout.len() && stride >= count * channels && v.len() >= POINTS * stride);
    assert!(first + count <= s.tiles());
    let line = layout.pw * BLOCK;
    for t in 0..count {
        let (n, y, px) = s.tile(first + t);
        for block in 0..channels / BLOCK {
            let from = (n * layout.blocks() + block) * layout.plane() + y * line + px * BLOCK;
            // SAFETY: the padded picture has two lines and columns more than its tiles, so that six of each can be
            // read; the last store ends at 35 * stride + count * channels.
            unsafe {
                transform::input_tile::<V>(
                    x.as_ptr().add(from),
                    (line, BLOCK),
                    v.as_mut_ptr().add(t * channels + block * BLOCK),
                    (6 * stride, stride),
                );
            }
        }
    }
}
dispatch!(
    transform_tiles,
    tiles_with,
    (s: &Sizes, x: &[f32], first: usize, count: usize, v: &mut [f32], stride: usize)
);

/// Products m (36 x count x 16 of `blocks`) of tiles `first..` back to pixels of output blocks from `block` on.
#[inline(always)]
unsafe fn pixels_with<V: Lanes>(
    s: &Sizes,
    m: &[f32],
    first: usize,
    count: usize,
    block: usize,
    blocks: usize,
    y: &SharedMut<'_, f32>,
) {
    let layout = s.output();
    let (width, line) = (blocks * BLOCK, layout.pw * BLOCK);
    assert!(m.len() >= POINTS * count * width);
    for t in 0..count {
        let (n, ty, tx) = s.tile(first + t);
        for b in 0..blocks {
            let at = (n * layout.blocks() + block + b) * layout.plane() + ty * line + tx * BLOCK;
            // SAFETY: m holds 36 planes of count * width floats; the output has whole tiles, and each task its own.
            unsafe {
                transform::output_tile::<V>(
                    m.as_ptr().add(t * width + b * BLOCK),
                    (6 * count * width, count * width),
                    y.slice_at(at, (TILE - 1) * (line + BLOCK) + BLOCK),
                    (line, BLOCK),
                );
            }
        }
    }
}
dispatch!(
    transform_back,
    pixels_with,
    (s: &Sizes, m: &[f32], first: usize, count: usize, block: usize, blocks: usize, y: &SharedMut<'_, f32>)
);

/// Convolves blocked pictures of layout [`Sizes::input`]; returns [`Sizes::output`].
pub(crate) fn forward(s: &Sizes, x: &[f32], kernels: &Kernels) -> Vec<f32> {
    let (ci, blocks) = (s.ci_all(), s.co_all() / BLOCK);
    let mut y = scratch(s.output().len());
    let shared = SharedMut::new(&mut y);
    let group = product::group(blocks);
    let per_task = (TASK / (POINTS * ci))
        .clamp(1, 48)
        .next_multiple_of(product::ROWS);
    let point = blocks * ci * BLOCK;
    (0..s.tiles().div_ceil(per_task))
        .into_par_iter()
        .for_each_init(
            || {
                // 16 floats apart from a power of two, so that the 36 places of a tile fall into different cache sets.
                let stride = per_task * ci + BLOCK;
                (
                    scratch(POINTS * stride),
                    stride,
                    scratch(POINTS * per_task * group * BLOCK),
                )
            },
            |(v, stride, m), task| {
                let first = task * per_task;
                let count = per_task.min(s.tiles() - first);
                transform_tiles(s, x, first, count, v, *stride);
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
                    transform_back(s, m, first, count, block, some, &shared);
                }
            },
        );
    y
}
