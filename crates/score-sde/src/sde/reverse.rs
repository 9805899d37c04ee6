//! The process run backwards.

use super::{Score, Sde};
use crate::error::Result;
use crate::pictures::{check_times, scale};
use candle_core::Tensor;

/// The reverse of a process: dx = (f x - g^2 score) dt + g dw, or its probability flow, the ordinary differential
/// equation of the same marginals dx = (f x - g^2 score / 2) dt (Song et al. 2021, eq. 6 and 13).
#[derive(Clone, Copy)]
pub struct Reverse<'a> {
    /// The forward process.
    pub sde: &'a dyn Sde,
    /// Its score.
    pub score: &'a dyn Score,
    /// The probability flow in place of the reverse process.
    pub probability_flow: bool,
}

impl Reverse<'_> {
    fn weight(&self) -> f64 {
        if self.probability_flow { 0.5 } else { 1.0 }
    }

    /// The drift of x (N, ...), each picture at its time of `t`.
    ///
    /// # Errors
    /// As many times as pictures are needed; errors of the score.
    pub fn drift(&self, x: &Tensor, t: &[f64]) -> Result<Tensor> {
        check_times("Reverse::drift", x, t)?;
        let score = self.score.score(x, t)?;
        let pull = scale(&score, t, |t| self.weight() * self.sde.diffusion(t).powi(2))?;
        Ok((scale(x, t, |t| self.sde.drift(t))? - pull)?)
    }

    /// The diffusion at time t, 0 for the flow.
    pub fn diffusion(&self, t: f64) -> f64 {
        match self.probability_flow {
            true => 0.0,
            false => self.sde.diffusion(t),
        }
    }

    /// The discretised process backwards: x_{i-1} = x_i - f + G z with f a tensor of x's shape and one G per picture.
    ///
    /// # Errors
    /// As [`drift`](Self::drift).
    pub fn discretize(&self, x: &Tensor, t: &[f64]) -> Result<(Tensor, Vec<f64>)> {
        check_times("Reverse::discretize", x, t)?;
        let step = |t: f64| self.sde.discretize(t);
        let score = self.score.score(x, t)?;
        let pull = scale(&score, t, |t| self.weight() * step(t).diffusion.powi(2))?;
        let f = (scale(x, t, |t| step(t).drift)? - pull)?;
        let g = |&t: &f64| match self.probability_flow {
            true => 0.0,
            false => step(t).diffusion,
        };
        Ok((f, t.iter().map(g).collect()))
    }
}
