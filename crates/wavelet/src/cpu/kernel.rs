//! A matrix made ready for the processor: weights in the data's type, and stretches of rows that are one filter.

use super::combine::{Parted, combine, combine_two, deinterleave, interleave};
use super::dispatch::Isa;
use super::{Real, Slot};
use crate::matrix::{Matrix, Run};

/// Which rows of a matrix are the same filter, moved on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    /// Fewer samples per band than before: row r + 1 is row r two columns on (analysis, transposed synthesis).
    Halving,
    /// More: row r + 2 is row r one column on.
    Doubling,
}

/// Rows `row`, `row + step`, .. that are one filter; runs refer to the parted samples, weights to the kernel's pool.
#[derive(Debug)]
struct Stretch {
    row: usize,
    count: usize,
    runs: Vec<Run>,
}

/// A matrix as the kernels take it.
#[derive(Debug)]
pub(crate) struct Kernel<T> {
    /// The matrix's own pool, then what the stretches refer to.
    pool: Vec<T>,
    middle: Middle,
    edges: Edges,
}

/// What one line after the other is multiplied by.
#[derive(Debug)]
enum Middle {
    Halving(Vec<Stretch>),
    Doubling(Vec<Pairs>),
}

/// Rows `2 (first + i)` and `2 (first + i) + 1`: two filters by turns, with runs over the samples.
#[derive(Debug)]
struct Pairs {
    first: usize,
    count: usize,
    runs: [Vec<Run>; 2],
}

/// Rows in no stretch, mostly those at the ends: each is one short sum, so several lines are computed side by side.
#[derive(Debug, Default)]
struct Edges {
    /// The samples that the rows refer to, ascending.
    columns: Vec<usize>,
    /// Rows, with runs over `columns`.
    rows: Vec<(usize, Vec<Run>)>,
}

impl Edges {
    fn new(matrix: &Matrix, rows: impl Iterator<Item = usize> + Clone) -> Self {
        let runs = rows.clone().flat_map(|r| matrix.runs(r));
        let mut columns: Vec<usize> = runs.flat_map(|r| r.col..r.col + r.len as usize).collect();
        columns.sort_unstable();
        columns.dedup();
        // The columns of a run are neighbours here too.
        let moved = |run: &Run| Run {
            col: columns.partition_point(|&c| c < run.col),
            ..*run
        };
        let rows = rows.map(|r| (r, matrix.runs(r).iter().map(moved).collect()));
        Self {
            rows: rows.collect(),
            columns,
        }
    }
}

/// Lines taken together by [`Kernel::lines`].
pub(crate) const GROUP: usize = 16;

/// Shorter stretches are not worth their overhead.
const SHORTEST: usize = 4;

impl<T: Real> Kernel<T> {
    pub fn new(matrix: &Matrix) -> Self {
        let rows = matrix.rows();
        // Either there are about twice as many columns as outputs per band, or the reverse; which it is shows in the
        // rows themselves.
        let found =
            [Shape::Halving, Shape::Doubling].map(|shape| (shape, stretches(matrix, shape)));
        let covered = |s: &[(usize, usize)]| s.iter().map(|s| s.1).sum::<usize>();
        let [halving, doubling] = found;
        let (shape, found) = match covered(&halving.1) >= covered(&doubling.1) {
            true => halving,
            false => doubling,
        };
        let mut out = Self {
            pool: matrix.pool().iter().map(|&w| T::from_f64(w)).collect(),
            middle: Middle::Doubling(Vec::new()),
            edges: Edges::default(),
        };
        let mut taken = vec![false; rows];
        out.middle = match shape {
            Shape::Halving => {
                let stretch = |(row, count)| {
                    taken[row..row + count].fill(true);
                    let runs = matrix.runs(row).iter();
                    let runs = runs.flat_map(|r| out.part(*r, matrix.cols)).collect();
                    Stretch { row, count, runs }
                };
                Middle::Halving(found.into_iter().map(stretch).collect())
            }
            Shape::Doubling => {
                let pairs = pairs(matrix, &found);
                for p in &pairs {
                    taken[2 * p.first..2 * (p.first + p.count)].fill(true);
                }
                Middle::Doubling(pairs)
            }
        };
        out.edges = Edges::new(matrix, (0..rows).filter(|&r| !taken[r]));
        out
    }

    /// A run over samples as two over the even and odd ones, which lie one after the other.
    fn part(&mut self, run: Run, cols: usize) -> [Run; 2] {
        let odd_at = cols.div_ceil(2);
        [0, 1].map(|skip| {
            let first = run.col + skip;
            let weights = run.at as usize + skip..(run.at + run.len) as usize;
            let at = self.pool.len();
            let picked: Vec<T> = weights.step_by(2).map(|i| self.pool[i]).collect();
            self.pool.extend(picked);
            Run {
                col: first / 2 + if first % 2 == 1 { odd_at } else { 0 },
                at: at as u32,
                len: (self.pool.len() - at) as u32,
            }
        })
    }

    /// Row `r` of matrix times `x` of (cols, stride), columns `from..from + out.len()` of it.
    #[inline]
    pub fn row<S: Slot<T>>(
        &self,
        isa: Isa,
        matrix: &Matrix,
        r: usize,
        x: &[T],
        stride: usize,
        from: usize,
        out: &mut [S],
    ) {
        combine(
            isa,
            out,
            Parted::whole(&x[from..]),
            stride,
            matrix.runs(r),
            &self.pool,
        );
    }

    /// Rows from `r` on of the matrix times two bands of (cols / 2, width): the `part`-th `width` values of each of `out`'s
    /// rows of `2 width`.
    pub fn synthesis_rows(
        &self,
        isa: Isa,
        matrix: &Matrix,
        r: usize,
        bands: [&[T]; 2],
        width: usize,
        part: usize,
        out: &mut [T],
    ) {
        debug_assert_eq!(matrix.cut, Some(matrix.cols / 2));
        let cut = matrix.cols / 2;
        let x = Parted { parts: bands, cut };
        let rows = out.chunks_exact_mut(2 * width);
        let mut rows = (r..).zip(rows.map(|row| &mut row[part * width..][..width]));
        while let Some((r, a)) = rows.next() {
            match rows.next() {
                Some((_, b)) => {
                    let runs = [matrix.runs(r), matrix.runs(r + 1)];
                    combine_two(isa, [a, b], x, width, runs, &self.pool);
                }
                None => combine(isa, a, x, width, matrix.runs(r), &self.pool),
            }
        }
    }

    /// Matrix times each line of `cols` values; `scratch` is kept from call to call. A line's values do not depend on
    /// how many there are.
    pub fn lines<S: Slot<T>>(
        &self,
        isa: Isa,
        matrix: &Matrix,
        x: &[T],
        out: &mut [S],
        scratch: &mut Vec<T>,
    ) {
        let (rows, cols) = (matrix.rows().max(1), matrix.cols.max(1));
        let groups = x.chunks(GROUP * cols).zip(out.chunks_mut(GROUP * rows));
        for (x, out) in groups {
            for (x, out) in x.chunks_exact(cols).zip(out.chunks_exact_mut(rows)) {
                self.middle(isa, matrix, x, out, scratch);
            }
            self.edges(isa, matrix, x, out, scratch);
        }
    }

    /// The rows of one line that are in stretches.
    fn middle<S: Slot<T>>(
        &self,
        isa: Isa,
        matrix: &Matrix,
        x: &[T],
        out: &mut [S],
        scratch: &mut Vec<T>,
    ) {
        let (cols, pool) = (matrix.cols, &self.pool);
        match &self.middle {
            Middle::Halving(stretches) => {
                scratch.resize(cols, T::zero());
                let (even, odd) = scratch.split_at_mut(cols.div_ceil(2));
                deinterleave(isa, x, even, odd);
                for s in stretches {
                    let out = &mut out[s.row..][..s.count];
                    combine(isa, out, Parted::whole(scratch), 1, &s.runs, pool);
                }
            }
            Middle::Doubling(pairs) => {
                scratch.resize(out.len(), T::zero());
                for p in pairs {
                    let out = &mut out[2 * p.first..][..2 * p.count];
                    let (even, odd) = scratch[..out.len()].split_at_mut(p.count);
                    combine_two(
                        isa,
                        [even, odd],
                        Parted::whole(x),
                        1,
                        [&p.runs[0], &p.runs[1]],
                        pool,
                    );
                    interleave(isa, even, odd, out);
                }
            }
        }
    }

    /// The other rows, of up to [`GROUP`] lines side by side.
    fn edges<S: Slot<T>>(
        &self,
        isa: Isa,
        matrix: &Matrix,
        x: &[T],
        out: &mut [S],
        scratch: &mut Vec<T>,
    ) {
        let Edges { columns, rows } = &self.edges;
        scratch.resize(columns.len() * GROUP, T::zero());
        let lines = x.chunks_exact(matrix.cols.max(1)).enumerate();
        for (l, line) in lines {
            for (side, &column) in scratch.chunks_exact_mut(GROUP).zip(columns) {
                side[l] = line[column];
            }
        }
        for (row, runs) in rows {
            let mut sums = [T::zero(); GROUP];
            combine(
                isa,
                &mut sums,
                Parted::whole(scratch),
                GROUP,
                runs,
                &self.pool,
            );
            let slots = out.iter_mut().skip(*row).step_by(matrix.rows());
            slots.zip(sums).for_each(|(slot, sum)| slot.put(sum));
        }
    }
}

impl Shape {
    fn row_step(self) -> usize {
        match self {
            Shape::Halving => 1,
            Shape::Doubling => 2,
        }
    }
}

/// (first row, count) of the stretches of at least [`SHORTEST`] rows.
fn stretches(matrix: &Matrix, shape: Shape) -> Vec<(usize, usize)> {
    let step = shape.row_step();
    let shift = 3 - step;
    let follows = |r: usize| {
        let (a, b) = (matrix.runs(r), matrix.runs(r + step));
        let on = |a: &Run| Run {
            col: a.col + shift,
            ..*a
        };
        !a.is_empty() && a.len() == b.len() && a.iter().zip(b).all(|(a, b)| on(a) == *b)
    };
    let mut out = Vec::new();
    for phase in 0..step.min(matrix.rows()) {
        let (mut row, mut count) = (phase, 1);
        for r in (phase..matrix.rows()).step_by(step) {
            if r + step < matrix.rows() && follows(r) {
                count += 1;
                continue;
            }
            if count >= SHORTEST {
                out.push((row, count));
            }
            (row, count) = (r + step, 1);
        }
    }
    out
}

/// Where stretches of even and of odd rows go side by side.
fn pairs(matrix: &Matrix, stretches: &[(usize, usize)]) -> Vec<Pairs> {
    let of = |phase| {
        let own = stretches.iter().filter(move |s| s.0 % 2 == phase);
        own.map(|&(row, count)| row / 2..row / 2 + count)
    };
    let both = of(0).flat_map(|even| of(1).map(move |odd| (even.clone(), odd)));
    let shared = both.filter_map(|(even, odd)| {
        let first = even.start.max(odd.start);
        let count = even.end.min(odd.end).checked_sub(first)?;
        let runs = [0, 1].map(|phase| matrix.runs(2 * first + phase).to_vec());
        let pairs = Pairs { first, count, runs };
        (count >= SHORTEST).then_some(pairs)
    });
    shared.collect()
}
