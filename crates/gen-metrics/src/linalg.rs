//! Products and eigenvalues in f64, with sums in an order that no number of threads changes.

use crate::error::{Error, Result};
use faer::dyn_stack::{MemBuffer, MemStack};
use faer::linalg::evd::{ComputeEigenvectors, self_adjoint_evd, self_adjoint_evd_scratch};
use faer::linalg::matmul::matmul;
use faer::{Accum, Mat, MatMut, MatRef, Par, Spec};
use rayon::prelude::*;

/// Rows of a product that one task makes.
const BLOCK: usize = 64;

/// `a b'`: entry (i, j) is the product of row i of `a` (m x k) with row j of `b` (n x k); m x n, row by row.
pub(crate) fn products(a: &[f64], b: &[f64], k: usize) -> Vec<f64> {
    let n = b.len() / k.max(1);
    let mut out = vec![0.0; a.len() / k.max(1) * n];
    out.par_chunks_mut((BLOCK * n).max(1))
        .zip(a.par_chunks((BLOCK * k).max(1)))
        .for_each(|(out, a)| products_into(a, b, k, out));
    out
}

/// As [`products`], on this thread alone.
pub(crate) fn products_into(a: &[f64], b: &[f64], k: usize, out: &mut [f64]) {
    let (m, n) = (a.len() / k.max(1), b.len() / k.max(1));
    matmul(
        MatMut::from_row_major_slice_mut(out, m, n),
        Accum::Replace,
        MatRef::from_row_major_slice(a, m, k),
        MatRef::from_row_major_slice(b, n, k).transpose(),
        1.0,
        Par::Seq,
    );
}

/// The transpose of `a` (rows x cols).
pub(crate) fn transposed(a: &[f64], cols: usize) -> Vec<f64> {
    let rows = a.len() / cols.max(1);
    let mut out = vec![0.0; a.len()];
    out.par_chunks_mut(rows.max(1))
        .enumerate()
        .for_each(|(c, out)| {
            for (o, row) in out.iter_mut().zip(a.chunks_exact(cols)) {
                *o = row[c];
            }
        });
    out
}

/// Eigenvalues of the symmetric `a` (n x n), ascending.
pub(crate) fn eigenvalues(op: &'static str, a: &[f64], n: usize) -> Result<Vec<f64>> {
    solve(op, a, n, None)
}

/// The symmetric root of `a` (n x n), which is symmetric and but for rounding has no negative eigenvalue; such count as 0.
pub(crate) fn root(op: &'static str, a: &[f64], n: usize) -> Result<Vec<f64>> {
    let mut vectors = Mat::zeros(n, n);
    let values = solve(op, a, n, Some(vectors.as_mut()))?;
    // V diag(sqrt w) V' = S S' with S = V diag(w^(1/4)).
    let mut scaled = vec![0.0; n * n];
    for (i, row) in scaled.chunks_exact_mut(n.max(1)).enumerate() {
        for (j, (s, w)) in row.iter_mut().zip(&values).enumerate() {
            *s = vectors[(i, j)] * w.max(0.0).sqrt().sqrt();
        }
    }
    Ok(products(&scaled, &scaled, n))
}

fn solve(
    op: &'static str,
    a: &[f64],
    n: usize,
    vectors: Option<MatMut<'_, f64>>,
) -> Result<Vec<f64>> {
    let wanted = match vectors {
        Some(_) => ComputeEigenvectors::Yes,
        None => ComputeEigenvectors::No,
    };
    let mut memory = MemBuffer::new(self_adjoint_evd_scratch::<f64>(
        n,
        wanted,
        Par::Seq,
        Spec::default(),
    ));
    let mut values = faer::diag::Diag::<f64>::zeros(n);
    self_adjoint_evd(
        MatRef::from_row_major_slice(a, n, n),
        values.as_mut(),
        vectors,
        Par::Seq,
        MemStack::new(&mut memory),
        Spec::default(),
    )
    .map_err(|_| Error::Eigen { op, size: n })?;
    Ok(values.column_vector().iter().copied().collect())
}
