//! What the network is told of time.

use candle_core::{Result, Tensor};

/// Sines and cosines of t at `dim` / 2 frequencies from 1 down to 1/10000: (N) to (N, dim), cosines first.
///
/// # Errors
/// Only those of the device.
pub fn timestep_embedding(t: &Tensor, dim: usize) -> Result<Tensor> {
    let half = dim / 2;
    let n = t.dim(0)?;
    let device = t.device();
    let t: Vec<f32> = t.to_dtype(candle_core::DType::F32)?.to_vec1()?;
    // Every step rounded to f32 where PyTorch rounds it: t is up to 1000, and multiplies the difference.
    let frequency = |i: usize| {
        let exponent = -(10_000f64.ln()) as f32 * i as f32 / half as f32;
        libm::exp(exponent as f64) as f32
    };
    let mut data = Vec::with_capacity(n * dim);
    for t in t {
        let angle = |i: usize| (t * frequency(i)) as f64;
        data.extend((0..half).map(|i| libm::cos(angle(i)) as f32));
        data.extend((0..half).map(|i| libm::sin(angle(i)) as f32));
        data.resize(data.len().next_multiple_of(dim), 0.0);
    }
    Tensor::from_vec(data, (n, dim), device)
}
