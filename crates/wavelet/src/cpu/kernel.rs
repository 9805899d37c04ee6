//! A matrix made ready for the processor: weights in the data's type, and stretches of rows that are one filter.

use super::combine::{combine, deinterleave, interleave};
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
    shape: Shape,
    /// The matrix's own pool, then what the stretches refer to.
    pool: Vec<T>,
    stretches: Vec<Stretch>,
    /// Rows in no stretch.
    loose: Vec<usize>,
}

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
            shape,
            pool: matrix.pool().iter().map(|&w| T::from_f64(w)).collect(),
            stretches: Vec::new(),
            loose: Vec::new(),
        };
        let mut taken = vec![false; rows];
        for (row, count) in found {
            (0..count).for_each(|i| taken[row + i * shape.row_step()] = true);
            let runs = matrix.runs(row);
            let runs = match shape {
                Shape::Doubling => runs.to_vec(),
                Shape::Halving => runs
                    .iter()
                    .flat_map(|r| out.part(*r, matrix.cols))
                    .collect(),
            };
            out.stretches.push(Stretch { row, count, runs });
        }
        out.loose = (0..rows).filter(|&r| !taken[r]).collect();
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
        combine(isa, out, &x[from..], stride, matrix.runs(r), &self.pool);
    }

    /// Matrix times one line of `cols` values; `scratch` is kept from line to line.
    pub fn line<S: Slot<T>>(
        &self,
        isa: Isa,
        matrix: &Matrix,
        x: &[T],
        out: &mut [S],
        scratch: &mut Vec<T>,
    ) {
        let (rows, cols) = (matrix.rows(), matrix.cols);
        match self.shape {
            Shape::Halving => {
                scratch.resize(cols, T::zero());
                let (even, odd) = scratch.split_at_mut(cols.div_ceil(2));
                deinterleave(isa, x, even, odd);
                for s in &self.stretches {
                    combine(
                        isa,
                        &mut out[s.row..][..s.count],
                        scratch,
                        1,
                        &s.runs,
                        &self.pool,
                    );
                }
            }
            Shape::Doubling => {
                scratch.resize(rows, T::zero());
                let half = rows.div_ceil(2);
                for s in &self.stretches {
                    let at = s.row / 2 + if s.row % 2 == 1 { half } else { 0 };
                    combine(
                        isa,
                        &mut scratch[at..][..s.count],
                        x,
                        1,
                        &s.runs,
                        &self.pool,
                    );
                }
                interleave(isa, &scratch[..half], &scratch[half..], out);
            }
        }
        for &r in &self.loose {
            let mut acc = T::zero();
            for run in matrix.runs(r) {
                let (at, len) = (run.at as usize, run.len as usize);
                let weights = &self.pool[at..][..len];
                for (&weight, &v) in weights.iter().zip(&x[run.col..][..len]) {
                    acc += weight * v;
                }
            }
            out[r].put(acc);
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
