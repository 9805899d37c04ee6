//! Which steps to train on, and how to weight them.

use super::GaussianDiffusion;
use crate::error::{Error, Result};

/// A distribution over the steps of a process. The weights keep the expected loss that of uniform steps.
pub trait TimestepSampler {
    /// An unnormalised positive number per step.
    fn weights(&self) -> Vec<f64>;

    /// One step and one factor for its loss, 1 / (T p(t)), per number of `uniform`, which lie in [0, 1) (such as
    /// addressed noise).
    ///
    /// # Errors
    /// No weights, or one that is not positive and finite.
    fn sample(&self, uniform: &[f64]) -> Result<(Vec<usize>, Vec<f64>)> {
        let weights = self.weights();
        let bad = weights.iter().find(|w| !(**w > 0.0 && w.is_finite()));
        if weights.is_empty() || bad.is_some() {
            return Err(Error::Argument {
                op: "TimestepSampler::sample",
                name: "weights",
                value: bad.map_or("empty".into(), |w| w.to_string()),
                need: "one positive, finite number per step",
            });
        }
        let total: f64 = weights.iter().sum();
        let mut cumulative = 0.0;
        let cdf: Vec<f64> = weights
            .iter()
            .map(|w| {
                cumulative += w / total;
                cumulative
            })
            .collect();
        let steps: Vec<usize> = uniform
            .iter()
            .map(|u| {
                cdf.partition_point(|c| *c <= u * cumulative)
                    .min(weights.len() - 1)
            })
            .collect();
        let factor = |t: &usize| total / (weights.len() as f64 * weights[*t]);
        let factors = steps.iter().map(factor).collect();
        Ok((steps, factors))
    }
}

/// Every step equally often.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Uniform(usize);

impl Uniform {
    /// Over the steps of a process.
    pub fn new(diffusion: &GaussianDiffusion) -> Self {
        Self(diffusion.steps())
    }
}

impl TimestepSampler for Uniform {
    fn weights(&self) -> Vec<f64> {
        vec![1.0; self.0]
    }
}

/// Steps in proportion to sqrt(E[loss^2]), from each step's last losses (Nichol and Dhariwal 2021, section 3.3): meant
/// for the bound, whose terms differ by orders of magnitude.
#[derive(Debug, Clone, PartialEq)]
pub struct LossSecondMoment {
    history: Vec<Vec<f64>>,
    per_step: usize,
    uniform: f64,
}

impl LossSecondMoment {
    /// Remembers 10 losses per step, and keeps every step's probability above 0.001 / T.
    pub fn new(diffusion: &GaussianDiffusion) -> Self {
        Self {
            history: vec![Vec::new(); diffusion.steps()],
            per_step: 10,
            uniform: 0.001,
        }
    }

    /// Remembers `per_step` losses, and mixes in `uniform` of the uniform distribution.
    ///
    /// # Errors
    /// `per_step` 0, or `uniform` outside (0, 1].
    pub fn with(diffusion: &GaussianDiffusion, per_step: usize, uniform: f64) -> Result<Self> {
        if per_step == 0 || !(uniform > 0.0 && uniform <= 1.0) {
            return Err(Error::Argument {
                op: "LossSecondMoment::with",
                name: "(per_step, uniform)",
                value: format!("({per_step}, {uniform})"),
                need: "at least 1, and in (0, 1]",
            });
        }
        Ok(Self {
            per_step,
            uniform,
            ..Self::new(diffusion)
        })
    }

    /// Learns the losses (before weighting) of the steps just trained on.
    ///
    /// # Errors
    /// A step of no process, as many losses as steps not given, a loss that is not finite.
    pub fn update(&mut self, t: &[usize], losses: &[f64]) -> Result<()> {
        let refuse = |name, value: String, need| Error::Argument {
            op: "LossSecondMoment::update",
            name,
            value,
            need,
        };
        if t.len() != losses.len() {
            let value = format!("{} for {} steps", losses.len(), t.len());
            return Err(refuse("number of losses", value, "that of the steps"));
        }
        if let Some(t) = t.iter().find(|t| **t >= self.history.len()) {
            let value = format!("{t} in a process of {} steps", self.history.len());
            return Err(refuse("t", value, "below the number of steps"));
        }
        if let Some(loss) = losses.iter().find(|l| !l.is_finite()) {
            return Err(refuse("losses", loss.to_string(), "finite"));
        }
        for (&t, &loss) in t.iter().zip(losses) {
            let seen = &mut self.history[t];
            if seen.len() == self.per_step {
                seen.remove(0);
            }
            seen.push(loss);
        }
        Ok(())
    }
}

impl TimestepSampler for LossSecondMoment {
    /// All 1 until every step has its full history.
    fn weights(&self) -> Vec<f64> {
        let n = self.history.len();
        if self.history.iter().any(|h| h.len() < self.per_step) {
            return vec![1.0; n];
        }
        let moment = |h: &Vec<f64>| (h.iter().map(|l| l * l).sum::<f64>() / h.len() as f64).sqrt();
        let moments: Vec<f64> = self.history.iter().map(moment).collect();
        let total: f64 = moments.iter().sum();
        // Losses that are all 0 say nothing.
        let part = |m: f64| {
            if total > 0.0 {
                m / total
            } else {
                1.0 / n as f64
            }
        };
        moments
            .into_iter()
            .map(|m| part(m) * (1.0 - self.uniform) + self.uniform / n as f64)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::{LossType, MeanType, VarType};
    use super::*;

    fn process() -> GaussianDiffusion {
        GaussianDiffusion::new(
            vec![0.1; 4],
            MeanType::Epsilon,
            VarType::FixedSmall,
            LossType::Mse,
        )
        .unwrap()
    }

    #[test]
    fn weights_that_cannot_be_drawn_from_are_errors() {
        struct Own(Vec<f64>);
        impl TimestepSampler for Own {
            fn weights(&self) -> Vec<f64> {
                self.0.clone()
            }
        }
        for (weights, words) in [(vec![], "empty"), (vec![1.0, 0.0], "weights is 0")] {
            let e = Own(weights).sample(&[0.5]).unwrap_err().to_string();
            assert!(e.contains(words), "{e}");
        }
    }

    #[test]
    fn uniform_steps_have_weight_one() {
        let (t, w) = Uniform::new(&process())
            .sample(&[0.0, 0.25, 0.49, 0.999_999])
            .unwrap();
        assert_eq!((t, w), (vec![0, 1, 1, 3], vec![1.0; 4]));
    }

    #[test]
    fn steps_of_larger_loss_come_more_often_and_count_less() {
        let mut s = LossSecondMoment::with(&process(), 2, 0.1).unwrap();
        s.update(&[0, 0, 0, 1, 1, 2, 2], &[9.0, 3.0, 4.0, 1.0, 1.0, 0.0, 0.0])
            .unwrap();
        assert_eq!(s.weights(), [1.0; 4], "not every step is known yet");
        s.update(&[3, 3], &[2.0, 2.0]).unwrap();
        let w = s.weights();
        let first = 12.5f64.sqrt();
        let total = first + 3.0;
        assert!(
            (w[0] - (first / total * 0.9 + 0.025)).abs() < 1e-15,
            "the first loss was forgotten: {w:?}"
        );
        assert!((w[2] - 0.025).abs() < 1e-15 && (w.iter().sum::<f64>() - 1.0).abs() < 1e-12);
        // Unbiased: the mean of the factors over the distribution is 1.
        let u: Vec<f64> = (0..10_000).map(|i| (i as f64 + 0.5) / 10_000.0).collect();
        let (t, f) = s.sample(&u).unwrap();
        assert!((f.iter().sum::<f64>() / 10_000.0 - 1.0).abs() < 0.01);
        assert!(t.windows(2).all(|p| p[0] <= p[1]) && t[9_999] == 3);
    }

    #[test]
    fn bad_losses_are_named() {
        let mut s = LossSecondMoment::new(&process());
        assert!(
            s.update(&[4], &[1.0])
                .unwrap_err()
                .to_string()
                .contains("4 in a process of 4")
        );
        assert!(s.update(&[1, 2], &[1.0]).is_err() && s.update(&[1], &[f64::NAN]).is_err());
        assert!(LossSecondMoment::with(&process(), 0, 0.1).is_err());
    }
}
