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
/// Unbiased, so it does not depend on the number of samples, and may be negative. [`KernelReference`] compares many sets with
/// one reference in less time.
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
    KernelReference::new(b.clone(), options)?.distance(a)
}

/// The reference's side of [`kernel_distance`]: its subsets, and the kernel among the vectors of each.
#[derive(Debug, Clone)]
pub struct KernelReference {
    features: Features,
    options: KernelOptions,
    subsets: Vec<Subset>,
    /// Of each subset, the mean kernel of two different vectors.
    within: Vec<f64>,
}

impl KernelReference {
    /// Draws the reference's subsets.
    ///
    /// # Errors
    /// [`Error::TooFew`] if a subset is larger than the reference or smaller than 2, [`Error::Argument`] without subsets.
    pub fn new(features: Features, options: KernelOptions) -> Result<Self> {
        let KernelOptions { subsets, size, .. } = options;
        if subsets == 0 || subsets > 1 << 20 || size < 2 {
            return Err(Error::Argument(format!(
                "kernel distance: {subsets} subsets of {size}; use 1 to 2^20 subsets of at least 2"
            )));
        }
        enough(&features, "the reference's", size)?;
        let subsets = draws(&features, options, 1);
        let within = within(&features, &subsets);
        Ok(Self {
            features,
            options,
            subsets,
            within,
        })
    }

    /// How it estimates.
    pub fn options(&self) -> KernelOptions {
        self.options
    }

    /// The distance of `samples` to the reference.
    ///
    /// # Errors
    /// [`Error::TooFew`] if a subset is larger than `samples`, [`Error::Dims`].
    pub fn distance(&self, samples: &Features) -> Result<KernelDistance> {
        Features::same_space("kernel distance", samples, &self.features)?;
        let size = self.options.size;
        enough(samples, "the samples", size)?;
        let subsets = draws(samples, self.options, 0);
        let inner = within(samples, &subsets);
        let across = sums(samples, &subsets, &self.features, &self.subsets);
        let pairs = (size * size) as f64;
        let values: Vec<f64> = (inner.iter().zip(&self.within).zip(&across))
            .map(|((a, b), across)| a + b - 2.0 * across / pairs)
            .collect();
        let count = values.len() as f64;
        let mean = values.iter().sum::<f64>() / count;
        let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / count;
        Ok(KernelDistance {
            mean,
            std: variance.sqrt(),
        })
    }
}

/// Rows of a set.
type Subset = Vec<u32>;

fn enough(set: &Features, what: &'static str, size: usize) -> Result<()> {
    if set.count() >= size.max(2) {
        return Ok(());
    }
    Err(Error::TooFew {
        metric: "kernel distance",
        what,
        have: set.count(),
        need: size.max(2),
        hint: "use more pictures or smaller subsets",
    })
}

/// The subsets of one side: 0 for the samples, 1 for the reference.
fn draws(set: &Features, options: KernelOptions, side: u32) -> Vec<Subset> {
    (0..options.subsets as u32)
        .map(|subset| {
            let mut order =
                nn_ops::noise::permutation(options.seed, 2 * subset + side, set.count());
            order.truncate(options.size);
            order
        })
        .collect()
}

/// The unbiased estimate of the squared maximum mean discrepancy between all of `a` and all of `b` with the kernel
/// `k(x, y) = (x.y / D + 1)^3`:
/// `sum_(i != j) k(a_i, a_j) / (n (n - 1)) + the same of b - 2 sum_ij k(a_i, b_j) / (n m)`.
///
/// # Errors
/// [`Error::TooFew`] below two vectors, [`Error::Dims`].
pub fn mmd2(a: &Features, b: &Features) -> Result<f64> {
    Features::same_space("kernel distance", a, b)?;
    enough(a, "the samples", 2)?;
    enough(b, "the reference's", 2)?;
    let all = |set: &Features| vec![(0..set.count() as u32).collect::<Subset>()];
    let (rows_a, rows_b) = (all(a), all(b));
    let across = sums(a, &rows_a, b, &rows_b)[0];
    let pairs = a.count() as f64 * b.count() as f64;
    Ok(within(a, &rows_a)[0] + within(b, &rows_b)[0] - 2.0 * across / pairs)
}

/// Of each subset, the mean kernel of two different vectors.
fn within(set: &Features, subsets: &[Subset]) -> Vec<f64> {
    let of_itself = |row: &[f32]| {
        let square = row.iter().map(|&v| f64::from(v) * f64::from(v)).sum();
        kernel(square, set.dim())
    };
    let diagonal: Vec<f64> = set.rows().map(of_itself).collect();
    let sums = sums(set, subsets, set, subsets);
    (sums.iter().zip(subsets))
        .map(|(sum, subset)| {
            let n = subset.len() as f64;
            let same: f64 = subset.iter().map(|&i| diagonal[i as usize]).sum();
            (sum - same) / (n * (n - 1.0))
        })
        .collect()
}

/// `(x.y / D + 1)^3` of a product.
fn kernel(product: f64, dim: usize) -> f64 {
    (product / dim as f64 + 1.0).powi(3)
}

/// For each pair of subsets the kernel summed over all pairs of their vectors: where the subsets overlap much by way of the
/// kernel of everything, which is computed once, else each by itself.
fn sums(a: &Features, of_a: &[Subset], b: &Features, of_b: &[Subset]) -> Vec<f64> {
    let pairs = |(x, y): (&Subset, &Subset)| x.len() * y.len();
    let apart: usize = of_a.iter().zip(of_b).map(pairs).sum();
    // Who belongs to what takes memory, too.
    if of_a.len() <= MOST && a.count().saturating_mul(b.count()) < apart {
        return sums_of_all(a, of_a, b, of_b);
    }
    (of_a.par_iter().zip(of_b))
        .map(|(x, y)| {
            let (x, y) = (rows(a, x), rows(b, y));
            let parts = x.par_chunks(ROWS * a.dim());
            let parts: Vec<f64> = parts
                .map(|x| kernels(x, &y, a.dim()).iter().sum())
                .collect();
            parts.iter().sum()
        })
        .collect()
}

/// The most subsets that share the kernel of everything.
const MOST: usize = 1 << 12;
/// Rows of `a` that one task compares with all of `b`; tasks are added up in order.
const ROWS: usize = 64;

fn sums_of_all(a: &Features, of_a: &[Subset], b: &Features, of_b: &[Subset]) -> Vec<f64> {
    let (count, others) = (of_a.len(), b.count());
    // (subsets, vectors): 1 for those that belong to it.
    let members = |of: &[Subset], vectors: usize| {
        let mut members = vec![0.0; count * vectors];
        for (line, subset) in members.chunks_exact_mut(vectors).zip(of) {
            subset.iter().for_each(|&i| line[i as usize] = 1.0);
        }
        members
    };
    let (members_a, members_b) = (members(of_a, a.count()), members(of_b, others));
    let (a_wide, b_wide) = (a.wide(), b.wide());
    let parts: Vec<Vec<f64>> = (a_wide.par_chunks(ROWS * a.dim()).enumerate())
        .map(|(block, some)| {
            let kernels = kernels(some, &b_wide, a.dim());
            let mut sums = vec![0.0; some.len() / a.dim() * count];
            linalg::products_into(&kernels, &members_b, others, &mut sums);
            (0..count)
                .map(|subset| {
                    let member = &members_a[subset * a.count() + block * ROWS..];
                    let sums = sums[subset..].iter().step_by(count);
                    sums.zip(member).map(|(sum, member)| sum * member).sum()
                })
                .collect()
        })
        .collect();
    (0..count)
        .map(|subset| parts.iter().map(|part| part[subset]).sum())
        .collect()
}

/// Some of a set's vectors.
fn rows(set: &Features, subset: &[u32]) -> Vec<f64> {
    let row = |&i: &u32| &set.values()[i as usize * set.dim()..][..set.dim()];
    subset.iter().flat_map(row).map(|&v| f64::from(v)).collect()
}

/// The kernel of each vector of `a` with each of `b`.
fn kernels(a: &[f64], b: &[f64], dim: usize) -> Vec<f64> {
    let mut out = vec![0.0; a.len() / dim * (b.len() / dim)];
    linalg::products_into(a, b, dim, &mut out);
    out.iter_mut().for_each(|p| *p = kernel(*p, dim));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_of_everything_gives_the_same_sums() {
        let set = |seed, count: usize| {
            let mut values = vec![0f32; count * 7];
            nn_ops::noise::fill_normal(seed, 0, 0, 0, &mut values);
            Features::new(values, 7).unwrap()
        };
        let (a, b) = (set(1, 150), set(2, 97));
        let options = KernelOptions {
            subsets: 5,
            size: 71,
            seed: 4,
        };
        let (x, y) = (draws(&a, options, 0), draws(&b, options, 1));
        // 5 x 71 x 71 pairs are more than 150 x 97, one subset's are fewer.
        let all = sums(&a, &x, &b, &y);
        for (i, all) in all.iter().enumerate() {
            let one = sums(&a, &x[i..=i], &b, &y[i..=i])[0];
            assert!((all - one).abs() < 1e-11 * one.abs(), "{all} {one}");
        }
    }
}
