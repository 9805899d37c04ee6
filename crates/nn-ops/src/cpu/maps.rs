//! Everything of a network but its convolutions, on blocks of 16 channels without a border.

use super::blocked::{BLOCK, Blocked};
use super::epilogue::Act;
use super::lanes::{Lanes, dispatch};
use super::planes::View;
use super::shared::SharedMut;
use crate::simd::multiversion;
use rayon::prelude::*;

/// Runs `f(picture, block)` for all blocks of `n` pictures, on all threads.
fn each(n: usize, blocks: usize, f: impl Fn(usize, usize) + Sync) {
    (0..n * blocks)
        .into_par_iter()
        .for_each(|task| f(task / blocks, task % blocks));
}

/// x (n, c, h, w) into blocks.
///
/// # Safety
/// Nobody may touch y meanwhile; so for all below, which do not read what they write either.
pub(crate) unsafe fn pack(x: &[f32], n: usize, c: usize, y: View<'_>) {
    let layout = bare(n, c, y);
    let pixels = layout.h * layout.w;
    each(n, layout.blocks(), |i, block| {
        let (first, channels) = (block * BLOCK, BLOCK.min(c - block * BLOCK));
        let x = &x[(i * c + first) * pixels..][..channels * pixels];
        // SAFETY: tasks have blocks of their own; the rest is the caller's promise.
        layout.pack_block(x, channels, unsafe { y.write(i, block) });
    });
}

/// Blocks to y (n, c, h, w).
///
/// # Safety
/// Nobody may write x meanwhile.
pub(crate) unsafe fn unpack(x: View<'_>, n: usize, c: usize, y: &mut [f32]) {
    let layout = bare(n, c, x);
    let pixels = layout.h * layout.w;
    assert_eq!(y.len(), n * c * pixels);
    let y = SharedMut::new(y);
    each(n, layout.blocks(), |i, block| {
        let (first, channels) = (block * BLOCK, BLOCK.min(c - block * BLOCK));
        // SAFETY: tasks have channels of their own; the rest is the caller's promise.
        unsafe {
            let y = y.slice((i * c + first) * pixels, channels * pixels);
            layout.unpack_block(x.read(i, block), channels, y);
        }
    });
}

fn bare(n: usize, c: usize, v: View<'_>) -> Blocked {
    let (h, w) = (v.planes.h, v.planes.w);
    Blocked {
        n,
        c,
        h,
        w,
        before: 0,
        ph: h,
        pw: w,
    }
}

multiversion! {
    fn activate(act: Act, x: &[f32], y: &mut [f32]) {
        y.copy_from_slice(x);
        act.apply(y);
    }
}

/// y = act(x).
///
/// # Safety
/// As [`pack`], and nobody may write what is read.
pub(crate) unsafe fn act(act: Act, n: usize, blocks: usize, x: View<'_>, y: View<'_>) {
    // SAFETY: tasks have blocks of their own; the rest is the caller's promise. So for all below.
    each(n, blocks, |i, b| unsafe {
        activate(act, x.read(i, b), y.write(i, b));
    });
}

multiversion! {
    fn sum(a: &[f32], b: &[f32], factor: f32, y: &mut [f32]) {
        for ((y, a), b) in y.iter_mut().zip(a).zip(b) {
            *y = (a + b) * factor;
        }
    }
}

/// y = (a + b) factor.
///
/// # Safety
/// As [`act`].
pub(crate) unsafe fn add(
    n: usize,
    blocks: usize,
    a: View<'_>,
    b: View<'_>,
    factor: f32,
    y: View<'_>,
) {
    // SAFETY: as in `act`.
    each(n, blocks, |i, block| unsafe {
        sum(
            a.read(i, block),
            b.read(i, block),
            factor,
            y.write(i, block),
        );
    });
}

/// y = x.
///
/// # Safety
/// As [`act`].
pub(crate) unsafe fn copy(n: usize, blocks: usize, x: View<'_>, y: View<'_>) {
    // SAFETY: as in `act`.
    each(n, blocks, |i, b| unsafe {
        y.write(i, b).copy_from_slice(x.read(i, b));
    });
}

#[inline(always)]
unsafe fn affine_with<V: Lanes>(
    x: &[f32],
    scale: &[f32; BLOCK],
    shift: &[f32; BLOCK],
    act: Act,
    y: &mut [f32],
) {
    assert_eq!(x.len(), y.len());
    for lane in (0..BLOCK).step_by(V::LEN) {
        // SAFETY: whole pixels of both slices, which are equally long.
        unsafe {
            let (scale, shift) = (
                V::load(scale.as_ptr().add(lane)),
                V::load(shift.as_ptr().add(lane)),
            );
            for at in (0..x.len() / BLOCK * BLOCK).step_by(BLOCK) {
                let x = V::load(x.as_ptr().add(at + lane));
                shift.mul_add(x, scale).store(y.as_mut_ptr().add(at + lane));
            }
        }
    }
    act.apply(y);
}
dispatch!(
    affine,
    affine_with,
    (x: &[f32], scale: &[f32; BLOCK], shift: &[f32; BLOCK], act: Act, y: &mut [f32])
);

/// y = x + v, v (n, c): a number for every channel.
///
/// # Safety
/// As [`act`].
pub(crate) unsafe fn add_channels(n: usize, c: usize, x: View<'_>, v: &[f32], y: View<'_>) {
    each(n, c.div_ceil(BLOCK), |i, b| {
        let mut shift = [0f32; BLOCK];
        for (lane, s) in shift.iter_mut().enumerate().take(c - b * BLOCK) {
            *s = v[i * c + b * BLOCK + lane];
        }
        // SAFETY: as in `act`.
        unsafe {
            affine(
                x.read(i, b),
                &[1.0; BLOCK],
                &shift,
                Act::None,
                y.write(i, b),
            );
        }
    });
}

multiversion! {
    fn weigh(x: &[f32], gate: &[f32], y: &mut [f32]) {
        let pixels = x.chunks_exact(BLOCK).zip(gate.chunks_exact(BLOCK));
        for (y, (x, gate)) in y.chunks_exact_mut(BLOCK).zip(pixels) {
            for (y, x) in y.iter_mut().zip(x) {
                *y = x * gate[0];
            }
        }
    }
}

/// Every pixel of x times that of `gate`, which has one channel.
///
/// # Safety
/// As [`act`].
pub(crate) unsafe fn gate(n: usize, blocks: usize, x: View<'_>, gate: View<'_>, y: View<'_>) {
    // SAFETY: as in `act`.
    each(n, blocks, |i, b| unsafe {
        weigh(x.read(i, b), gate.read(i, 0), y.write(i, b));
    });
}

/// Pixels, in floats, that are summed in single precision.
const RUN: usize = 64 * BLOCK;

/// Sums of `f` of each of a register's channels, in single precision over a run of pixels and in double over runs.
#[inline(always)]
unsafe fn lane_sums<V: Lanes>(
    x: &[f32],
    lane: usize,
    add: impl Fn(V, V) -> V,
    sums: &mut [f64; BLOCK],
) {
    for run in x.chunks(RUN) {
        let mut part = [0f32; BLOCK];
        // SAFETY: whole pixels of the run; `part` has room for a register from `lane` on.
        unsafe {
            let mut acc = [V::zero(); 4];
            let (groups, rest) = (run.len() / BLOCK / 4, run.len() / BLOCK % 4);
            let from = run.as_ptr().add(lane);
            for g in 0..groups {
                for (k, acc) in acc.iter_mut().enumerate() {
                    *acc = add(*acc, V::load(from.add((4 * g + k) * BLOCK)));
                }
            }
            for k in 0..rest {
                acc[0] = add(acc[0], V::load(from.add((4 * groups + k) * BLOCK)));
            }
            let all = acc[0].add(acc[1]).add(acc[2].add(acc[3]));
            all.store(part.as_mut_ptr().add(lane));
        }
        for (s, p) in sums.iter_mut().zip(part) {
            *s += f64::from(p);
        }
    }
}

#[inline(always)]
unsafe fn moments_with<V: Lanes>(x: &[f32], mean: &mut [f64; BLOCK], squares: &mut [f64; BLOCK]) {
    let count = (x.len() / BLOCK).max(1) as f64;
    (*mean, *squares) = ([0.0; BLOCK], [0.0; BLOCK]);
    for lane in (0..BLOCK).step_by(V::LEN) {
        // SAFETY: the caller has the instruction set.
        unsafe { lane_sums::<V>(x, lane, |sum, v| sum.add(v), mean) };
    }
    for m in mean.iter_mut() {
        *m /= count;
    }
    let centre: [f32; BLOCK] = std::array::from_fn(|lane| mean[lane] as f32);
    for lane in (0..BLOCK).step_by(V::LEN) {
        // SAFETY: the caller has the instruction set, and `centre` a register from `lane` on.
        unsafe {
            let centre = V::load(centre.as_ptr().add(lane));
            let square = |sum: V, v: V| {
                let d = v.sub(centre);
                sum.mul_add(d, d)
            };
            lane_sums::<V>(x, lane, square, squares);
        }
    }
}
dispatch!(
    moments,
    moments_with,
    (x: &[f32], mean: &mut [f64; BLOCK], squares: &mut [f64; BLOCK])
);

/// A group normalisation's constants: c channels, `weight` and `bias` of each.
pub(crate) struct Norm<'a> {
    pub c: usize,
    pub groups: usize,
    pub eps: f64,
    pub weight: &'a [f32],
    pub bias: &'a [f32],
    /// (n, c) each: (1 + scale) y + shift.
    pub modulation: Option<[&'a [f32]; 2]>,
    pub act: Act,
}

/// Group normalisation (Wu and He 2018, arXiv 1803.08494).
///
/// # Safety
/// As [`act`].
pub(crate) unsafe fn group_norm(n: usize, x: View<'_>, norm: &Norm<'_>, y: View<'_>) {
    let (c, blocks) = (norm.c, norm.c.div_ceil(BLOCK));
    let pixels = x.planes.h * x.planes.w;
    let measured: Vec<([f64; BLOCK], [f64; BLOCK])> = (0..n * blocks)
        .into_par_iter()
        .map(|task| {
            let (mut mean, mut squares) = ([0.0; BLOCK], [0.0; BLOCK]);
            // SAFETY: the caller's promise.
            let x = unsafe { x.read(task / blocks, task % blocks) };
            moments(x, &mut mean, &mut squares);
            (mean, squares)
        })
        .collect();
    let width = c / norm.groups;
    // Channels of a group have equally many pixels: their means and squares combine exactly (Chan et al. 1983).
    let group = |i: usize, g: usize| {
        let lanes = (g * width..(g + 1) * width).map(|c| {
            let (mean, squares) = &measured[i * blocks + c / BLOCK];
            (mean[c % BLOCK], squares[c % BLOCK])
        });
        let mean = lanes.clone().map(|l| l.0).sum::<f64>() / width as f64;
        let squares = lanes
            .map(|(m, s)| s + (m - mean) * (m - mean) * pixels as f64)
            .sum::<f64>();
        let variance = squares / (width * pixels) as f64;
        (mean, 1.0 / (variance + norm.eps).sqrt())
    };
    each(n, blocks, |i, b| {
        let (mut scale, mut shift) = ([0f32; BLOCK], [0f32; BLOCK]);
        let mut last = (usize::MAX, (0.0, 0.0));
        for lane in 0..BLOCK.min(c - b * BLOCK) {
            let ch = b * BLOCK + lane;
            if last.0 != ch / width {
                last = (ch / width, group(i, ch / width));
            }
            let (mean, rstd) = last.1;
            let (mut a, mut d) = (f64::from(norm.weight[ch]), f64::from(norm.bias[ch]));
            if let Some([scale, shift]) = norm.modulation {
                let by = 1.0 + f64::from(scale[i * c + ch]);
                (a, d) = (a * by, d * by + f64::from(shift[i * c + ch]));
            }
            scale[lane] = (a * rstd) as f32;
            shift[lane] = (d - mean * a * rstd) as f32;
        }
        // SAFETY: as in `act`.
        unsafe { affine(x.read(i, b), &scale, &shift, norm.act, y.write(i, b)) };
    });
}

multiversion! {
    /// Lines of 2 w pixels each to one of w.
    fn halve(upper: &[f32], lower: &[f32], max: bool, y: &mut [f32]) {
        let pairs = upper.chunks_exact(2 * BLOCK).zip(lower.chunks_exact(2 * BLOCK));
        for (y, (u, l)) in y.chunks_exact_mut(BLOCK).zip(pairs) {
            for (lane, y) in y.iter_mut().enumerate() {
                let v = [u[lane], u[BLOCK + lane], l[lane], l[BLOCK + lane]];
                // A NaN is its window's maximum, as in `max_pool2x`.
                let larger = |a: f32, b: f32| if b > a || b.is_nan() { b } else { a };
                *y = match max {
                    true => larger(larger(larger(v[0], v[1]), v[2]), v[3]),
                    false => 0.25 * ((v[0] + v[1]) + (v[2] + v[3])),
                };
            }
        }
    }
}

/// Maxima or means of 2 x 2 pixels; an odd last line or column is left out.
///
/// # Safety
/// As [`act`].
pub(crate) unsafe fn pool(max: bool, n: usize, blocks: usize, x: View<'_>, y: View<'_>) {
    let (from, to) = (x.planes.line(), y.planes.line());
    each(n, blocks, |i, b| {
        // SAFETY: as in `act`.
        let (x, y) = unsafe { (x.read(i, b), y.write(i, b)) };
        for (line, y) in y.chunks_exact_mut(to.max(1)).enumerate() {
            let (upper, lower) = x[2 * line * from..][..2 * from].split_at(from);
            halve(&upper[..2 * to], &lower[..2 * to], max, y);
        }
    });
}

/// Every pixel four times.
///
/// # Safety
/// As [`act`].
pub(crate) unsafe fn repeat(n: usize, blocks: usize, x: View<'_>, y: View<'_>) {
    let (from, to) = (x.planes.line(), y.planes.line());
    each(n, blocks, |i, b| {
        // SAFETY: as in `act`.
        let (x, y) = unsafe { (x.read(i, b), y.write(i, b)) };
        for (x, y) in x.chunks_exact(from.max(1)).zip(y.chunks_exact_mut(2 * to)) {
            let (first, second) = y.split_at_mut(to);
            for (y, x) in first.chunks_exact_mut(2 * BLOCK).zip(x.chunks_exact(BLOCK)) {
                y[..BLOCK].copy_from_slice(x);
                y[BLOCK..].copy_from_slice(x);
            }
            second.copy_from_slice(first);
        }
    });
}

multiversion! {
    /// A line of w pixels between `near` and `far`, doubled.
    fn interpolate(near: &[f32], far: &[f32], line: &mut [f32], y: &mut [f32]) {
        for ((l, a), b) in line.iter_mut().zip(near).zip(far) {
            *l = 0.75 * a + 0.25 * b;
        }
        let w = line.len() / BLOCK;
        for (x, y) in y.chunks_exact_mut(2 * BLOCK).enumerate() {
            let here = &line[x * BLOCK..][..BLOCK];
            let left = &line[x.saturating_sub(1) * BLOCK..][..BLOCK];
            let right = &line[(x + 1).min(w - 1) * BLOCK..][..BLOCK];
            let (first, second) = y.split_at_mut(BLOCK);
            for lane in 0..BLOCK {
                first[lane] = 0.75 * here[lane] + 0.25 * left[lane];
                second[lane] = 0.75 * here[lane] + 0.25 * right[lane];
            }
        }
    }
}

/// Bilinear doubling, as [`crate::upsample_bilinear2x`].
///
/// # Safety
/// As [`act`].
pub(crate) unsafe fn bilinear(n: usize, blocks: usize, x: View<'_>, y: View<'_>) {
    let (from, to, h) = (x.planes.line(), y.planes.line(), x.planes.h);
    (0..n * blocks).into_par_iter().for_each_init(
        || vec![0f32; from],
        |line, task| {
            // SAFETY: as in `act`.
            let (x, y) = unsafe {
                let (i, b) = (task / blocks, task % blocks);
                (x.read(i, b), y.write(i, b))
            };
            for (o, y) in y.chunks_exact_mut(to.max(1)).enumerate() {
                let i = o / 2;
                let far = match o % 2 {
                    0 => i.saturating_sub(1),
                    _ => (i + 1).min(h - 1),
                };
                interpolate(&x[i * from..][..from], &x[far * from..][..from], line, y);
            }
        },
    );
}
