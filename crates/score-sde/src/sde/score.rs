//! Scores, and how a network of score_sde becomes one.

use super::Sde;
use crate::diffusion::Model;
use crate::pictures::{check_times, scale};
use candle_core::{Result, Tensor};

/// The score of x_t, the gradient of ln p_t(x).
pub trait Score {
    /// The scores of x (N, ...), each picture at its own time of `t`.
    ///
    /// # Errors
    /// Those of the network.
    fn score(&self, x: &Tensor, t: &[f64]) -> Result<Tensor>;
}

impl<F: Fn(&Tensor, &[f64]) -> Result<Tensor>> Score for F {
    fn score(&self, x: &Tensor, t: &[f64]) -> Result<Tensor> {
        self(x, t)
    }
}

/// What a network is shown in place of a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Labels {
    /// The time itself: 999 t for VP and sub-VP, sigma(t) for VE.
    Continuous,
    /// The place in the discrete chain: (N - 1) t for VP, for VE the number of the noise level, largest first.
    Discrete,
}

/// How a network is asked for a score: shown `label`, it returns something that `factor` makes the score.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Query {
    /// What it sees.
    pub label: f64,
    /// By what its output is multiplied.
    pub factor: f64,
}

impl Query {
    /// That of a network which predicts noise and sees 999 t: its score is -output / std.
    pub fn noise(t: f64, std: f64) -> Self {
        Self {
            label: 999.0 * t,
            factor: -1.0 / std,
        }
    }
}

/// The score of a network trained as score_sde does it: for VP and sub-VP it predicts noise, for VE the score.
#[derive(Clone, Copy)]
pub struct NetworkScore<'a> {
    /// The process it was trained on.
    pub sde: &'a dyn Sde,
    /// x (N, C, H, W) and labels (N) f32 to an output of x's shape.
    pub network: Model<'a>,
    /// What it sees.
    pub labels: Labels,
}

impl Score for NetworkScore<'_> {
    fn score(&self, x: &Tensor, t: &[f64]) -> Result<Tensor> {
        check_times("NetworkScore", x, t)?;
        let query = |t: f64| self.sde.query(t, self.labels);
        let labels: Vec<f32> = t.iter().map(|&t| query(t).label as f32).collect();
        let output = (self.network)(x, &Tensor::new(labels, x.device())?)?;
        Ok(scale(&output, t, |t| query(t).factor)?)
    }
}
