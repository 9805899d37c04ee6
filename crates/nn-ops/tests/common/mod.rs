//! Values to test with, comparisons, and gradients by finite differences.
#![allow(dead_code, missing_docs)] // Each test binary uses a part of it.

use candle_core::{DType, Device, Result, Tensor, Var};

/// Deterministic values in about [-1, 1], without ties.
pub fn wave(shape: &[usize], seed: f64) -> Tensor {
    let len = shape.iter().product();
    let data: Vec<f64> = (0..len)
        .map(|i| ((i as f64 * 0.7312 + seed).sin() * 43_758.545_3).fract())
        .collect();
    Tensor::from_vec(data, shape, &Device::Cpu).unwrap()
}

pub fn wave32(shape: &[usize], seed: f64) -> Tensor {
    wave(shape, seed).to_dtype(DType::F32).unwrap()
}

pub fn values(t: &Tensor) -> Vec<f64> {
    t.to_dtype(DType::F64)
        .unwrap()
        .flatten_all()
        .unwrap()
        .to_vec1()
        .unwrap()
}

pub fn bits(t: &Tensor) -> Vec<u32> {
    t.flatten_all()
        .unwrap()
        .to_vec1::<f32>()
        .unwrap()
        .iter()
        .map(|v| v.to_bits())
        .collect()
}

/// max |got - want| <= tolerance * max(1, max |want|).
pub fn close(what: &str, got: &Tensor, want: &Tensor, tolerance: f64) {
    assert_eq!(got.dims(), want.dims(), "{what}");
    let (got, want) = (values(got), values(want));
    let scale = want.iter().fold(1f64, |m, v| m.max(v.abs()));
    for (i, (a, b)) in got.iter().zip(&want).enumerate() {
        assert!(
            (a - b).abs() <= tolerance * scale,
            "{what}[{i}]: {a} instead of {b}"
        );
    }
}

/// `f` of some inputs, as a scalar: the sum of its result times fixed weights.
fn loss(inputs: &[Tensor], f: &dyn Fn(&[Tensor]) -> Result<Tensor>) -> Result<Tensor> {
    let y = f(inputs)?;
    let weights = wave(y.dims(), 0.917).to_dtype(y.dtype())?;
    (y * weights)?.sum_all()
}

/// Value and gradients by back propagation, in `dtype`.
fn gradients(
    inputs: &[Tensor],
    dtype: DType,
    f: &dyn Fn(&[Tensor]) -> Result<Tensor>,
) -> (Tensor, Vec<Tensor>) {
    let vars: Vec<Var> = inputs
        .iter()
        .map(|t| Var::from_tensor(&t.to_dtype(dtype).unwrap()).unwrap())
        .collect();
    let tensors: Vec<Tensor> = vars.iter().map(|v| v.as_tensor().clone()).collect();
    let store = loss(&tensors, f).unwrap().backward().unwrap();
    let grads = vars
        .iter()
        .map(|v| store.get(v).expect("every input has a gradient").clone());
    (f(&tensors).unwrap(), grads.collect())
}

/// Checks an operator of f64 inputs: the reference path (which serves f64) against central differences, and the f32 path
/// (which is ours) against it, value and all gradients.
pub fn check(
    what: &str,
    inputs: &[Tensor],
    tolerance: f64,
    f: impl Fn(&[Tensor]) -> Result<Tensor>,
) {
    let (y64, exact) = gradients(inputs, DType::F64, &f);
    for (k, (input, grad)) in inputs.iter().zip(&exact).enumerate() {
        let data = values(input);
        let differences: Vec<f64> = (0..data.len())
            .map(|i| {
                let at = |h: f64| {
                    let mut moved = data.clone();
                    moved[i] += h;
                    let mut inputs = inputs.to_vec();
                    inputs[k] = Tensor::from_vec(moved, input.shape(), &Device::Cpu).unwrap();
                    loss(&inputs, &f).unwrap().to_scalar::<f64>().unwrap()
                };
                const H: f64 = 1e-5;
                (at(H) - at(-H)) / (2.0 * H)
            })
            .collect();
        let differences = Tensor::from_vec(differences, input.shape(), &Device::Cpu).unwrap();
        close(
            &format!("{what}: gradient {k} against differences"),
            grad,
            &differences,
            1e-6,
        );
    }
    let (y32, ours) = gradients(inputs, DType::F32, &f);
    close(&format!("{what}: f32 value"), &y32, &y64, tolerance);
    for (k, (a, b)) in ours.iter().zip(&exact).enumerate() {
        close(&format!("{what}: f32 gradient {k}"), a, b, tolerance);
    }
}
