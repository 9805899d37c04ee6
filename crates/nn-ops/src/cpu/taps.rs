//! Convolution with any kernel and stride on blocks of 16 channels: for every output pixel a sum over the taps that lie
//! within the picture and over the input channels, 16 to 64 output channels of several pixels at a time in registers.
//!
//! Taps beyond the edge are left out rather than multiplied by zeros, so small pictures cost what they contain.

use super::blocked::BLOCK;
use super::epilogue::Epilogue;
use super::lanes::{Lanes, dispatch};
use super::planes::View;
use super::shared::{Aligned, aligned};
use super::winograd::Shares;
use rayon::prelude::*;

/// Pixels of a register tile.
const ROWS: usize = 6;
/// Weights that the first cache holds beside everything else, in floats.
const RESIDENT: usize = 1 << 12;
/// Multiply-adds, of 16 lanes, that a task should at least have.
const WORTHWHILE: usize = 1 << 17;
/// Pixels that a task should at least have for its weights' sake.
const PIXELS: usize = 96;

/// Shapes of one convolution; one group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shape {
    pub ci: usize,
    pub co: usize,
    pub kh: usize,
    pub kw: usize,
    pub stride: usize,
    pub padding: usize,
}

impl Shape {
    fn in_blocks(&self) -> usize {
        self.ci.div_ceil(BLOCK)
    }
    fn out_blocks(&self) -> usize {
        self.co.div_ceil(BLOCK)
    }
    fn taps(&self) -> usize {
        self.kh * self.kw
    }
}

/// Weights (output block, input block, tap, 16 input channels, 16 output channels), zeros where there are no more channels;
/// and what pictures of one size, without a border, see of them.
pub(crate) struct Packed {
    data: Aligned,
    shape: Shape,
    size: (usize, usize),
    classes: Vec<Class>,
}

impl Packed {
    /// Of weights (co, ci, kh, kw), for pictures of `size`, height and width, whose results have size `to`.
    pub(crate) fn new(w: &[f32], shape: Shape, size: (usize, usize), to: (usize, usize)) -> Self {
        let (taps, inputs) = (shape.taps(), shape.in_blocks());
        assert_eq!(w.len(), shape.co * shape.ci * taps);
        let mut data = aligned(shape.out_blocks() * inputs * taps * BLOCK * BLOCK);
        data.fill(0.0);
        data.par_chunks_mut((inputs * taps * BLOCK * BLOCK).max(1))
            .enumerate()
            .for_each(|(block, data)| {
                for lane in 0..BLOCK.min(shape.co - block * BLOCK) {
                    let row = &w[(block * BLOCK + lane) * shape.ci * taps..][..shape.ci * taps];
                    for (c, kernel) in row.chunks_exact(taps).enumerate() {
                        for (t, v) in kernel.iter().enumerate() {
                            let at = ((c / BLOCK * taps + t) * BLOCK + c % BLOCK) * BLOCK + lane;
                            data[at] = *v;
                        }
                    }
                }
            });
        Self {
            data,
            classes: classes(&shape, size, to),
            shape,
            size,
        }
    }
}

/// Output pixels of a picture that see the same taps.
struct Class {
    /// Line and column of each.
    pixels: Vec<(usize, usize)>,
    /// Number of the tap and what it adds to a pixel's place in a plane.
    taps: Vec<(usize, isize)>,
}

/// All classes of a picture, in order of their first pixel.
fn classes(s: &Shape, (h, w): (usize, usize), (oh, ow): (usize, usize)) -> Vec<Class> {
    let valid = |o: usize, k: usize, size: usize| -> (usize, usize) {
        let at = (o * s.stride) as isize - s.padding as isize;
        let first = (-at).clamp(0, k as isize) as usize;
        let end = (size as isize - at).clamp(first as isize, k as isize) as usize;
        (first, end)
    };
    let mut found: Vec<([(usize, usize); 2], Class)> = Vec::new();
    for y in 0..oh {
        let rows = valid(y, s.kh, h);
        for x in 0..ow {
            let columns = valid(x, s.kw, w);
            let key = [rows, columns];
            match found.iter_mut().find(|(k, _)| *k == key) {
                Some((_, class)) => class.pixels.push((y, x)),
                None => {
                    let mut taps = Vec::new();
                    for ky in rows.0..rows.1 {
                        for kx in columns.0..columns.1 {
                            let shift = (ky as isize - s.padding as isize) * w as isize
                                + kx as isize
                                - s.padding as isize;
                            taps.push((ky * s.kw + kx, shift * BLOCK as isize));
                        }
                    }
                    let pixels = vec![(y, x)];
                    found.push((key, Class { pixels, taps }));
                }
            }
        }
    }
    found.into_iter().map(|(_, class)| class).collect()
}

/// What a register tile sums.
struct At<'a> {
    /// Where each pixel's window begins, less the padding.
    rows: &'a [*const f32],
    taps: &'a [(usize, isize)],
    all_taps: usize,
    inputs: std::ops::Range<usize>,
    /// Floats from one input block to the next.
    plane: usize,
    /// Floats of weights from one output block to the next.
    w_block: usize,
    /// Floats of sums from one output block to the next; a pixel's 16 follow another's.
    m_block: usize,
    /// Begins at zero, instead of what is there.
    fresh: bool,
}

/// Sums of `T` pixels x `N` registers.
///
/// # Safety
/// `rows` with every tap's shift, and `plane` times each input block added, must be readable for 16 floats; `m` writable for
/// T pixels of 16 floats in every output block; `w` readable for `N` registers of columns at `w_block` apart, `inputs` blocks of all taps long. The processor
/// must have V's instruction set.
#[allow(clippy::needless_range_loop)]
#[inline(always)]
unsafe fn tile<V: Lanes, const T: usize, const N: usize>(at: &At<'_>, w: *const f32, m: *mut f32) {
    // SAFETY: every address below is one that the caller promises.
    unsafe {
        let mut acc = [[V::zero(); N]; T];
        let (w_block, m_block) = (at.w_block, at.m_block);
        let sums = |t: usize, j: usize| {
            let column = j * V::LEN;
            m.add(column / BLOCK * m_block + t * BLOCK + column % BLOCK)
        };
        if !at.fresh {
            for (t, row) in acc.iter_mut().enumerate() {
                for (j, acc) in row.iter_mut().enumerate() {
                    *acc = V::load(sums(t, j));
                }
            }
        }
        for block in at.inputs.clone() {
            for &(tap, shift) in at.taps {
                let shift = shift + (block * at.plane) as isize;
                let from: [*const f32; T] = std::array::from_fn(|t| at.rows[t].offset(shift));
                let w = w.add((block * at.all_taps + tap) * BLOCK * BLOCK);
                for i in 0..BLOCK {
                    let b: [V; N] = std::array::from_fn(|j| {
                        let column = j * V::LEN;
                        V::load(w.add(column / BLOCK * w_block + column % BLOCK + i * BLOCK))
                    });
                    // Indices, not iterators: these loops must vanish for the sums to stay in registers.
                    for t in 0..T {
                        let a = V::splat(*from[t].add(i));
                        for j in 0..N {
                            acc[t][j] = acc[t][j].mul_add(a, b[j]);
                        }
                    }
                }
            }
        }
        for (t, row) in acc.into_iter().enumerate() {
            for (j, acc) in row.into_iter().enumerate() {
                acc.store(sums(t, j));
            }
        }
    }
}

/// As [`tile`] for 1 to 6 pixels.
#[inline(always)]
unsafe fn pixels<V: Lanes, const N: usize>(at: &At<'_>, w: *const f32, m: *mut f32) {
    // SAFETY: the caller's promise.
    unsafe {
        match at.rows.len() {
            1 => tile::<V, 1, N>(at, w, m),
            2 => tile::<V, 2, N>(at, w, m),
            3 => tile::<V, 3, N>(at, w, m),
            4 => tile::<V, 4, N>(at, w, m),
            5 => tile::<V, 5, N>(at, w, m),
            _ => tile::<V, ROWS, N>(at, w, m),
        }
    }
}

/// As [`pixels`] for `some` output blocks.
#[inline(always)]
unsafe fn columns<V: Lanes>(at: &At<'_>, some: usize, w: *const f32, m: *mut f32) {
    // SAFETY: the caller's promise.
    unsafe {
        match (some, V::LEN) {
            (2, 16) => pixels::<V, 2>(at, w, m),
            (3, 16) => pixels::<V, 3>(at, w, m),
            (4, 16) => pixels::<V, 4>(at, w, m),
            _ => {
                for j in 0..some {
                    let (w, m) = (w.add(j * at.w_block), m.add(j * at.m_block));
                    match V::LEN {
                        16 => pixels::<V, 1>(at, w, m),
                        8 => pixels::<V, 2>(at, w, m),
                        _ => pixels::<V, 4>(at, w, m),
                    }
                }
            }
        }
    }
}

/// Asks for a line of the caches that will be read soon.
#[inline(always)]
fn prefetch(at: *const f32) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a hint, which any address may be given to; every x86-64 processor has it.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(at.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = at;
}

/// Some pixels of a class: `first..first + count` of the batch's, picture by picture.
#[derive(Clone, Copy)]
struct Piece<'a> {
    class: &'a Class,
    first: usize,
    count: usize,
}

impl<'a> Piece<'a> {
    /// Its pixels by runs along a line: picture, line, first column and length.
    fn runs(self) -> impl Iterator<Item = (usize, usize, usize, usize)> + use<'a> {
        let pixels = &self.class.pixels[..];
        let (mut n, mut k, mut left) = (
            self.first / pixels.len(),
            self.first % pixels.len(),
            self.count,
        );
        std::iter::from_fn(move || {
            if left == 0 {
                return None;
            }
            let (y, x) = pixels[k];
            let next = |len: &usize| pixels.get(k + len) != Some(&(y, x + len));
            let len = (1..left).find(next).unwrap_or(left);
            let run = (n, y, x, len);
            (k, left) = (k + len, left - len);
            if k == pixels.len() {
                (n, k) = (n + 1, 0);
            }
            Some(run)
        })
    }
}

/// One task: the pixels of `pieces` for `some` output blocks from `block` on; m holds 16 sums for each.
///
/// # Safety
/// Nobody may write the pictures or the residual, or touch these outputs, meanwhile.
#[inline(always)]
unsafe fn task_with<V: Lanes>(
    weights: &Packed,
    x: View<'_>,
    pieces: &[Piece<'_>],
    block: usize,
    some: usize,
    m: &mut [f32],
    y: View<'_>,
    epilogue: &Epilogue<'_>,
) {
    let s = &weights.shape;
    let (from, to) = (x.planes, y.planes);
    let (all_taps, inputs, plane) = (s.taps(), s.in_blocks(), from.plane());
    let w_block = inputs * all_taps * BLOCK * BLOCK;
    let w = &weights.data[block * w_block..][..some * w_block];
    let count: usize = pieces.iter().map(|p| p.count).sum();
    let m_block = count * BLOCK;
    assert!(m.len() >= some * m_block);
    // Where the windows of all pixels begin, and how many of them see the same taps.
    let mut windows = Vec::with_capacity(count);
    for piece in pieces {
        for (n, oy, ox, len) in piece.runs() {
            // SAFETY: nobody writes them, by the caller's promise.
            let blocks = unsafe { x.data.read(from.at(n, 0), inputs * plane) };
            let line = (oy * s.stride + from.before) * from.pw + from.before;
            for x in ox..ox + len {
                windows.push(blocks.as_ptr().wrapping_add((line + x * s.stride) * BLOCK));
            }
        }
    }
    // As many input blocks at a time as leave their weights in the first cache for all pixels.
    let step = (RESIDENT / (all_taps * BLOCK * BLOCK * some)).clamp(1, inputs);
    for begin in (0..inputs).step_by(step) {
        let (mut first, part) = (0, begin..(begin + step).min(inputs));
        for piece in pieces {
            let end = first + piece.count;
            while first < end {
                let rows = &windows[first..(first + ROWS).min(end)];
                // Blocks lie further apart than the processor looks ahead.
                for row in windows[first..].iter().skip(ROWS).take(ROWS) {
                    for block in part.clone() {
                        prefetch(row.wrapping_add(block * plane));
                    }
                }
                let at = At {
                    rows,
                    taps: &piece.class.taps,
                    all_taps,
                    inputs: part.clone(),
                    plane,
                    w_block,
                    m_block,
                    fresh: begin == 0,
                };
                // SAFETY: the taps of a class lie within the plane; w was sliced to what is read, and m holds 16 sums of
                // every pixel in each of `some` blocks.
                unsafe {
                    let m = m.as_mut_ptr().add(first * BLOCK);
                    columns::<V>(&at, some, w.as_ptr(), m);
                }
                first += rows.len();
            }
        }
    }
    for (b, mut sums) in m[..some * m_block]
        .chunks_exact_mut(m_block.max(1))
        .enumerate()
    {
        for piece in pieces {
            for (n, oy, ox, len) in piece.runs() {
                let (run, rest) = std::mem::take(&mut sums).split_at_mut(len * BLOCK);
                sums = rest;
                let at = ((oy + to.before) * to.pw + ox + to.before) * BLOCK;
                // SAFETY: each task has outputs of its own; the residual is the caller's promise.
                unsafe {
                    epilogue.finish(run, (n, block + b), (oy, ox));
                    let to = y.data.slice(to.at(n, block + b) + at, run.len());
                    to.copy_from_slice(run);
                }
            }
        }
    }
}
dispatch!(
    (unsafe) task,
    task_with,
    (weights: &Packed, x: View<'_>, pieces: &[Piece<'_>], block: usize, some: usize, m: &mut [f32], y: View<'_>, epilogue: &Epilogue<'_>)
);

/// Convolves `n` pictures x into y, of the sizes that the weights were packed for.
///
/// # Safety
/// Nobody may write the pictures x or the residual, or touch y, meanwhile; y overlaps neither.
pub(crate) unsafe fn forward(
    weights: &Packed,
    n: usize,
    x: View<'_>,
    y: View<'_>,
    epilogue: &Epilogue<'_>,
) {
    let s = &weights.shape;
    assert_eq!((x.planes.ph, x.planes.pw), weights.size);
    let shares = Shares::new(s.out_blocks());
    let group = shares.most();
    // Pixels of a task: enough to be worth one, and what the sums of the second cache's other half hold. No sum depends
    // on this.
    let per_pixel = s.taps() * s.in_blocks() * BLOCK * group;
    let pixels = (WORTHWHILE / per_pixel).clamp(PIXELS, 4 * PIXELS);
    let mut parts: Vec<Vec<Piece<'_>>> = vec![Vec::new()];
    let mut room = pixels;
    for class in &weights.classes {
        let all = n * class.pixels.len();
        let mut first = 0;
        while first < all {
            if room == 0 {
                parts.push(Vec::new());
                room = pixels;
            }
            let count = room.min(all - first);
            if let Some(part) = parts.last_mut() {
                part.push(Piece {
                    class,
                    first,
                    count,
                });
            }
            (first, room) = (first + count, room - count);
        }
    }
    (0..parts.len() * shares.count)
        .into_par_iter()
        .for_each_init(
            || aligned(pixels * group * BLOCK),
            |m, task_number| {
                let pieces = &parts[task_number / shares.count];
                let (block, some) = shares.group(task_number % shares.count);
                let count: usize = pieces.iter().map(|p| p.count).sum();
                let m = &mut m[..count * some * BLOCK];
                // SAFETY: tasks have pixels or output blocks of their own; the rest is the caller's promise.
                unsafe { task(weights, x, pieces, block, some, m, y, epilogue) };
            },
        );
}
