//! The kernel distance: squared maximum mean discrepancy of features.

use crate::error::{Error, Result};
use crate::features::Features;
use crate::linalg;
use rayon::prelude::*;

/// How [`kernel_distance`] estimates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KernelOptions {
    /// Subsets drawn.
    pub subsets: usize,
    /// Vectors of either side in a subset.
    pub size: usize,
    /// Of the draws.
    pub seed: u64,
}

impl Default for KernelOptions {
    /// 100 subsets of 1,000, as is usual.
    fn default() -> Self {
        Self {
            subsets: 100,
            size: 1000,
            seed: 0,
        }
    }
}

/// A kernel distance and how much it varies from subset to subset.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct KernelDistance {
    /// Mean over the subsets.
    pub mean: f64,
    /// Standard deviation over the subsets (divided by their number).
    pub std: f64,
}

/// The kernel inception distance of Binkowski et al. 2018 (arXiv 1801.01401), on features of any network: the unbiased
/// estimate of the squared maximum mean discrepancy ([`mmd2`]), averaged over random subsets without replacement.
///
/// Unbiased, so it does not depend on the number of samples, and may be negative.
///
/// # Errors
/// [`Error::TooFew`] if a subset is larger than a set or smaller than 2, [`Error::Dims`], [`Error::Argument`] without
/// subsets.
pub fn kernel_distance(
    a: &Features,
    b: &Features,
    options: KernelOptions,
) -> Result<KernelDistance> {
    Features::same_space("kernel distance", a, b)?;
    let KernelOptions {
        subsets,
        size,
        seed,
    } = options;
    if subsets == 0 || subsets > 1 << 20 {
        return Err(Error::Argument(format!(
            "kernel distance: {subsets} subsets; use 1 to 2^20"
        )));
    }
    for (what, set) in [("the samples", a), ("the reference's", b)] {
        if set.count() < size.max(2) {
            return Err(Error::TooFew {
                metric: "kernel distance",
                what,
                have: set.count(),
                need: size.max(2),
                hint: "use more pictures or smaller subsets",
            });
        }
    }
    if size < 2 {
        return Err(Error::Argument(format!(
            "kernel distance: subsets of {size}; use at least 2"
        )));
    }
    let values: Vec<f64> = (0..subsets as u32)
        .into_par_iter()
        .map(|subset| {
            let draw = |set: &Features, epoch| {
                let order = nn_ops::noise::permutation(seed, epoch, set.count());
                let rows = order[..size].iter().flat_map(|&i| {
                    let at = i as usize * set.dim();
                    &set.values()[at..at + set.dim()]
                });
                rows.map(|&v| f64::from(v)).collect::<Vec<f64>>()
            };
            estimate(&draw(a, 2 * subset), &draw(b, 2 * subset + 1), a.dim())
        })
        .collect();
    let mean = values.iter().sum::<f64>() / subsets as f64;
    let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / subsets as f64;
    Ok(KernelDistance {
        mean,
        std: variance.sqrt(),
    })
}

/// The unbiased estimate of the squared maximum mean discrepancy between all of `a` and all of `b` with the kernel
/// `k(x, y) = (x.y / D + 1)^3`:
/// `sum_(i != j) k(a_i, a_j) / (n (n - 1)) + the same of b - 2 sum_ij k(a_i, b_j) / (n m)`.
///
/// # Errors
/// [`Error::TooFew`] below two vectors, [`Error::Dims`].
pub fn mmd2(a: &Features, b: &Features) -> Result<f64> {
    Features::same_space("kernel distance", a, b)?;
    for (what, set) in [("the samples", a), ("the reference's", b)] {
        if set.count() < 2 {
            return Err(Error::TooFew {
                metric: "kernel distance",
                what,
                have: set.count(),
                need: 2,
                hint: "use more pictures",
            });
        }
    }
    Ok(estimate(&a.wide(), &b.wide(), a.dim()))
}

fn estimate(a: &[f64], b: &[f64], dim: usize) -> f64 {
    let (n, m) = ((a.len() / dim) as f64, (b.len() / dim) as f64);
    let within = |x: &[f64], n: f64| {
        let diagonal: f64 = x
            .chunks_exact(dim)
            .map(|row| kernel(row.iter().map(|v| v * v).sum(), dim))
            .sum();
        (sum(x, x, dim) - diagonal) / (n * (n - 1.0))
    };
    within(a, n) + within(b, m) - 2.0 * sum(a, b, dim) / (n * m)
}

fn kernel(product: f64, dim: usize) -> f64 {
    (product / dim as f64 + 1.0).powi(3)
}

/// The kernel summed over all pairs; blocks of rows on all threads, added up in order.
fn sum(a: &[f64], b: &[f64], dim: usize) -> f64 {
    const ROWS: usize = 64;
    let parts: Vec<f64> = a
        .par_chunks(ROWS * dim)
        .map(|rows| {
            let mut out = vec![0.0; rows.len() / dim * (b.len() / dim)];
            linalg::products_into(rows, b, dim, &mut out);
            out.iter().map(|&p| kernel(p, dim)).sum()
        })
        .collect();
    parts.iter().sum()
}
