//! Times to train at, made of uniform numbers.

use crate::edm::Edm;
use crate::error::{Error, Result};
use crate::sde::Sde;
use std::f64::consts::{FRAC_1_SQRT_2, TAU};

/// A distribution of continuous times or noise levels.
pub trait TimeSampler {
    /// One time and one factor for its loss per number of `uniform`, which lie in [0, 1). The factors keep the expected loss
    /// that of the distribution the objective is meant for.
    fn sample(&self, uniform: &[f64]) -> (Vec<f64>, Vec<f64>);
}

/// Every time of an interval equally often: score_sde's `rand * (T - eps) + eps`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct UniformTimes {
    from: f64,
    to: f64,
}

impl UniformTimes {
    /// # Errors
    /// An interval that is empty, negative or not finite.
    pub fn new(from: f64, to: f64) -> Result<Self> {
        if from >= 0.0 && from < to && to.is_finite() {
            return Ok(Self { from, to });
        }
        Err(Error::Argument {
            op: "UniformTimes",
            name: "(from, to)",
            value: format!("({from}, {to})"),
            need: "not below 0, ascending, finite",
        })
    }
}

impl TimeSampler for UniformTimes {
    fn sample(&self, uniform: &[f64]) -> (Vec<f64>, Vec<f64>) {
        let times = uniform
            .iter()
            .map(|u| self.from + u * (self.to - self.from));
        (times.collect(), vec![1.0; uniform.len()])
    }
}

/// Times in proportion to g^2 / std^2, the likelihood weight over that of the noise's error: the loss of
/// [`Weighting::Likelihood`](super::Weighting::Likelihood) times its factor then varies with time as little as the
/// unweighted one (Song et al. 2021, arXiv 2101.09258, section 5.1).
///
/// g^2 / std^2 is the derivative of ln sigma^2, sigma = std / signal, for every linear process: so the times are even in
/// ln sigma, exactly. The factors make the expectation that of uniform times.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LikelihoodTimes<S> {
    sde: S,
    from: f64,
}

impl<S: Sde> LikelihoodTimes<S> {
    /// From time `from`, score_sde's eps, such as 1e-5, to the end of the process.
    ///
    /// # Errors
    /// Parameters of the process out of their range, a `from` outside it or where there is no noise.
    pub fn new(sde: S, from: f64) -> Result<Self> {
        sde.check()?;
        if from >= 0.0 && from < sde.end() && sde.sigma(from) > 0.0 {
            return Ok(Self { sde, from });
        }
        Err(Error::Argument {
            op: "LikelihoodTimes",
            name: "from",
            value: from.to_string(),
            need: "above 0 and below the end of the process",
        })
    }
}

impl<S: Sde> TimeSampler for LikelihoodTimes<S> {
    fn sample(&self, uniform: &[f64]) -> (Vec<f64>, Vec<f64>) {
        let sde = &self.sde;
        let (low, high) = (sde.sigma(self.from).ln(), sde.sigma(sde.end()).ln());
        let at = |u: &f64| sde.time((low + u * (high - low)).exp());
        let times: Vec<f64> = uniform.iter().map(at).collect();
        // The density is g^2 / std^2 over the growth of ln sigma^2.
        let mean = 2.0 * (high - low) / (sde.end() - self.from);
        let factor = |t: &f64| mean * (sde.marginal(*t).std / sde.diffusion(*t)).powi(2);
        let factors = times.iter().map(factor).collect();
        (times, factors)
    }
}

/// The noise levels of EDM, ln sigma ~ N(p_mean, p_std^2): a part of the objective, so that all factors are 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LogNormalSigmas(pub Edm);

impl TimeSampler for LogNormalSigmas {
    fn sample(&self, uniform: &[f64]) -> (Vec<f64>, Vec<f64>) {
        let sigma = |u: &f64| self.0.training_sigma(normal_quantile(*u));
        (
            uniform.iter().map(sigma).collect(),
            vec![1.0; uniform.len()],
        )
    }
}

/// The standard normal value that a share `u` of all lies below; those of 0 and 1 are cut off at about -8.2 and 8.2.
fn normal_quantile(u: f64) -> f64 {
    let u = u.clamp(1e-16, 1.0 - 1.2e-16);
    // Abramowitz and Stegun 26.2.23 to 5e-4 for the smaller tail p, then two of Halley's steps.
    let p = u.min(1.0 - u);
    let t = (-2.0 * libm::log(p)).sqrt();
    let top = 2.515_517 + t * (0.802_853 + t * 0.010_328);
    let bottom = 1.0 + t * (1.432_788 + t * (0.189_269 + t * 0.001_308));
    let mut x = t - top / bottom;
    for _ in 0..2 {
        let tail = 0.5 * libm::erfc(x * FRAC_1_SQRT_2);
        let density = libm::exp(-0.5 * x * x) / TAU.sqrt();
        let step = (tail - p) / density;
        x += step / (1.0 - 0.5 * x * step);
    }
    if u < 0.5 { -x } else { x }
}

/// One number of 53 bits in [0, 1) per index: a pure function of (seed, index, stream, step), see [`nn_ops::noise`].
pub fn uniforms(seed: u64, indices: &[u64], stream: u32, step: u32) -> Vec<f64> {
    let draw = |&index: &u64| {
        let mut words = [0u32; 2];
        nn_ops::noise::fill_words(seed, index, stream, step, &mut words);
        let bits = (u64::from(words[0]) << 32 | u64::from(words[1])) >> 11;
        bits as f64 / (1u64 << 53) as f64
    };
    indices.iter().map(draw).collect()
}

/// One number in each of N equal parts of [0, 1), from N in [0, 1): the times of a batch then cover all there are, with less
/// spread of its mean loss. It couples the pictures of a batch: the i-th gets the i-th part.
pub fn stratified(uniform: &[f64]) -> Vec<f64> {
    let n = uniform.len() as f64;
    let part = |(i, u): (usize, &f64)| ((i as f64 + u) / n).min(1.0 - f64::EPSILON / 2.0);
    uniform.iter().enumerate().map(part).collect()
}

/// `count` numbers in [0, 1) a step of 1 / count apart, the first anywhere: those of Kingma et al. 2021, "Variational
/// diffusion models" (arXiv 2107.00630, appendix I.1). Each is uniform; they couple the pictures of a batch.
pub fn low_discrepancy(uniform: f64, count: usize) -> Vec<f64> {
    (0..count)
        .map(|i| (uniform + i as f64 / count as f64).fract())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_invert_the_normal_distribution() {
        for u in [1e-12, 1e-4, 0.02, 0.3, 0.5, 0.77, 0.999, 1.0 - 1e-9] {
            let x = normal_quantile(u);
            let back = 0.5 * libm::erfc(-x * FRAC_1_SQRT_2);
            assert!((back - u).abs() < 1e-13 * u.max(1e-3), "{u} {x} {back}");
        }
        assert!((normal_quantile(0.975) - 1.959_963_984_540_054).abs() < 1e-12);
        assert!(normal_quantile(0.0) < -8.0 && normal_quantile(1.0) > 8.0);
    }

    #[test]
    fn uniform_numbers_are_addressed_and_even() {
        let indices: Vec<u64> = (0..4096).collect();
        let u = uniforms(5, &indices, 1, 2);
        assert_eq!(u[77], uniforms(5, &[77], 1, 2)[0]);
        assert_ne!(u[77], uniforms(5, &[77], 1, 3)[0]);
        let mean = u.iter().sum::<f64>() / 4096.0;
        assert!((mean - 0.5).abs() < 0.02 && u.iter().all(|u| (0.0..1.0).contains(u)));
        let s = stratified(&u);
        let within = |(i, s): (usize, &f64)| (s * 4096.0).floor() == i as f64;
        assert!(s.iter().enumerate().all(within));
        let mut even = low_discrepancy(0.83, 5);
        even.sort_by(f64::total_cmp);
        assert!(even.windows(2).all(|w| (w[1] - w[0] - 0.2).abs() < 1e-12));
    }
}
