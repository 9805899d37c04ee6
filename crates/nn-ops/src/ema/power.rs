//! Averages with a power-function profile, and others made of them after training (EDM2, arXiv 2312.02696, section 3
//! and appendix C).
//!
//! An average of [`EmaDecay::Power`](super::EmaDecay::Power) weights the values of step s in proportion to s^gamma up to
//! its own step t. Snapshots of one or two such averages, taken now and then in a training run, span many profiles: the
//! one closest to any other profile, by least squares, is a mixture of them whose weights [`reconstruct`] finds.

use candle_core::{DType, Device, Result, Tensor, bail};
use std::collections::HashMap;

/// A power-function average as a profile over time: (gamma + 1) s^gamma / step^(gamma + 1) for s up to `step`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Profile {
    /// The step it was taken at (updates so far), above 0.
    pub step: f64,
    /// Its exponent, from 0.
    pub gamma: f64,
}

impl Profile {
    fn check(&self, what: &str) -> Result<()> {
        let fine =
            self.step > 0.0 && self.step.is_finite() && self.gamma >= 0.0 && self.gamma.is_finite();
        if fine {
            return Ok(());
        }
        bail!("{what}: {self:?} must have a step above 0 and a gamma not below 0, both finite")
    }

    /// The integral over time of the product of two profiles (eq. 151).
    fn dot(&self, other: &Self) -> f64 {
        let (first, last) = if self.step <= other.step {
            (self, other)
        } else {
            (other, self)
        };
        // Where both are positive, the later one still grows with its own exponent.
        let ratio = (first.step / last.step).powf(last.gamma);
        let scale = (first.gamma + 1.0) * (last.gamma + 1.0) / (first.gamma + last.gamma + 1.0);
        scale * ratio / last.step
    }
}

/// The largest relative width: that of gamma = 0, the plain average.
fn widest() -> f64 {
    1.0 / 12f64.sqrt()
}

/// The standard deviation of a profile over its step, sqrt(gamma + 1) / ((gamma + 2) sqrt(gamma + 3)) (eq. 126).
pub fn power_sigma_rel(gamma: f64) -> f64 {
    (gamma + 1.0).sqrt() / ((gamma + 2.0) * (gamma + 3.0).sqrt())
}

/// gamma of a relative width sigma_rel, 0.05 and 0.1 being typical: 16.97 and 6.94.
///
/// # Errors
/// A width not in (0, 1 / sqrt(12)].
pub fn power_gamma(sigma_rel: f64) -> Result<f64> {
    if !(sigma_rel > 0.0 && sigma_rel <= widest()) {
        bail!(
            "power_gamma: sigma_rel is {sigma_rel}, it must be in (0, {}]",
            widest()
        )
    }
    // The width falls as gamma grows, and is below 1 / gamma.
    let (mut low, mut high) = (0.0, 1.0 / sigma_rel);
    while high - low > f64::EPSILON * high {
        let middle = 0.5 * (low + high);
        if middle <= low || middle >= high {
            break;
        }
        if power_sigma_rel(middle) > sigma_rel {
            low = middle;
        } else {
            high = middle;
        }
    }
    Ok(0.5 * (low + high))
}

/// Weights of `snapshots` whose mixture has the profile closest to `target` (algorithm 3 of the paper). Their sum is
/// close to 1. The closer the snapshots, the larger are the weights and the rounding they multiply: up to some tens of
/// snapshots are of use.
///
/// # Errors
/// No snapshots, more than 1000, a profile out of its range, two profiles so alike that they cannot be told apart.
pub fn reconstruct(snapshots: &[Profile], target: &Profile) -> Result<Vec<f64>> {
    if snapshots.is_empty() || snapshots.len() > 1000 {
        bail!(
            "reconstruct: {} snapshots, there must be 1 to 1000",
            snapshots.len()
        )
    }
    target.check("reconstruct, target")?;
    for s in snapshots {
        s.check("reconstruct, snapshots")?;
    }
    // Normal equations: the mixture's product with every snapshot is the target's. Rows scaled by the norms, so that the
    // diagonal is 1.
    let norm: Vec<f64> = snapshots.iter().map(|s| s.dot(s).sqrt()).collect();
    let pairs = || snapshots.iter().zip(&norm);
    let row = |(a, na): (&Profile, &f64)| pairs().map(|(b, nb)| a.dot(b) / (na * nb)).collect();
    let matrix: Vec<Vec<f64>> = pairs().map(row).collect();
    let right = pairs().map(|(s, n)| s.dot(target) / n).collect();
    match solve(matrix, right) {
        Some(x) => Ok(x.iter().zip(&norm).map(|(x, n)| x / n).collect()),
        None => bail!("reconstruct: two of the snapshots are alike; give each profile once"),
    }
}

/// A x = b by elimination with pivoting of rows; `None` for a matrix that f64 cannot tell from a singular one.
fn solve(mut a: Vec<Vec<f64>>, mut b: Vec<f64>) -> Option<Vec<f64>> {
    let n = b.len();
    for k in 0..n {
        let pivot = (k..n).max_by(|&i, &j| a[i][k].abs().total_cmp(&a[j][k].abs()))?;
        if a[pivot][k].abs() < 1e-15 {
            return None;
        }
        a.swap(k, pivot);
        b.swap(k, pivot);
        let (top, rest) = a.split_at_mut(k + 1);
        for (i, row) in rest.iter_mut().enumerate() {
            let factor = row[k] / top[k][k];
            for (x, y) in row[k..].iter_mut().zip(&top[k][k..]) {
                *x -= factor * y;
            }
            b[k + 1 + i] -= factor * b[k];
        }
    }
    for k in (0..n).rev() {
        let known: f64 = (k + 1..n).map(|j| a[k][j] * b[j]).sum();
        b[k] = (b[k] - known) / a[k][k];
    }
    Some(b)
}

/// The weighted sum of tensors of the same names and shapes, summed in f64 in the order given, in f32.
///
/// # Errors
/// As many weights as sets not given, a name that a set lacks or has in another shape.
pub fn mix(sets: &[HashMap<String, Tensor>], weights: &[f64]) -> Result<HashMap<String, Tensor>> {
    let Some(first) = sets.first() else {
        bail!("mix: no sets of tensors")
    };
    if sets.len() != weights.len() {
        bail!("mix: {} weights for {} sets", weights.len(), sets.len())
    }
    let mut mixed = HashMap::new();
    for (name, like) in first {
        let mut sum = vec![0f64; like.elem_count()];
        for (set, weight) in sets.iter().zip(weights) {
            let Some(t) = set.get(name).filter(|t| t.shape() == like.shape()) else {
                bail!(
                    "mix: {name} is missing from a set or has another shape than {:?}",
                    like.shape()
                )
            };
            let host = t.to_device(&Device::Cpu)?.to_dtype(DType::F64)?;
            for (s, v) in sum.iter_mut().zip(host.flatten_all()?.to_vec1::<f64>()?) {
                *s += weight * v;
            }
        }
        let sum: Vec<f32> = sum.into_iter().map(|v| v as f32).collect();
        mixed.insert(
            name.clone(),
            Tensor::from_vec(sum, like.shape(), &Device::Cpu)?,
        );
    }
    Ok(mixed)
}
