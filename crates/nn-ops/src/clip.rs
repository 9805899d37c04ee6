//! Clipping of gradients by their global norm.

use crate::storage::with_slice;
use candle_core::backprop::GradStore;
use candle_core::{Device, Result, Var};

/// Scales all gradients of `vars` so that their joint Euclidean norm is at most `max_norm`; returns the norm before.
///
/// The sum runs in f64 in the order of `vars`. A norm that is not finite is returned and nothing is scaled: the
/// caller decides whether to skip the step.
///
/// # Errors
/// Only those of the device.
pub fn clip_grad_norm(grads: &mut GradStore, vars: &[(String, Var)], max_norm: f64) -> Result<f64> {
    let norm = squares(grads, vars)?.sqrt();
    if norm.is_finite() && norm > max_norm {
        // torch adds 1e-6 to the norm.
        let factor = max_norm / (norm + 1e-6);
        for (_, var) in vars {
            if let Some(g) = grads.get(var) {
                let scaled = (g * factor)?;
                grads.insert(var, scaled);
            }
        }
    }
    Ok(norm)
}

/// The sum of squares of all gradients.
fn squares(grads: &GradStore, vars: &[(String, Var)]) -> Result<f64> {
    #[cfg(feature = "cuda")]
    if crate::cuda::optimiser::together(vars).is_some() {
        return squares_in_one_launch(grads, vars);
    }
    let mut sum = 0f64;
    for (_, var) in vars {
        if let Some(g) = grads.get(var) {
            let host = g.to_device(&Device::Cpu)?.contiguous()?;
            sum += with_slice(&host, |g| Ok(sum_of_squares(g)))?;
        }
    }
    Ok(sum)
}

#[cfg(feature = "cuda")]
fn squares_in_one_launch(grads: &GradStore, vars: &[(String, Var)]) -> Result<f64> {
    use crate::cuda::optimiser::{Entry, sum_of_squares};
    let mut present = Vec::with_capacity(vars.len());
    for (name, var) in vars {
        if let Some(g) = grads.get(var) {
            present.push((name, var, g.contiguous()?));
        }
    }
    let entries: Vec<_> = (present.iter())
        .map(|(name, var, grad)| Entry {
            name,
            var: var.as_tensor(),
            grad: Some(grad),
            at: 0,
            a: 0.0,
            b: 0.0,
        })
        .collect();
    sum_of_squares(&entries)
}

crate::simd::multiversion! {
    fn sum_of_squares(g: &[f32]) -> f64 {
        let mut acc = [0f32; 16];
        let mut total = 0f64;
        // Short runs in f32, their sums in f64: fast and exact enough for any length.
        for run in g.chunks(4096) {
            let chunks = run.chunks_exact(16);
            total += chunks.remainder().iter().map(|&v| v as f64 * v as f64).sum::<f64>();
            acc.fill(0.0);
            for c in chunks {
                for (a, v) in acc.iter_mut().zip(c) {
                    *a += v * v;
                }
            }
            total += acc.iter().map(|&a| a as f64).sum::<f64>();
        }
        total
    }
}
