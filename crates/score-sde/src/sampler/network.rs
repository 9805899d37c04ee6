//! A network of any prediction as a denoiser.

use super::Denoiser;
use crate::prediction::Prediction;
use candle_core::{Result, Tensor};
use serde::{Deserialize, Serialize};

/// The coordinates a network was trained in: x = alpha (clean + s noise), s being the samplers' sigma.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Path {
    /// alpha^2 (1 + s^2) = 1: DDPM and all that follow it.
    #[default]
    VariancePreserving,
    /// alpha = 1: SMLD, EDM.
    VarianceExploding,
    /// alpha (1 + s) = 1: rectified flow, x_t = (1 - t) clean + t noise with t = s / (1 + s).
    Flow,
}

impl Path {
    /// alpha at the sampler's sigma: its state times alpha is the state in the network's coordinates.
    pub fn alpha(self, sigma: f64) -> f64 {
        match self {
            Self::VariancePreserving => 1.0 / (1.0 + sigma * sigma).sqrt(),
            Self::VarianceExploding => 1.0,
            Self::Flow => 1.0 / (1.0 + sigma),
        }
    }
}

/// D(x; sigma) from a network of x in its own coordinates and one time for all pictures.
///
/// DDIM, DPM-Solver++, UniPC and DEIS are the same in all these coordinates, number for number.
#[derive(Clone, Copy)]
pub struct NetworkDenoiser<'a> {
    /// The network: x (N, C, ...) and a time to (N, C, ...). Channels after the first C, learned variances, are left out.
    pub network: &'a dyn Fn(&Tensor, f64) -> Result<Tensor>,
    /// What it predicts.
    pub prediction: Prediction,
    /// The coordinates it was trained in.
    pub path: Path,
    /// The time it is shown at a sigma, such as [`TimeGrid::time`](crate::grid::TimeGrid::time) or
    /// [`NoiseTable::time_of`](crate::grid::NoiseTable::time_of).
    pub time: &'a dyn Fn(f64) -> f64,
}

impl Denoiser for NetworkDenoiser<'_> {
    fn denoise(&self, x: &Tensor, sigma: f64) -> Result<Tensor> {
        let alpha = self.path.alpha(sigma);
        let x = (x * alpha)?;
        let output = (self.network)(&x, (self.time)(sigma))?;
        let channels = x.dims().get(1).copied().unwrap_or(0);
        let output = match output.dims().get(1) {
            Some(&all) if all == 2 * channels => output.narrow(1, 0, channels)?,
            _ => output,
        };
        let map = self.prediction.to_clean(alpha, sigma * alpha)?;
        map.apply(&x, &output)
    }
}
