//! Direct convolution with a K x K kernel, stride 1 and "same" padding: no im2col, close to the peak of the
//! multiply-add units. Forward, and the gradient of the weights; the gradient of the input is a forward pass with
//! the kernel turned round.

use super::lanes::{Lanes, dispatch};
use super::padded::{Plan, TILE};
use super::shared::{SharedMut, scratch};
use rayon::prelude::*;

/// Output channels of one register tile.
const OUT: usize = 8;
/// Input channels whose rows are read before going on to the next output channels (they stay in L2).
const IN_BLOCK: usize = 64;
/// Register tiles per task.
const STRIPS: usize = 4;

/// Weights (co, ci, k, k) as blocks of 8 output channels: [co / 8][ci][k * k][8], the last block filled up with zeros.
///
/// With `turned` they become those of the gradient of the input: channels exchanged, kernel rotated by 180 degrees.
pub(crate) fn pack_weights(w: &[f32], co: usize, ci: usize, kk: usize, turned: bool) -> Vec<f32> {
    let (rows, cols) = if turned { (ci, co) } else { (co, ci) };
    let mut out = vec![0f32; rows.div_ceil(OUT) * cols * kk * OUT];
    out.par_chunks_mut(cols * kk * OUT)
        .enumerate()
        .for_each(|(block, out)| {
            for lane in 0..OUT.min(rows - block * OUT) {
                let r = block * OUT + lane;
                for c in 0..cols {
                    for t in 0..kk {
                        out[(c * kk + t) * OUT + lane] = if turned {
                            w[(c * ci + r) * kk + (kk - 1 - t)]
                        } else {
                            w[(r * ci + c) * kk + t]
                        };
                    }
                }
            }
        });
    out
}

/// One register tile: 8 output channels x 3 registers of positions, summed over `ci` channels and all taps.
///
/// # Safety
/// `x` must be readable for `(ci - 1) * row + (k - 1) * (pw + 1) + 3 * V::LEN` floats, `w` for `ci * k * k * 8`,
/// `out` readable and writable for `7 * stride + 3 * V::LEN`; the processor must have V's instruction set.
#[inline(always)]
unsafe fn tile<V: Lanes, const K: usize>(
    ci: usize,
    x: *const f32,
    row: usize,
    pw: usize,
    mut w: *const f32,
    out: *mut f32,
    stride: usize,
    first: bool,
) {
    // SAFETY: every address below lies within what the caller promises.
    unsafe {
        let mut acc = [[V::zero(); 3]; OUT];
        if !first {
            for (l, a) in acc.iter_mut().enumerate() {
                for (v, a) in a.iter_mut().enumerate() {
                    *a = V::load(out.add(l * stride + v * V::LEN));
                }
            }
        }
        for c in 0..ci {
            let channel = x.add(c * row);
            for ky in 0..K {
                for kx in 0..K {
                    let s = channel.add(ky * pw + kx);
                    let xs = [
                        V::load(s),
                        V::load(s.add(V::LEN)),
                        V::load(s.add(2 * V::LEN)),
                    ];
                    for (l, a) in acc.iter_mut().enumerate() {
                        let wl = V::splat(*w.add(l));
                        a[0] = a[0].mul_add(wl, xs[0]);
                        a[1] = a[1].mul_add(wl, xs[1]);
                        a[2] = a[2].mul_add(wl, xs[2]);
                    }
                    w = w.add(OUT);
                }
            }
        }
        for (l, a) in acc.iter().enumerate() {
            for (v, a) in a.iter().enumerate() {
                a.store(out.add(l * stride + v * V::LEN));
            }
        }
    }
}

/// All output channels for positions `from..from + len` of one group; `out` is co rounded up to 8, x `stride`.
#[inline(always)]
unsafe fn strip<V: Lanes, const K: usize>(
    plan: &Plan,
    x: &[f32],
    ci: usize,
    w: &[f32],
    co: usize,
    from: usize,
    len: usize,
    out: &mut [f32],
) {
    let stride = len.next_multiple_of(TILE);
    let tile_len = 3 * V::LEN;
    let kk = K * K;
    assert!(out.len() >= co.next_multiple_of(OUT) * stride);
    assert!(w.len() >= co.next_multiple_of(OUT) * ci * kk);
    let reach = from + len.next_multiple_of(tile_len) + (K - 1) * (plan.pw + 1);
    assert!(reach <= plan.row && x.len() >= ci * plan.row);
    for c0 in (0..ci).step_by(IN_BLOCK) {
        let channels = IN_BLOCK.min(ci - c0);
        for block in 0..co.div_ceil(OUT) {
            for p in (0..len).step_by(tile_len) {
                // SAFETY: the asserts above bound x by its rows, w by its blocks and out by its stride.
                unsafe {
                    tile::<V, K>(
                        channels,
                        x.as_ptr().add(c0 * plan.row + from + p),
                        plan.row,
                        plan.pw,
                        w.as_ptr().add((block * ci + c0) * kk * OUT),
                        out.as_mut_ptr().add(block * OUT * stride + p),
                        stride,
                        c0 == 0,
                    );
                }
            }
        }
    }
}

/// Gradients of 8 output x 1 input channel x one row of K taps over `len` positions, added to `dw`.
///
/// # Safety
/// `dy` must be readable for `7 * row + len` floats and `x` for `len + K - 1`, with `len` a multiple of `V::LEN`.
#[inline(always)]
unsafe fn dot<V: Lanes, const K: usize>(
    dy: *const f32,
    row: usize,
    x: *const f32,
    len: usize,
) -> [[f32; K]; OUT] {
    // SAFETY: every address below lies within what the caller promises.
    unsafe {
        let mut acc = [[V::zero(); K]; OUT];
        for p in (0..len).step_by(V::LEN) {
            let xs: [V; K] = std::array::from_fn(|k| V::load(x.add(p + k)));
            for (l, a) in acc.iter_mut().enumerate() {
                let d = V::load(dy.add(l * row + p));
                for (a, x) in a.iter_mut().zip(xs) {
                    *a = a.mul_add(d, x);
                }
            }
        }
        let mut out = [[0f32; K]; OUT];
        for (o, a) in out.iter_mut().zip(acc) {
            for (o, a) in o.iter_mut().zip(a) {
                *o = a.sum();
            }
        }
        out
    }
}

/// The weight gradient of one block of 8 output channels, summed over groups in order.
#[inline(always)]
unsafe fn weight_block<V: Lanes, const K: usize>(
    plan: &Plan,
    x: &[f32],
    ci: usize,
    dy: &[f32],
    co: usize,
    block: usize,
    inputs: std::ops::Range<usize>,
    dw: &mut [f32],
) {
    let rows = OUT.min(co - block * OUT);
    // A short last block works on the 8 last channels again; surplus results are dropped.
    let first = (block * OUT).min(co.saturating_sub(OUT));
    let skip = block * OUT - first;
    assert!(co >= OUT && dw.len() == rows * inputs.len() * K * K);
    for g in 0..plan.groups() {
        let len = plan.positions(g).next_multiple_of(V::LEN);
        let dy = &dy[(g * co + first) * plan.row..][..OUT * plan.row];
        for (i, c) in inputs.clone().enumerate() {
            let x = &x[(g * ci + c) * plan.row..][..plan.row];
            for ky in 0..K {
                assert!(ky * plan.pw + len + K - 1 <= plan.row);
                // SAFETY: dy has 8 rows, x one row; `len` plus the shift stays inside by the assert.
                let sums = unsafe {
                    dot::<V, K>(dy.as_ptr(), plan.row, x.as_ptr().add(ky * plan.pw), len)
                };
                for l in 0..rows {
                    let at = ((l * inputs.len() + i) * K + ky) * K;
                    for (to, s) in dw[at..at + K].iter_mut().zip(sums[l + skip]) {
                        *to += s;
                    }
                }
            }
        }
    }
}

dispatch!(run_strip<const K>, strip, (plan: &Plan, x: &[f32], ci: usize, w: &[f32], co: usize, from: usize, len: usize, out: &mut [f32]));
dispatch!(run_weight_block<const K>, weight_block, (plan: &Plan, x: &[f32], ci: usize, dy: &[f32], co: usize, block: usize, inputs: std::ops::Range<usize>, dw: &mut [f32]));

/// Convolves padded rows `x` (see [`Plan::pad`] with `at` = (k - 1) / 2) with packed weights; adds `bias` if any.
///
/// Returns (n, co, h, w).
pub(crate) fn forward<const K: usize>(
    plan: &Plan,
    x: &[f32],
    ci: usize,
    w: &[f32],
    co: usize,
    bias: Option<&[f32]>,
) -> Vec<f32> {
    debug_assert_eq!(plan.k, K);
    let mut y = scratch(plan.n * co * plan.h * plan.w);
    let shared = SharedMut::new(&mut y);
    let per_task = STRIPS * TILE;
    let tasks_per_group = plan.positions(0).div_ceil(per_task);
    (0..plan.groups() * tasks_per_group)
        .into_par_iter()
        .for_each_init(
            || scratch(co.next_multiple_of(OUT) * per_task),
            |out, task| {
                let (g, part) = (task / tasks_per_group, task % tasks_per_group);
                let from = part * per_task;
                let Some(left) = plan.positions(g).checked_sub(from).filter(|&l| l > 0) else {
                    return;
                };
                let len = left.min(per_task);
                let stride = len.next_multiple_of(TILE);
                let x = &x[g * ci * plan.row..][..ci * plan.row];
                run_strip::<K>(plan, x, ci, w, co, from, len, out);
                for ch in 0..co {
                    let part = &mut out[ch * stride..][..len];
                    if let Some(bias) = bias {
                        let b = bias[ch];
                        part.iter_mut().for_each(|v| *v += b);
                    }
                    // SAFETY: tasks cover disjoint positions.
                    unsafe { plan.unpad(part, from, g, ch, co, &shared) };
                }
            },
        );
    y
}

/// Gradient of the weights (co, ci, k, k) from padded rows of the input (`at` = (k - 1) / 2) and of the output's
/// gradient (`at` = 0). Needs co >= 8.
pub(crate) fn weight_gradient<const K: usize>(
    plan: &Plan,
    x: &[f32],
    ci: usize,
    dy: &[f32],
    co: usize,
) -> Vec<f32> {
    let kk = K * K;
    let mut dw = vec![0f32; co * ci * kk];
    let shared = SharedMut::new(&mut dw);
    let blocks = co.div_ceil(OUT);
    // Split the input channels too, so that few output channels still give every thread work.
    let chunk = ci.div_ceil(4).max(1);
    let chunks = ci.div_ceil(chunk);
    (0..blocks * chunks).into_par_iter().for_each(|task| {
        let (block, part) = (task / chunks, task % chunks);
        let inputs = part * chunk..((part + 1) * chunk).min(ci);
        let rows = OUT.min(co - block * OUT);
        let mut out = vec![0f32; rows * inputs.len() * kk];
        run_weight_block::<K>(plan, x, ci, dy, co, block, inputs.clone(), &mut out);
        for (l, from) in out.chunks_exact(inputs.len() * kk).enumerate() {
            let at = ((block * OUT + l) * ci + inputs.start) * kk;
            // SAFETY: each task writes its own output and input channels.
            unsafe { shared.slice(at, from.len()) }.copy_from_slice(from);
        }
    });
    dw
}
