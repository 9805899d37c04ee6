//! The products of three channels' Fourier coefficients, frequency by frequency.

use rustfft::num_complex::Complex;
use rustfft::{Fft, FftPlanner};
use std::sync::Arc;

/// The pairs of channels whose products are formed.
pub(super) const PAIRS: [(usize, usize); 6] = [(0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2)];

/// Fourier transforms of square planes of one side.
#[derive(Clone)]
pub(super) struct Fourier {
    side: usize,
    plan: Arc<dyn Fft<f64>>,
}

impl Fourier {
    pub(super) fn new(side: usize) -> Self {
        Self {
            side,
            plan: FftPlanner::new().plan_fft_forward(side),
        }
    }

    /// Writes Re(X_a conj(X_b)) of planes (3, side, side) for every pair, (6, side, side), X being the unnormalised
    /// transform.
    pub(super) fn products(&self, planes: &[f32], out: &mut [f64]) {
        let plane = self.side * self.side;
        let channels: Vec<Vec<Complex<f64>>> = planes
            .chunks_exact(plane.max(1))
            .map(|channel| self.forward(channel))
            .collect();
        for ((a, b), out) in PAIRS.iter().zip(out.chunks_exact_mut(plane.max(1))) {
            let pairs = channels[*a].iter().zip(&channels[*b]);
            for (out, (x, y)) in out.iter_mut().zip(pairs) {
                *out = x.re * y.re + x.im * y.im;
            }
        }
    }

    /// Along rows, then along columns.
    fn forward(&self, plane: &[f32]) -> Vec<Complex<f64>> {
        let mut x: Vec<_> = plane
            .iter()
            .map(|&v| Complex::new(f64::from(v), 0.0))
            .collect();
        for _ in 0..2 {
            self.plan.process(&mut x);
            x = self.transposed(&x);
        }
        x
    }

    fn transposed(&self, x: &[Complex<f64>]) -> Vec<Complex<f64>> {
        let n = self.side;
        (0..n * n).map(|k| x[k % n * n + k / n]).collect()
    }
}
