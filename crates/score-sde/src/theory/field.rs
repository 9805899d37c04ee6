//! Stationary pictures with a power-law spectrum, in pixels and in wavelets.

use super::symmetric::eigen;
use super::{Mode, Spectrum};
use crate::error::{Error, Result};
use std::f64::consts::{FRAC_1_SQRT_2, TAU};

/// The low-pass filter of the Haar wavelet.
pub const HAAR: [f64; 2] = [FRAC_1_SQRT_2, FRAC_1_SQRT_2];

/// Eigenvalues this close, relatively, are made one.
const GROUP: f64 = 0.02;

/// A stationary Gaussian law of periodic square pictures. Its covariance is diagonal in Fourier's basis: the eigenvalues are
/// its power spectrum, one per frequency.
#[derive(Debug, Clone, PartialEq)]
pub struct Field {
    size: usize,
    /// Row-major over the frequencies 2 pi (i, j) / size.
    power: Vec<f64>,
}

/// The details of one level of a field's orthonormal wavelet transform, each orientation scaled to unit variance.
#[derive(Debug, Clone, PartialEq)]
pub struct Details {
    /// Their law given the low band of the same level, which is what is diffused: eigenvalues of the conditional covariance,
    /// and the mean squares of the conditional mean.
    pub conditional: Spectrum,
    /// Their law alone.
    pub marginal: Spectrum,
    /// What the orientations' coefficients were divided by: their standard deviations. First the one that is high along a
    /// row (PyWavelets' cV), then that along a column (cH), then the diagonal.
    pub std: [f64; 3],
}

impl Field {
    /// Power |w|^-`exponent` at angular frequency w, with that of the lowest frequency also at 0, scaled to pixels of unit
    /// variance. Natural pictures have an exponent of about 2.
    ///
    /// # Errors
    /// A `size` that is odd or not in 2 to 4096, an `exponent` not in 0 to 8.
    pub fn power_law(size: usize, exponent: f64) -> Result<Self> {
        if !(2..=4096).contains(&size) || size % 2 == 1 || !(0.0..=8.0).contains(&exponent) {
            return Err(Error::Argument {
                op: "Field::power_law",
                name: "(size, exponent)",
                value: format!("({size}, {exponent})"),
                need: "even and in 2 to 4096, and in 0 to 8",
            });
        }
        let square = |i: usize| {
            let i = i.min(size - i) as f64;
            i * i
        };
        let power: Vec<f64> = (0..size * size)
            .map(|k| (square(k / size) + square(k % size)).max(1.0))
            .map(|w2| w2.powf(-exponent / 2.0))
            .collect();
        Ok(Self { size, power }.standardised())
    }

    /// A law by its power spectrum, measured for instance: row-major over the frequencies 2 pi (i, j) / `size`. It is not
    /// scaled, see [`Field::standardised`].
    ///
    /// # Errors
    /// A `size` not in 1 to 4096, a power that is negative or not finite, or another number of them than size^2.
    pub fn of_power(size: usize, power: Vec<f64>) -> Result<Self> {
        let refuse = |name, value, need| Error::Argument {
            op: "Field::of_power",
            name,
            value,
            need,
        };
        if !(1..=4096).contains(&size) || power.len() != size * size {
            let value = format!("({size}, {})", power.len());
            let need = "in 1 to 4096, and its square";
            return Err(refuse("(size, powers)", value, need));
        }
        match power.iter().find(|p| !(**p >= 0.0 && p.is_finite())) {
            None => Ok(Self { size, power }),
            Some(p) => Err(refuse("power", p.to_string(), "finite and not below 0")),
        }
    }

    /// Pixels of a side.
    pub fn size(&self) -> usize {
        self.size
    }

    /// The power at each frequency 2 pi (i, j) / size, row-major; the mean is the pixels' variance.
    pub fn power(&self) -> &[f64] {
        &self.power
    }

    /// The mean power of the frequencies about k cycles a side away from 0 (their distance rounded), k from 0 to the corner,
    /// about size / sqrt(2).
    pub fn radial(&self) -> Vec<f64> {
        let n = self.size;
        let cycles = |i: usize| i.min(n - i) as f64;
        let radius = |k: usize| cycles(k / n).hypot(cycles(k % n)).round() as usize;
        let corner = cycles(n / 2).hypot(cycles(n / 2)).round() as usize;
        let mut sums = vec![(0.0, 0u32); corner + 1];
        for (k, p) in self.power.iter().enumerate() {
            let (sum, count) = &mut sums[radius(k)];
            *sum += p;
            *count += 1;
        }
        let mean = |(sum, count): (f64, u32)| sum / f64::from(count.max(1));
        sums.into_iter().map(mean).collect()
    }

    /// The same law with pixels of unit variance.
    #[must_use]
    pub fn standardised(mut self) -> Self {
        let scale = self.power.len() as f64 / self.power.iter().sum::<f64>();
        self.power.iter_mut().for_each(|p| *p *= scale);
        self
    }

    /// kappa of the pixels' covariance.
    pub fn condition(&self) -> f64 {
        let power = self.power.iter();
        let (low, high) = power.fold((f64::INFINITY, 0f64), |(low, high), &p| {
            (low.min(p), high.max(p))
        });
        high / low
    }

    /// The eigenvalues of the pixels' covariance, those within 2 % of each other made one.
    ///
    /// # Errors
    /// Those of [`Spectrum::new`], for a spectrum that underflows.
    pub fn spectrum(&self) -> Result<Spectrum> {
        Ok(Spectrum::new(&self.power)?.grouped(GROUP))
    }

    /// One level of the orthonormal wavelet transform with low-pass filter `filter` (its sum is sqrt(2)): the law of the low
    /// band, not standardised, and that of the details.
    ///
    /// A frequency w of the bands mixes the four frequencies of the picture that alias to it, by the orthogonal matrix
    /// H = R(w1) x R(w2) with R = ((a, b), (b, -a)), a and b being |m(w/2)| and |m(w/2 + pi)| of the filter's response m.
    /// (The phases of an orthonormal filter pair drop out: they only rotate the bands' Fourier coefficients.) With the four
    /// powers D the bands' covariance there is C = H D H^T, from which follow the low band's power, C_LL, the details'
    /// conditional covariance C_HH - C_HL C_LH / C_LL and the power of their conditional mean, C_HL / sqrt(C_LL).
    ///
    /// # Errors
    /// A field of odd size, a filter that is not orthonormal.
    pub fn split(&self, filter: &[f64]) -> Result<(Self, Details)> {
        let (n, half) = (self.size, self.size / 2);
        if n % 2 == 1 || n < 2 {
            return Err(Error::Argument {
                op: "Field::split",
                name: "the field's size",
                value: n.to_string(),
                need: "even",
            });
        }
        let rotations = responses(filter, n)?;
        let mut low = Vec::with_capacity(half * half);
        let mut bands = Vec::with_capacity(half * half);
        for (i, j) in (0..half * half).map(|k| (k / half, k % half)) {
            let at = |y: usize, x: usize| self.power[(i + y * half) * n + j + x * half];
            let d = [at(0, 0), at(0, 1), at(1, 0), at(1, 1)];
            let c = band_covariance(rotations[i], rotations[j], d);
            low.push(c[0][0]);
            bands.push(c);
        }
        // The variance of a band is the mean of its power.
        let mut scale = [0.0; 3];
        for c in &bands {
            (0..3).for_each(|b| scale[b] += c[b + 1][b + 1]);
        }
        let scale = scale.map(|s| (bands.len() as f64 / s).sqrt());
        let (mut conditional, mut marginal) = (Vec::new(), Vec::new());
        for c in &bands {
            let whole = array(|p, q| scale[p] * scale[q] * c[p + 1][q + 1]);
            let mean = [0, 1, 2].map(|b| scale[b] * c[b + 1][0] / c[0][0].sqrt());
            let given_low = array(|p, q| whole[p][q] - mean[p] * mean[q]);
            for (variance, _) in eigen(whole) {
                marginal.push(mode(variance, 0.0));
            }
            for (variance, e) in eigen(given_low) {
                let along: f64 = e.iter().zip(mean).map(|(e, m)| e * m).sum();
                conditional.push(mode(variance, along * along));
            }
        }
        let details = Details {
            conditional: Spectrum::of_modes(conditional)?.grouped(GROUP),
            marginal: Spectrum::of_modes(marginal)?.grouped(GROUP),
            std: scale.map(|s| 1.0 / s),
        };
        let size = half;
        Ok((Self { size, power: low }, details))
    }

    /// `levels` levels of [`Field::split`], finest first, and the last low band, standardised.
    ///
    /// # Errors
    /// Those of [`Field::split`].
    pub fn pyramid(&self, filter: &[f64], levels: usize) -> Result<(Self, Vec<Details>)> {
        let mut low = self.clone();
        let mut all = Vec::new();
        for _ in 0..levels {
            let (next, details) = low.split(filter)?;
            (low, _) = (next, all.push(details));
        }
        Ok((low.standardised(), all))
    }
}

fn mode(variance: f64, mean_square: f64) -> Mode {
    Mode {
        variance,
        mean_square,
        count: 1.0,
    }
}

fn array(g: impl Fn(usize, usize) -> f64) -> [[f64; 3]; 3] {
    [0, 1, 2].map(|p| [0, 1, 2].map(|q| g(p, q)))
}

/// (|m(w)|, |m(w + pi)|) / sqrt(2) of the filter at the frequencies w = 2 pi k / n, k below n / 2.
fn responses(filter: &[f64], n: usize) -> Result<Vec<(f64, f64)>> {
    let modulus = |w: f64| {
        let part = |g: fn(f64) -> f64| -> f64 {
            let terms = filter.iter().enumerate();
            terms.map(|(k, h)| h * g(k as f64 * w)).sum()
        };
        part(f64::cos).hypot(part(f64::sin)) * FRAC_1_SQRT_2
    };
    let pair = |k: usize| {
        let w = TAU * k as f64 / n as f64;
        (modulus(w), modulus(w + TAU / 2.0))
    };
    let pairs: Vec<(f64, f64)> = (0..n / 2).map(pair).collect();
    let off = |(a, b): &(f64, f64)| (a * a + b * b - 1.0).abs() > 1e-6 || !a.is_finite();
    // At frequency 0 a low-pass filter keeps all.
    if pairs.iter().any(off) || pairs.first().is_none_or(|p| p.0 < p.1) {
        return Err(Error::Argument {
            op: "Field::split",
            name: "filter",
            value: format!("{filter:?}"),
            need: "the low-pass filter of an orthonormal wavelet, its sum sqrt(2)",
        });
    }
    Ok(pairs)
}

/// H D H^T for H = R(rows) x R(columns): bands LL, then high along rows, along columns, along both.
fn band_covariance(rows: (f64, f64), columns: (f64, f64), d: [f64; 4]) -> [[f64; 4]; 4] {
    let r = |(a, b): (f64, f64)| [[a, b], [b, -a]];
    let (y, x) = (r(rows), r(columns));
    let h = [0, 1, 2, 3].map(|p| [0, 1, 2, 3].map(|q| y[p / 2][q / 2] * x[p % 2][q % 2]));
    [0, 1, 2, 3].map(|p| [0, 1, 2, 3].map(|q| (0..4).map(|k| h[p][k] * d[k] * h[q][k]).sum()))
}
