//! Gaussians fitted to features, and the Frechet distance between two.

use crate::error::{Error, Result};
use crate::features::Features;
use crate::linalg;

/// Mean and covariance of features: all that the Frechet distance looks at.
#[derive(Debug, Clone, PartialEq)]
pub struct Gaussian {
    mean: Vec<f64>,
    /// (D, D), symmetric.
    covariance: Vec<f64>,
}

impl Gaussian {
    /// The mean and the unbiased covariance (divided by N - 1) of features.
    ///
    /// # Errors
    /// [`Error::TooFew`] below two vectors.
    pub fn of(features: &Features) -> Result<Self> {
        let (n, d) = (features.count(), features.dim());
        if n < 2 {
            return Err(Error::TooFew {
                metric: "covariance",
                what: "the vectors",
                have: n,
                need: 2,
                hint: "use more pictures",
            });
        }
        let mut mean = vec![0.0; d];
        for row in features.rows() {
            mean.iter_mut()
                .zip(row)
                .for_each(|(m, &v)| *m += f64::from(v));
        }
        mean.iter_mut().for_each(|m| *m /= n as f64);
        let mut centred = features.wide();
        for row in centred.chunks_exact_mut(d) {
            row.iter_mut().zip(&mean).for_each(|(v, m)| *v -= m);
        }
        let columns = linalg::transposed(&centred, d);
        drop(centred);
        let mut covariance = linalg::products(&columns, &columns, n);
        covariance.iter_mut().for_each(|c| *c /= (n - 1) as f64);
        Ok(Self { mean, covariance })
    }

    /// From a mean (D) and a covariance (D, D), row by row, as other programs save them.
    ///
    /// # Errors
    /// [`Error::Shape`], [`Error::NotFinite`]; [`Error::Argument`] if the covariance is not symmetric.
    pub fn new(mean: Vec<f64>, covariance: Vec<f64>) -> Result<Self> {
        let d = mean.len();
        if d == 0 || covariance.len() != d * d {
            return Err(Error::Shape {
                what: "covariance".into(),
                found: covariance.len(),
                expected: format!("the mean has {d}, so {d} x {d} were expected"),
            });
        }
        for (what, values) in [("mean", &mean), ("covariance", &covariance)] {
            if let Some(at) = values.iter().position(|v| !v.is_finite()) {
                return Err(Error::NotFinite {
                    what: what.into(),
                    row: at / d,
                    column: at % d,
                    value: values[at],
                });
            }
        }
        let largest = covariance.iter().fold(0f64, |m, v| m.max(v.abs()));
        for i in 0..d {
            for j in 0..i {
                let (a, b) = (covariance[i * d + j], covariance[j * d + i]);
                if (a - b).abs() > 1e-6 * largest {
                    return Err(Error::Argument(format!(
                        "the covariance is not symmetric: entries ({i}, {j}) and ({j}, {i}) are {a} and {b}"
                    )));
                }
            }
        }
        Ok(Self { mean, covariance })
    }

    /// The dimension D.
    pub fn dim(&self) -> usize {
        self.mean.len()
    }

    /// The mean (D).
    pub fn mean(&self) -> &[f64] {
        &self.mean
    }

    /// The covariance (D, D), row by row.
    pub fn covariance(&self) -> &[f64] {
        &self.covariance
    }
}

/// The squared Frechet (2-Wasserstein) distance between two Gaussians,
/// `|m1 - m2|^2 + Tr(S1) + Tr(S2) - 2 Tr((S1 S2)^(1/2))`
/// (Dowson and Landau 1982; Heusel et al. 2017, arXiv 1706.08500, for features of Inception-v3).
///
/// The last trace is the sum of the roots of the eigenvalues of `S1^(1/2) S2 S1^(1/2)`, which is symmetric and has those of
/// `S1 S2`: no complex numbers and no offset on the diagonal, also where there are fewer samples than dimensions. The
/// result is not negative but for rounding.
///
/// It shrinks with the number of samples: compare at equal numbers. It is FID only for features of the FID's own network.
///
/// # Errors
/// [`Error::Dims`], [`Error::Eigen`].
pub fn frechet_distance(a: &Gaussian, b: &Gaussian) -> Result<f64> {
    const OP: &str = "Frechet distance";
    let d = a.dim();
    if d != b.dim() {
        return Err(Error::Dims {
            op: OP,
            a: "the first Gaussian",
            dim_a: d,
            b: "the second",
            dim_b: b.dim(),
        });
    }
    let apart: f64 = a
        .mean
        .iter()
        .zip(&b.mean)
        .map(|(a, b)| (a - b).powi(2))
        .sum();
    let trace = |s: &[f64]| -> f64 { s.iter().step_by(d + 1).sum() };
    let root = linalg::root(OP, &a.covariance, d)?;
    // Both factors are symmetric, so products with rows are products with columns.
    let half = linalg::products(&root, &b.covariance, d);
    let product = linalg::products(&half, &root, d);
    let eigenvalues = linalg::eigenvalues(OP, &product, d)?;
    let overlap: f64 = eigenvalues.iter().map(|w| w.max(0.0).sqrt()).sum();
    Ok(apart + trace(&a.covariance) + trace(&b.covariance) - 2.0 * overlap)
}
