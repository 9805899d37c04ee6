//! The transforms of the weights.

use super::{BLOCK, POINTS, Sizes, transform};
use crate::cpu::lanes::{Lanes, dispatch};
use crate::cpu::shared::{Aligned, SharedMut, aligned};
use crate::cpu::transpose::transpose16;
use rayon::prelude::*;

/// Kernels of 16 by 16 channels.
const TAPS: usize = BLOCK * 9 * BLOCK;

/// Where kernels come from.
#[derive(Clone, Copy)]
pub(crate) enum Source<'a> {
    /// Weights (co, ci, 3, 3); with `turned` those of the gradient of the input: channels exchanged, kernels rotated by
    /// 180 degrees (the sizes are then those of that convolution).
    Raw { w: &'a [f32], turned: bool },
    /// In the order in which they are read.
    Packed(&'a Packed),
}

/// Weights as (output block, input channel, tap, 16 output channels), all filled up with zeros to whole blocks.
pub(crate) struct Packed(Aligned);

impl Packed {
    /// Of weights (co, ci, 3, 3).
    pub(crate) fn new(w: &[f32], s: &Sizes) -> Self {
        assert_eq!(w.len(), s.co * s.ci * 9);
        let mut data = aligned(s.co_all() * s.ci_all() * 9);
        let inputs = s.ci_all() / BLOCK;
        data.par_chunks_exact_mut(TAPS)
            .enumerate()
            .for_each(|(i, taps)| {
                let taps: &mut [f32; TAPS] = taps.try_into().expect("exact chunks");
                gather(w, s, i / inputs * BLOCK, i % inputs * BLOCK, taps);
            });
        Self(data)
    }
}

/// All of a layer's: 36 planes, `point` apart, of (output blocks) x (input channels, filled up) x 16 output channels.
pub(crate) struct Kernels {
    pub(super) data: Aligned,
    pub(super) point: usize,
}

impl Kernels {
    /// Of weights (co, ci, 3, 3). With `turned`, those of the gradient of the input: channels exchanged, kernels
    /// rotated by 180 degrees; `s` then names the sizes of that convolution.
    pub(crate) fn new(w: &[f32], s: &Sizes, turned: bool) -> Self {
        assert_eq!(w.len(), s.co * s.ci * 9);
        let (ci, blocks) = (s.ci_all(), s.co_all() / BLOCK);
        // Not a power of two apart, or the 36 places of a kernel would share a set of the first cache.
        let point = blocks * ci * BLOCK + BLOCK;
        let mut data = aligned(POINTS * point);
        let shared = SharedMut::new(&mut data);
        let w = Source::Raw { w, turned };
        (0..blocks * (ci / BLOCK)).into_par_iter().for_each(|task| {
            let (block, c) = (task % blocks, task / blocks * BLOCK);
            let at = (block * ci + c) * BLOCK;
            // SAFETY: each task has its own output block and input channels.
            unsafe { transform_kernels(w, s, block, c, shared, at, point) };
        });
        Self { data, point }
    }

    /// Memory in use.
    pub(crate) fn bytes(&self) -> usize {
        size_of_val(&self.data[..])
    }
}

/// Output block `block` of the 16 input channels from `c` on: 16 x 16 floats from `at` on, in each of 36 planes `point`
/// apart.
///
/// # Safety
/// Nobody may touch these places meanwhile.
#[inline(always)]
unsafe fn kernels_with<V: Lanes>(
    w: Source<'_>,
    s: &Sizes,
    block: usize,
    c: usize,
    out: SharedMut<'_, f32>,
    at: usize,
    point: usize,
) {
    let mut taps = [0f32; TAPS];
    let taps = match w {
        Source::Raw { w, turned: false } => {
            gather(w, s, block * BLOCK, c, &mut taps);
            &taps[..]
        }
        Source::Raw { w, turned: true } => {
            gather_turned(w, s, block * BLOCK, c, &mut taps);
            &taps[..]
        }
        Source::Packed(w) => &w.0[(block * s.ci_all() + c) * 9 * BLOCK..][..TAPS],
    };
    for (i, taps) in taps.chunks_exact(9 * BLOCK).enumerate() {
        // SAFETY: the caller's promise; `slice_at` bounds the 36 places.
        unsafe {
            let to = out.slice_at(at + i * BLOCK, (POINTS - 1) * point + BLOCK);
            transform::kernel_tile::<V>(taps.as_ptr(), (3 * BLOCK, BLOCK), to, (6 * point, point));
        }
    }
}
dispatch!(
    pub(super) (unsafe) transform_kernels,
    kernels_with,
    (w: Source<'_>, s: &Sizes, block: usize, c: usize, out: SharedMut<'_, f32>, at: usize, point: usize)
);

/// Kernels of output channels from `o` and input channels from `c` on, 16 each: (input, tap, output), zeros where there
/// are no more.
fn gather(w: &[f32], s: &Sizes, o: usize, c: usize, taps: &mut [f32; TAPS]) {
    let (lanes, channels) = (BLOCK.min(s.co - o), BLOCK.min(s.ci.saturating_sub(c)));
    if lanes == BLOCK && channels == BLOCK {
        // Rows of 16 channels x 9 taps: nine squares to turn about.
        for square in 0..9 {
            let src: [*const f32; BLOCK] = std::array::from_fn(|lane| {
                w[((o + lane) * s.ci + c) * 9 + square * BLOCK..][..BLOCK].as_ptr()
            });
            let (_, taps) = taps.split_at_mut(square * BLOCK * BLOCK);
            let mut rows = taps.chunks_exact_mut(BLOCK);
            let dst: [*mut f32; BLOCK] =
                std::array::from_fn(|_| rows.next().expect("nine squares").as_mut_ptr());
            // SAFETY: all were sliced to 16 floats, and the two buffers are distinct.
            unsafe { transpose16(&src, &dst) };
        }
        return;
    }
    taps.fill(0.0);
    for lane in 0..lanes {
        for i in 0..channels {
            for (t, v) in w[((o + lane) * s.ci + c + i) * 9..][..9].iter().enumerate() {
                taps[(i * 9 + t) * BLOCK + lane] = *v;
            }
        }
    }
}

/// As [`gather`] for the gradient of the input, whose output channels are the weights' input channels.
fn gather_turned(w: &[f32], s: &Sizes, o: usize, c: usize, taps: &mut [f32; TAPS]) {
    let lanes = BLOCK.min(s.co - o);
    taps.fill(0.0);
    for (i, taps) in taps.chunks_exact_mut(9 * BLOCK).enumerate() {
        if c + i >= s.ci {
            break;
        }
        let from = ((c + i) * s.co + o) * 9;
        for (lane, kernel) in w[from..][..lanes * 9].chunks_exact(9).enumerate() {
            for (t, v) in kernel.iter().enumerate() {
                taps[(8 - t) * BLOCK + lane] = *v;
            }
        }
    }
}
