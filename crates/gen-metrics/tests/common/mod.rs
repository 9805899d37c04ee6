//! The weights, features and pictures of `scripts/reference.py`, computed from their names and places.
#![allow(dead_code, clippy::unwrap_used)]

use candle_core::{DType, Device, Shape, Tensor};
use candle_nn::var_builder::SimpleBackend;
use candle_nn::{Init, VarBuilder};
use gen_metrics::Features;

/// `count` numbers in [0, 1): splitmix64 of start, start + 1, ...
pub fn mix(start: u64, count: usize) -> impl Iterator<Item = f64> {
    (0..count as u64).map(move |i| {
        let z = start.wrapping_add(i).wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        let z = z ^ (z >> 31);
        (z >> 40) as f64 / (1u64 << 24) as f64
    })
}

fn address(name: &str) -> u64 {
    name.bytes().fold(0xCBF2_9CE4_8422_2325, |h, byte| {
        (h ^ u64::from(byte)).wrapping_mul(0x100_0000_01B3)
    })
}

pub fn features(start: u64, count: usize, dim: usize, scale: f64, shift: f64) -> Features {
    let u: Vec<f64> = mix(start, 3 * count * dim).collect();
    let n = count * dim;
    let values = (0..n).map(|i| (((u[i] + u[n + i] + u[2 * n + i]) - 1.5) * scale + shift) as f32);
    Features::new(values.collect(), dim).unwrap()
}

/// Rows of RGB triples: slopes with noise on them.
pub fn picture(n: usize, width: usize, height: usize) -> Vec<u8> {
    let noise: Vec<f64> = mix(1000 * (n as u64 + 1), height * width * 3).collect();
    let place = |i: usize| (i / (3 * width), i / 3 % width, i % 3);
    (0..noise.len())
        .map(|i| {
            let (y, x, c) = place(i);
            ((5 * x + 3 * y + 40 * c + 17 * n + (noise[i] * 64.0) as usize) % 256) as u8
        })
        .collect()
}

/// Every weight a function of its name and place.
pub struct Formula;

impl SimpleBackend for Formula {
    fn get(
        &self,
        shape: Shape,
        name: &str,
        _: Init,
        dtype: DType,
        device: &Device,
    ) -> candle_core::Result<Tensor> {
        let last = name.rsplit('.').next().unwrap();
        let fan_in: usize = shape.dims()[1..].iter().product();
        let bound = (6.0 / fan_in as f64).sqrt();
        let value = |u: f64| match (last, shape.rank()) {
            _ if name.starts_with("lin") => u,
            ("running_var", _) => 0.5 + u,
            ("weight", 1) => 0.8 + 0.4 * u,
            (_, 1) => 0.2 * (u - 0.5),
            _ => (2.0 * u - 1.0) * bound,
        };
        let values: Vec<f32> = mix(address(name), shape.elem_count())
            .map(|u| value(u) as f32)
            .collect();
        Tensor::from_vec(values, shape, device)?.to_dtype(dtype)
    }

    fn get_unchecked(&self, name: &str, _: DType, _: &Device) -> candle_core::Result<Tensor> {
        candle_core::bail!("{name}: a formula needs a shape")
    }

    fn contains_tensor(&self, _: &str) -> bool {
        true
    }
}

pub fn formula() -> VarBuilder<'static> {
    VarBuilder::from_backend(Box::new(Formula), DType::F32, Device::Cpu)
}

/// A case file of `scripts/reference.py`.
pub fn case(name: &str) -> serde_json::Value {
    let path = format!("{}/tests/cases/{name}", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

pub fn numbers(value: &serde_json::Value) -> Vec<f64> {
    match value {
        serde_json::Value::Array(items) => items.iter().flat_map(numbers).collect(),
        other => vec![other.as_f64().unwrap()],
    }
}

/// The largest difference of two lists of one length.
pub fn worst(a: impl IntoIterator<Item = f64>, b: &[f64]) -> f64 {
    let a: Vec<f64> = a.into_iter().collect();
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).fold(0.0, |m, (a, b)| {
        assert!(a.is_finite() && b.is_finite());
        m.max((a - b).abs())
    })
}
