//! A sparse matrix whose rows share their weights, and its transpose.

use crate::cpu::Kernel;
use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

/// Neighbouring entries of a row: columns from `col` on, weights from `pool[at..at + len]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Run {
    pub col: usize,
    pub at: u32,
    pub len: u32,
}

/// A sparse matrix, row by row. Rows away from the ends share their weights, so it takes memory in proportion to the
/// signal's length whatever the filter's.
#[derive(Debug)]
pub(crate) struct Matrix {
    pub cols: usize,
    /// Where the columns of the high band begin, if columns are coefficients; no run goes across.
    pub cut: Option<usize>,
    /// Row r is `runs[starts[r]..starts[r + 1]]`; columns ascend.
    starts: Vec<usize>,
    runs: Vec<Run>,
    pool: Vec<f64>,
    /// Made when a kernel of that type first asks.
    pub kernel_f32: OnceLock<Kernel<f32>>,
    pub kernel_f64: OnceLock<Kernel<f64>>,
}

impl Matrix {
    pub fn rows(&self) -> usize {
        self.starts.len() - 1
    }

    /// The runs of a row.
    #[inline]
    pub fn runs(&self, r: usize) -> &[Run] {
        &self.runs[self.starts[r]..self.starts[r + 1]]
    }

    /// The weights that runs refer to.
    pub fn pool(&self) -> &[f64] {
        &self.pool
    }

    /// The (column, weight) pairs of a row.
    pub fn entries(&self, r: usize) -> impl Iterator<Item = (usize, f64)> {
        self.runs(r).iter().flat_map(|run| {
            let weights = &self.pool[run.at as usize..][..run.len as usize];
            (run.col..).zip(weights.iter().copied())
        })
    }

    /// All entries of the transpose, (cols, rows) row by row.
    pub fn dense_transposed(&self) -> Vec<f64> {
        let rows = self.rows();
        let mut out = vec![0.0; self.cols * rows];
        for r in 0..rows {
            self.entries(r).for_each(|(c, w)| out[c * rows + r] += w);
        }
        out
    }

    fn transposed(&self) -> Self {
        let mut starts = vec![0; self.cols + 1];
        for r in 0..self.rows() {
            self.entries(r).for_each(|(c, _)| starts[c + 1] += 1);
        }
        for c in 0..self.cols {
            starts[c + 1] += starts[c];
        }
        let mut next = starts.clone();
        let mut entries = vec![(0, 0.0); starts[self.cols]];
        for r in 0..self.rows() {
            self.entries(r).for_each(|(c, w)| {
                entries[next[c]] = (r, w);
                next[c] += 1;
            });
        }
        let mut out = match self.cut {
            Some(_) => Builder::new(self.rows()),
            None => Builder::of_bands(self.rows() / 2),
        };
        for c in 0..self.cols {
            out.row
                .extend_from_slice(&entries[starts[c]..starts[c + 1]]);
            out.end_row();
        }
        out.matrix
    }
}

/// Makes a matrix row after row.
pub(crate) struct Builder {
    matrix: Matrix,
    /// Entries of the row in the making, in any order; columns may repeat.
    pub row: Vec<(usize, f64)>,
    /// Where in the pool a sequence of weights is.
    known: HashMap<Vec<u64>, u32>,
}

impl Builder {
    /// A matrix whose columns are two bands of `m` coefficients.
    pub fn of_bands(m: usize) -> Self {
        let mut out = Self::new(2 * m);
        out.matrix.cut = Some(m);
        out
    }

    pub fn new(cols: usize) -> Self {
        Self {
            matrix: Matrix {
                cols,
                cut: None,
                starts: vec![0],
                runs: Vec::new(),
                pool: Vec::new(),
                kernel_f32: OnceLock::new(),
                kernel_f64: OnceLock::new(),
            },
            row: Vec::new(),
            known: HashMap::new(),
        }
    }

    /// Weights to share between rows.
    pub fn share(&mut self, weights: &[f64]) -> Run {
        let key = weights.iter().map(|w| w.to_bits()).collect();
        let pool = &mut self.matrix.pool;
        let at = *self.known.entry(key).or_insert_with(|| {
            pool.extend_from_slice(weights);
            (pool.len() - weights.len()) as u32
        });
        let len = weights.len() as u32;
        Run { col: 0, at, len }
    }

    /// Puts shared weights into the row at hand, after those it has; `row` must be empty.
    pub fn run(&mut self, run: Run, col: usize) {
        debug_assert!(self.row.is_empty());
        self.matrix.runs.push(Run { col, ..run });
    }

    pub fn end_row(&mut self) {
        let mut row = std::mem::take(&mut self.row);
        row.sort_by_key(|e| e.0);
        row.dedup_by(|b, a| {
            let same = a.0 == b.0;
            a.1 += if same { b.1 } else { 0.0 };
            same
        });
        let cut = self.matrix.cut;
        for piece in row.chunk_by(|a, b| a.0 + 1 == b.0 && Some(b.0) != cut) {
            let weights: Vec<f64> = piece.iter().map(|e| e.1).collect();
            let run = self.share(&weights);
            self.matrix.runs.push(Run {
                col: piece[0].0,
                ..run
            });
        }
        row.clear();
        self.row = row;
        self.matrix.starts.push(self.matrix.runs.len());
    }

    pub fn finish(self) -> Operator {
        let both = Both {
            matrix: self.matrix,
            transpose: OnceLock::new(),
        };
        Operator {
            both: Arc::new(both),
            flipped: false,
        }
    }
}

#[derive(Debug)]
struct Both {
    matrix: Matrix,
    transpose: OnceLock<Matrix>,
}

/// A matrix that can be turned into its transpose, which is made when first asked for and then shared by all clones.
#[derive(Debug, Clone)]
pub(crate) struct Operator {
    both: Arc<Both>,
    flipped: bool,
}

impl Operator {
    pub fn matrix(&self) -> &Matrix {
        if self.flipped {
            let transpose = &self.both.transpose;
            transpose.get_or_init(|| self.both.matrix.transposed())
        } else {
            &self.both.matrix
        }
    }

    pub fn transposed(&self) -> Self {
        Self {
            both: self.both.clone(),
            flipped: !self.flipped,
        }
    }
}
