//! The transform of one axis as a sparse matrix, boundary mode included, and its transpose for the gradient.

use crate::{Mode, Wavelet};
use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

/// Neighbouring entries of a row: columns from `col` on, weights from `pool[at..at + len]`.
#[derive(Debug, Clone, Copy)]
struct Run {
    col: usize,
    at: u32,
    len: u32,
}

/// A sparse matrix, row by row. Rows away from the ends share their weights, so it takes memory in proportion to the
/// signal's length whatever the filter's.
#[derive(Debug)]
pub(crate) struct Matrix {
    pub cols: usize,
    /// Row r is `runs[starts[r]..starts[r + 1]]`; columns ascend.
    starts: Vec<usize>,
    runs: Vec<Run>,
    pool: Vec<f64>,
}

impl Matrix {
    pub fn rows(&self) -> usize {
        self.starts.len() - 1
    }

    /// The runs of a row: first column and the weights from there on.
    #[inline]
    pub fn row(&self, r: usize) -> impl Iterator<Item = (usize, &[f64])> {
        self.runs[self.starts[r]..self.starts[r + 1]]
            .iter()
            .map(|run| (run.col, &self.pool[run.at as usize..][..run.len as usize]))
    }

    /// The (column, weight) pairs of a row.
    pub fn entries(&self, r: usize) -> impl Iterator<Item = (usize, f64)> {
        self.row(r)
            .flat_map(|(col, weights)| weights.iter().enumerate().map(move |(k, &w)| (col + k, w)))
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
        let mut out = Builder::new(self.rows());
        for c in 0..self.cols {
            out.row.extend_from_slice(&entries[starts[c]..starts[c + 1]]);
            out.end_row();
        }
        out.matrix
    }
}

/// Makes a matrix row after row.
struct Builder {
    matrix: Matrix,
    /// Entries of the row in the making, in any order; columns may repeat.
    row: Vec<(usize, f64)>,
    /// Where in the pool a sequence of weights is.
    known: HashMap<Vec<u64>, u32>,
}

impl Builder {
    fn new(cols: usize) -> Self {
        let matrix = Matrix { cols, starts: vec![0], runs: Vec::new(), pool: Vec::new() };
        Self { matrix, row: Vec::new(), known: HashMap::new() }
    }

    /// Weights to share between rows.
    fn share(&mut self, weights: &[f64]) -> Run {
        let key = weights.iter().map(|w| w.to_bits()).collect();
        let pool = &mut self.matrix.pool;
        let at = *self.known.entry(key).or_insert_with(|| {
            pool.extend_from_slice(weights);
            (pool.len() - weights.len()) as u32
        });
        Run { col: 0, at, len: weights.len() as u32 }
    }

    /// Puts shared weights into the row at hand; what `row` holds must lie before.
    fn run(&mut self, run: Run, col: usize) {
        self.matrix.runs.push(Run { col, ..run });
    }

    fn end_row(&mut self) {
        let mut row = std::mem::take(&mut self.row);
        row.sort_by_key(|e| e.0);
        row.dedup_by(|b, a| {
            let same = a.0 == b.0;
            a.1 += if same { b.1 } else { 0.0 };
            same
        });
        for piece in row.chunk_by(|a, b| a.0 + 1 == b.0) {
            let weights: Vec<f64> = piece.iter().map(|e| e.1).collect();
            let run = self.share(&weights);
            self.run(run, piece[0].0);
        }
        row.clear();
        self.row = row;
        self.matrix.starts.push(self.matrix.runs.len());
    }
}

/// A matrix and, once a gradient asks for it, its transpose.
#[derive(Debug, Clone)]
pub(crate) struct Pair {
    pub matrix: Arc<Matrix>,
    transpose: OnceLock<Arc<Matrix>>,
}

impl Pair {
    fn new(matrix: Matrix) -> Self {
        Self { matrix: Arc::new(matrix), transpose: OnceLock::new() }
    }

    pub fn transposed(&self) -> Self {
        let matrix = self.transpose.get_or_init(|| Arc::new(self.matrix.transposed())).clone();
        Self { matrix, transpose: OnceLock::from(self.matrix.clone()) }
    }
}

/// Analysis of a signal of length `n`: 2 m rows, the m low coefficients above the m high ones.
///
/// `c[o] = sum_j f[j] x[2 o + s - j]`, with s = 1, or F / 2 in periodization.
pub(crate) fn analysis(w: &Wavelet, mode: Mode, n: usize) -> Pair {
    let taps = w.filter_len();
    let m = mode.band_len(n, taps);
    let (shift, even) = match mode {
        Mode::Periodization => (taps / 2, 2 * m),
        _ => (1, n),
    };
    let mut out = Builder::new(n);
    for filter in [w.dec_lo(), w.dec_hi()] {
        let reversed: Vec<f64> = filter.iter().rev().copied().collect();
        let inner = out.share(&reversed);
        for o in 0..m {
            let last = 2 * o + shift;
            if last + 1 >= taps && last < n {
                out.run(inner, last + 1 - taps);
            } else {
                for (j, &f) in filter.iter().enumerate() {
                    let row = &mut out.row;
                    // In periodization an odd signal's last sample comes twice.
                    let mut add = |i: usize, weight| row.push((i.min(n - 1), weight));
                    mode.extend(last as isize - j as isize, even, f, &mut add);
                }
            }
            out.end_row();
        }
    }
    Pair::new(out.matrix)
}

/// Synthesis of the first `n` samples from bands of length `m`: n rows, 2 m columns.
///
/// `x[k] = sum_i c[i] f[k + s - 2 i]` with s = F - 2, or F / 2 - 1 around the circle of m in periodization.
pub(crate) fn synthesis(w: &Wavelet, mode: Mode, m: usize, n: usize) -> Pair {
    let half = w.filter_len() / 2;
    let shift = match mode {
        Mode::Periodization => half - 1,
        _ => 2 * half - 2,
    };
    let mut out = Builder::new(2 * m);
    // Taps of either parity, for rising i.
    let inner = [w.rec_lo(), w.rec_hi()].map(|filter| {
        [0, 1].map(|parity| {
            let taps: Vec<f64> = filter.iter().skip(parity).step_by(2).rev().copied().collect();
            (out.share(&taps), taps)
        })
    });
    for k in 0..n {
        let (parity, last) = ((k + shift) % 2, (k + shift) / 2);
        for (band, filters) in inner.iter().enumerate() {
            let (run, taps) = &filters[parity];
            if last + 1 >= half && last < m {
                out.run(*run, band * m + last + 1 - half);
            } else {
                for (tap, &f) in taps.iter().enumerate() {
                    let i = last as isize - (half - 1 - tap) as isize;
                    let i = if mode == Mode::Periodization { i.rem_euclid(m as isize) } else { i };
                    if (0..m as isize).contains(&i) {
                        out.row.push((band * m + i as usize, f));
                    }
                }
            }
        }
        out.end_row();
    }
    Pair::new(out.matrix)
}
