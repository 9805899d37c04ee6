//! What the network is told of time.

use crate::blocks::sinusoids;
use candle_core::{Result, Tensor};

/// Sines and cosines of t at `dim` / 2 frequencies from 1 down to 1/10000: (N) to (N, dim), cosines first.
///
/// # Errors
/// Only those of the device.
pub fn timestep_embedding(t: &Tensor, dim: usize) -> Result<Tensor> {
    let half = dim / 2;
    // As PyTorch rounds them, step by step.
    let frequency = |i: usize| {
        let exponent = -(10_000f64.ln()) as f32 * i as f32 / half as f32;
        libm::exp(exponent as f64) as f32
    };
    let frequencies: Vec<f32> = (0..half).map(frequency).collect();
    sinusoids(t, &frequencies, dim, true)
}
