//! How much of one set lies where the other does, by nearest neighbours.

use crate::error::{Error, Result};
use crate::features::Features;
use crate::linalg;
use rayon::prelude::*;

/// Fidelity and diversity, apart from each other.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Manifold {
    /// The fraction of samples that lie within the reference's balls, 0 to 1: fidelity.
    pub precision: f64,
    /// The fraction of the reference that lies within the samples' balls, 0 to 1: diversity.
    pub recall: f64,
    /// The reference's balls that a sample lies in, on average, over k: fidelity; about 1 for equal distributions, and may
    /// exceed it.
    pub density: f64,
    /// The fraction of the reference's balls that hold a sample, 0 to 1: diversity.
    pub coverage: f64,
}

/// Improved precision and recall (Kynkaanniemi et al. 2019, arXiv 1904.06991) and density and coverage (Naeem et al. 2020,
/// arXiv 2002.09797) of `samples` against `reference`.
///
/// The ball of a vector reaches to its `k`th nearest neighbour in its own set, itself not counted; its surface belongs to
/// it. Distances are Euclidean. The first paper uses k = 3, the second 5. All four depend on the numbers of vectors:
/// compare at equal numbers.
///
/// # Errors
/// [`Error::TooFew`] if a set has not more than `k` vectors, [`Error::Dims`], [`Error::Argument`] if `k` is 0.
pub fn manifold(samples: &Features, reference: &Features, k: usize) -> Result<Manifold> {
    Features::same_space("precision and recall", samples, reference)?;
    if k == 0 {
        return Err(Error::Argument(
            "precision and recall: k is 0, it must be at least 1".into(),
        ));
    }
    for (what, set) in [("the samples", samples), ("the reference's", reference)] {
        if set.count() <= k {
            return Err(Error::TooFew {
                metric: "precision and recall",
                what,
                have: set.count(),
                need: k.saturating_add(1),
                hint: "use more pictures or a smaller k",
            });
        }
    }
    let (fake, real) = (Points::new(samples), Points::new(reference));
    let (fake_radii, real_radii) = (fake.radii(k), real.radii(k));
    // One row of distances per vector of the reference.
    let parts = real.by_rows(&fake, |i, distances| Row {
        recalled: distances.iter().zip(&fake_radii).any(|(d, r)| d <= r),
        inside: distances
            .iter()
            .enumerate()
            .filter(|(_, d)| **d <= real_radii[i])
            .map(|(j, _)| j as u32)
            .collect(),
    });
    let mut precise = vec![false; fake.count()];
    let (mut recalled, mut covered, mut inside) = (0usize, 0usize, 0usize);
    for row in &parts {
        recalled += usize::from(row.recalled);
        covered += usize::from(!row.inside.is_empty());
        inside += row.inside.len();
        for &j in &row.inside {
            precise[j as usize] = true;
        }
    }
    let (n, m) = (real.count() as f64, fake.count() as f64);
    Ok(Manifold {
        precision: precise.iter().filter(|p| **p).count() as f64 / m,
        recall: recalled as f64 / n,
        density: inside as f64 / (k as f64 * m),
        coverage: covered as f64 / n,
    })
}

/// What one vector of the reference contributes.
struct Row {
    recalled: bool,
    /// Samples in its ball.
    inside: Vec<u32>,
}

/// Vectors in f64 with their squared lengths.
struct Points {
    values: Vec<f64>,
    squares: Vec<f64>,
    dim: usize,
}

impl Points {
    fn new(features: &Features) -> Self {
        let (values, dim) = (features.wide(), features.dim());
        let square = |row: &[f64]| row.iter().map(|v| v * v).sum();
        Self {
            squares: values.chunks_exact(dim).map(square).collect(),
            values,
            dim,
        }
    }

    fn count(&self) -> usize {
        self.squares.len()
    }

    /// Calls `f` with the number of each vector and its squared distances to all of `others`.
    fn by_rows<T: Send>(&self, others: &Self, f: impl Fn(usize, &[f64]) -> T + Sync) -> Vec<T> {
        const ROWS: usize = 64;
        let m = others.count();
        self.values
            .par_chunks(ROWS * self.dim)
            .enumerate()
            .flat_map_iter(|(block, rows)| {
                let mut out = vec![0.0; rows.len() / self.dim * m];
                linalg::products_into(rows, &others.values, self.dim, &mut out);
                let each = out.chunks_exact_mut(m).enumerate().map(|(r, row)| {
                    let i = block * ROWS + r;
                    for (d, s) in row.iter_mut().zip(&others.squares) {
                        *d = (self.squares[i] + s - 2.0 * *d).max(0.0);
                    }
                    f(i, row)
                });
                each.collect::<Vec<T>>()
            })
            .collect()
    }

    /// The squared distance of each vector to its `k`th nearest other.
    fn radii(&self, k: usize) -> Vec<f64> {
        self.by_rows(self, |i, row| {
            let mut others: Vec<f64> = row[..i].iter().chain(&row[i + 1..]).copied().collect();
            *others.select_nth_unstable_by(k - 1, f64::total_cmp).1
        })
    }
}
