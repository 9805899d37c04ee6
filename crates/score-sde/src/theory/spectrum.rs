//! The eigenvalues of a Gaussian law, possibly conditional.

use crate::error::{Error, Result};

/// A direction of the space, or several that are alike.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Mode {
    /// The eigenvalue l of the covariance: the variance along it.
    pub variance: f64,
    /// The mean square of the law's mean along it: 0 unless the law is conditional, and its mean varies with the condition.
    pub mean_square: f64,
    /// How many directions are like this one.
    pub count: f64,
}

/// A Gaussian law by its eigenvalues.
#[derive(Debug, Clone, PartialEq)]
pub struct Spectrum {
    modes: Vec<Mode>,
}

impl Spectrum {
    /// A law of mean 0 with the given eigenvalues.
    ///
    /// # Errors
    /// No eigenvalues, or one that is not positive and finite.
    pub fn new(eigenvalues: &[f64]) -> Result<Self> {
        let mode = |&variance: &f64| Mode {
            variance,
            mean_square: 0.0,
            count: 1.0,
        };
        Self::of_modes(eigenvalues.iter().map(mode).collect())
    }

    /// # Errors
    /// No modes, a variance or count that is not positive and finite, a negative mean square.
    pub fn of_modes(modes: Vec<Mode>) -> Result<Self> {
        let refuse = |value, need| Error::Argument {
            op: "Spectrum",
            name: "modes",
            value,
            need,
        };
        if modes.is_empty() {
            return Err(refuse("empty".into(), "at least one"));
        }
        let positive = |x: f64| x > 0.0 && x.is_finite();
        let good = |m: &Mode| {
            positive(m.variance)
                && positive(m.count)
                && m.mean_square >= 0.0
                && m.mean_square.is_finite()
        };
        match modes.iter().find(|m| !good(m)) {
            None => Ok(Self { modes }),
            Some(m) => Err(refuse(
                format!("{m:?}"),
                "of positive variance and count and of a mean square not below 0, all finite",
            )),
        }
    }

    /// Two eigenvalues of ratio `kappa` whose mean is 1.
    ///
    /// # Errors
    /// A `kappa` that is not positive and finite.
    pub fn two(kappa: f64) -> Result<Self> {
        let low = 2.0 / (1.0 + kappa);
        Self::new(&[kappa * low, low])
    }

    /// Eigenvalues 1 / k^exponent, k = 1 to `count`, scaled to a mean of 1: their condition number is count^exponent.
    ///
    /// # Errors
    /// A `count` of 0, an `exponent` that is not finite.
    pub fn power_law(count: usize, exponent: f64) -> Result<Self> {
        let values: Vec<f64> = (1..=count).map(|k| (k as f64).powf(-exponent)).collect();
        Ok(Self::new(&values)?.normalised())
    }

    /// Its modes.
    pub fn modes(&self) -> &[Mode] {
        &self.modes
    }

    /// The number of directions.
    pub fn dimension(&self) -> f64 {
        self.modes.iter().map(|m| m.count).sum()
    }

    /// The sum of g(l) over all directions: the trace of g(Sigma).
    pub fn trace(&self, g: impl Fn(f64) -> f64) -> f64 {
        self.modes.iter().map(|m| m.count * g(m.variance)).sum()
    }

    /// kappa, the largest eigenvalue over the smallest.
    pub fn condition(&self) -> f64 {
        let (low, high) = self.range();
        high / low
    }

    /// The smallest and the largest eigenvalue.
    pub fn range(&self) -> (f64, f64) {
        let values = self.modes.iter().map(|m| m.variance);
        values.fold((f64::INFINITY, 0.0), |(low, high), v| {
            (low.min(v), high.max(v))
        })
    }

    /// Scaled such that the mean eigenvalue is 1, as Theorem 1 wants it: Tr Sigma = d.
    #[must_use]
    pub fn normalised(&self) -> Self {
        let scale = self.dimension() / self.trace(|l| l);
        let modes = self.modes.iter().map(|m| Mode {
            variance: m.variance * scale,
            mean_square: m.mean_square * scale,
            ..*m
        });
        Self {
            modes: modes.collect(),
        }
    }

    /// Independent parts as one law: what they lack, in nats, adds up.
    #[must_use]
    pub fn join(mut self, other: &Self) -> Self {
        self.modes.extend_from_slice(&other.modes);
        self
    }

    /// The same with eigenvalues within 1 + `width` of each other made one, their mean: the trace stays, the divergence
    /// changes by about `width`^2 of itself. A million directions of a picture become a few hundred.
    #[must_use]
    pub fn grouped(&self, width: f64) -> Self {
        // A width that says nothing groups nothing.
        let scale = width.ln_1p();
        if scale.is_nan() || scale <= 0.0 {
            return self.clone();
        }
        let mut groups = std::collections::BTreeMap::<i64, Mode>::new();
        for m in &self.modes {
            // The sums of a group, divided at the end.
            let group = groups.entry((m.variance.ln() / scale).floor() as i64);
            let sum = group.or_insert(Mode {
                variance: 0.0,
                mean_square: 0.0,
                count: 0.0,
            });
            sum.variance += m.count * m.variance;
            sum.mean_square += m.count * m.mean_square;
            sum.count += m.count;
        }
        let mean = |m: Mode| Mode {
            variance: m.variance / m.count,
            mean_square: m.mean_square / m.count,
            ..m
        };
        Self {
            modes: groups.into_values().map(mean).collect(),
        }
    }
}
