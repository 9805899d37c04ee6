//! What this machine can do at most.

use candle_core::{Device, Result, Tensor};
use std::time::Instant;

/// GFLOP/s in f32 (a multiply-add counts as two), with all threads.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Peaks {
    /// Multiply-adds on registers alone.
    pub fma: f64,
    /// A product of 1024 x 1024 matrices.
    pub gemm: f64,
}

/// Measures them, in about a second.
///
/// # Errors
/// Only those of allocation.
pub fn peaks() -> Result<Peaks> {
    let threads = rayon::current_num_threads();
    let best = |flop: f64, f: &mut dyn FnMut() -> Result<()>| -> Result<f64> {
        let mut least = f64::INFINITY;
        for _ in 0..8 {
            let start = Instant::now();
            f()?;
            least = least.min(start.elapsed().as_secs_f64());
        }
        Ok(flop / least / 1e9)
    };
    const ROUNDS: usize = 2_000_000;
    let per_thread = nn_ops::simd::fma_rounds(0) as f64 * 2.0 * ROUNDS as f64;
    let fma = best(per_thread * threads as f64, &mut || {
        rayon::broadcast(|_| nn_ops::simd::fma_rounds(ROUNDS));
        Ok(())
    })?;
    let n = 1024;
    let a = Tensor::ones((n, n), candle_core::DType::F32, &Device::Cpu)?;
    let gemm = best(2.0 * (n * n * n) as f64, &mut || a.matmul(&a).map(drop))?;
    Ok(Peaks { fma, gemm })
}
