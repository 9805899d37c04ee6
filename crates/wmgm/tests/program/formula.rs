//! Parameters and noise by formula, as in `scripts/diffusers_models.py`: nothing need be stored.

#[path = "../../../score-sde/tests/common/formula.rs"]
mod shared;

use candle_core::{Device, Tensor};
pub use shared::numbers;
use std::collections::HashMap;
use wmgm::sgm::NetworkConfig;

/// A parameter of any network.
pub fn parameter(name: &str, shape: &[usize]) -> Tensor {
    let n: usize = shape.iter().product();
    let (mean, scale) = match shape {
        [first, _, ..] => (0.0, (3.0 * *first as f64 / n as f64).sqrt()),
        _ if name == "time_proj.weight" || name.ends_with(".W") => (0.0, 16.0),
        _ if name.ends_with("weight") => (1.0, 0.2),
        _ => (0.0, 0.2),
    };
    let values = numbers(name, n)
        .into_iter()
        .map(|u| (mean + scale * u) as f32);
    Tensor::from_iter(values, &Device::Cpu)
        .unwrap()
        .reshape(shape)
        .unwrap()
}

/// All parameters of a network.
pub fn parameters(config: &NetworkConfig) -> HashMap<String, Tensor> {
    let named = config.tensors().unwrap().into_iter();
    named
        .map(|(name, shape)| (name.clone(), parameter(&name, &shape)))
        .collect()
}

/// Noise of variance 1.
pub fn noise(name: &str, shape: &[usize]) -> Tensor {
    let values = numbers(name, shape.iter().product());
    let values = values.iter().map(|u| (u * 3f64.sqrt()) as f32);
    Tensor::from_iter(values, &Device::Cpu)
        .unwrap()
        .reshape(shape)
        .unwrap()
}

/// The largest difference, relative to the largest value but at least 1.
pub fn off(got: &Tensor, want: &Tensor) -> f64 {
    assert_eq!(got.dims(), want.dims());
    let max = |t: Tensor| {
        let values = t
            .abs()
            .unwrap()
            .flatten_all()
            .unwrap()
            .to_vec1::<f32>()
            .unwrap();
        values.iter().fold(
            0.0,
            |m: f32, v| if v.is_nan() { f32::NAN } else { m.max(*v) },
        )
    };
    let scale = max(want.clone()).max(1.0);
    f64::from(max((got - want).unwrap()) / scale)
}
