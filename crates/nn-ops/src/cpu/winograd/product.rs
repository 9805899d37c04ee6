//! The matrix product inside Winograd convolutions: few rows at a time against 16 to 64 columns, every sum in order.

use crate::cpu::blocked::BLOCK;
use crate::cpu::lanes::{Lanes, dispatch};
use crate::simd::{Isa, isa};

/// Rows of a full register tile.
pub(super) const ROWS: usize = 6;

/// How many of `blocks` blocks of 16 columns one call works on: as many as registers hold, without a short last group
/// where that can be.
pub(super) fn group(blocks: usize) -> usize {
    match isa() {
        Isa::Avx512 => [4, 3, 2, 1]
            .into_iter()
            .find(|g| blocks.is_multiple_of(*g))
            .map_or(1, |g| match g {
                // 5 or 7 blocks: a group of four and a shorter one beat single blocks.
                1 if blocks > 4 => 4,
                g => g,
            }),
        Isa::Avx2 | Isa::Portable => 1,
    }
}

/// Output blocks shared out among tasks, as evenly as whole blocks can be, in groups that registers hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cpu) struct Shares {
    blocks: usize,
    /// How many groups.
    pub count: usize,
}

impl Shares {
    pub(in crate::cpu) fn new(blocks: usize) -> Self {
        let whole = Self {
            blocks,
            count: blocks,
        };
        if isa() != Isa::Avx512 {
            return whole;
        }
        let threads = rayon::current_num_threads();
        // The time of a group, from narrow register tiles reading more than they multiply.
        let cost = |most: usize| [1.6, 1.15, 1.03, 1.0][most - 1];
        let time = |count: usize| {
            let size = blocks as f64 / count as f64;
            count.div_ceil(threads) as f64 * size * cost(blocks.div_ceil(count))
        };
        let counts = blocks.div_ceil(4)..=blocks;
        let best = counts.min_by(|a, b| time(*a).total_cmp(&time(*b)));
        Self {
            count: best.unwrap_or(blocks),
            ..whole
        }
    }

    /// Blocks of the largest group.
    pub(in crate::cpu) fn most(self) -> usize {
        self.blocks.div_ceil(self.count.max(1))
    }

    /// First block and size of a group. Larger and smaller ones alternate: halves of the groups have equal work.
    pub(in crate::cpu) fn group(self, i: usize) -> (usize, usize) {
        let start = |i: usize| i * self.blocks / self.count;
        (start(i), start(i + 1) - start(i))
    }
}

/// `T` rows x `N` registers of columns.
///
/// # Safety
/// `a` must be readable at `t * a_row + i * a_step`, `b` for 16 floats at `j * b_block + i * b_step` (block j), and `m`
/// readable and writable for `N * V::LEN` floats at `t * m_row`, for t < T and i < depth; the processor must have V's
/// instruction set.
#[inline(always)]
unsafe fn tile<V: Lanes, const T: usize, const N: usize>(
    depth: usize,
    a: *const f32,
    (a_row, a_step): (usize, usize),
    b: *const f32,
    (b_block, b_step): (usize, usize),
    m: *mut f32,
    m_row: usize,
    add: bool,
) {
    // SAFETY: every address below is one that the caller promises.
    unsafe {
        let mut acc = [[V::zero(); N]; T];
        if add {
            for (t, row) in acc.iter_mut().enumerate() {
                for (j, acc) in row.iter_mut().enumerate() {
                    *acc = V::load(m.add(t * m_row + j * V::LEN));
                }
            }
        }
        for i in 0..depth {
            let b: [V; N] = std::array::from_fn(|j| {
                let column = j * V::LEN;
                V::load(b.add(column / BLOCK * b_block + column % BLOCK + i * b_step))
            });
            for (t, row) in acc.iter_mut().enumerate() {
                let a = V::splat(*a.add(t * a_row + i * a_step));
                for (acc, b) in row.iter_mut().zip(b) {
                    *acc = acc.mul_add(a, b);
                }
            }
        }
        for (t, row) in acc.into_iter().enumerate() {
            for (j, acc) in row.into_iter().enumerate() {
                acc.store(m.add(t * m_row + j * V::LEN));
            }
        }
    }
}

/// All rows against `N` registers of columns.
#[inline(always)]
unsafe fn rows<V: Lanes, const N: usize>(
    count: usize,
    depth: usize,
    a: *const f32,
    a_at: (usize, usize),
    b: *const f32,
    b_at: (usize, usize),
    m: *mut f32,
    m_row: usize,
    add: bool,
) {
    let mut t = 0;
    while t < count {
        // SAFETY: rows t.. of a and m, as the caller promises.
        unsafe {
            let (a, m) = (a.add(t * a_at.0), m.add(t * m_row));
            match count - t {
                1 => tile::<V, 1, N>(depth, a, a_at, b, b_at, m, m_row, add),
                2 => tile::<V, 2, N>(depth, a, a_at, b, b_at, m, m_row, add),
                3 => tile::<V, 3, N>(depth, a, a_at, b, b_at, m, m_row, add),
                4 => tile::<V, 4, N>(depth, a, a_at, b, b_at, m, m_row, add),
                5 => tile::<V, 5, N>(depth, a, a_at, b, b_at, m, m_row, add),
                _ => tile::<V, ROWS, N>(depth, a, a_at, b, b_at, m, m_row, add),
            }
        }
        t += ROWS;
    }
}

#[inline(always)]
unsafe fn product_with<V: Lanes>(
    count: usize,
    depth: usize,
    blocks: usize,
    a: &[f32],
    a_at: (usize, usize),
    b: &[f32],
    b_at: (usize, usize),
    m: &mut [f32],
    add: bool,
) {
    if count == 0 || depth == 0 || blocks == 0 {
        if !add {
            m.fill(0.0);
        }
        return;
    }
    assert!(a.len() > (count - 1) * a_at.0 + (depth - 1) * a_at.1);
    assert!(b.len() >= (blocks - 1) * b_at.0 + (depth - 1) * b_at.1 + BLOCK);
    assert!(m.len() >= count * blocks * BLOCK);
    let m_row = blocks * BLOCK;
    let (a, b, m) = (a.as_ptr(), b.as_ptr(), m.as_mut_ptr());
    // SAFETY: the asserts above are what `tile` asks for; a group of blocks fills the registers counted here.
    unsafe {
        match (blocks, V::LEN) {
            (1, 16) => rows::<V, 1>(count, depth, a, a_at, b, b_at, m, m_row, add),
            (2, 16) => rows::<V, 2>(count, depth, a, a_at, b, b_at, m, m_row, add),
            (3, 16) => rows::<V, 3>(count, depth, a, a_at, b, b_at, m, m_row, add),
            (4, 16) => rows::<V, 4>(count, depth, a, a_at, b, b_at, m, m_row, add),
            _ => {
                for j in 0..blocks {
                    let (b, m) = (b.add(j * b_at.0), m.add(j * BLOCK));
                    match V::LEN {
                        16 => rows::<V, 1>(count, depth, a, a_at, b, b_at, m, m_row, add),
                        8 => rows::<V, 2>(count, depth, a, a_at, b, b_at, m, m_row, add),
                        _ => rows::<V, 4>(count, depth, a, a_at, b, b_at, m, m_row, add),
                    }
                }
            }
        }
    }
}

dispatch!(
    pub(super) product,
    product_with,
    (
        count: usize,
        depth: usize,
        blocks: usize,
        a: &[f32],
        a_at: (usize, usize),
        b: &[f32],
        b_at: (usize, usize),
        m: &mut [f32],
        add: bool,
    )
);
