//! Milliseconds of a convolution and a group normalisation, forward and backward, at sizes that networks have.

use candle_core::{Device, Result, Tensor, Var};
use nn_ops::{Activation, Conv2dConfig, conv2d, group_norm};
use std::time::Instant;

fn time(mut f: impl FnMut() -> Result<()>) -> Result<f64> {
    f()?;
    let mut best = f64::MAX;
    for _ in 0..8 {
        let start = Instant::now();
        f()?;
        best = best.min(start.elapsed().as_secs_f64() * 1e3);
    }
    Ok(best)
}

fn main() -> Result<()> {
    nn_ops::memory::keep_freed_memory();
    let dev = Device::Cpu;
    println!(
        "batch channels side | conv3x3 forward, forward+backward ms (GFLOP/s) | conv1x1 | group norm + SiLU"
    );
    for (n, c, side) in [
        (24, 64, 32),
        (24, 128, 16),
        (24, 128, 8),
        (8, 64, 64),
        (8, 256, 16),
        (1, 128, 32),
        (8, 512, 8),
        (1, 512, 8),
        (8, 512, 4),
        (1, 1024, 4),
        (8, 1024, 2),
    ] {
        let x = Var::randn(0f32, 1., (n, c, side, side), &dev)?;
        let w = Var::randn(0f32, 0.1, (c, c, 3, 3), &dev)?;
        let w1 = Var::randn(0f32, 0.1, (c, c, 1, 1), &dev)?;
        let b = Var::zeros(c, candle_core::DType::F32, &dev)?;
        let one = Var::ones(c, candle_core::DType::F32, &dev)?;
        let fwd = time(|| conv2d(&x, &w, Some(&b), Conv2dConfig::same(3)).map(drop))?;
        let both = time(|| {
            conv2d(&x, &w, Some(&b), Conv2dConfig::same(3))?
                .sum_all()?
                .backward()
                .map(drop)
        })?;
        let one1 = time(|| conv2d(&x, &w1, Some(&b), Conv2dConfig::same(1)).map(drop))?;
        let both1 = time(|| {
            conv2d(&x, &w1, Some(&b), Conv2dConfig::same(1))?
                .sum_all()?
                .backward()
                .map(drop)
        })?;
        let gn = time(|| group_norm(&x, &one, &b, 8, 1e-5, Activation::Silu).map(drop))?;
        let gn_both = time(|| {
            group_norm(&x, &one, &b, 8, 1e-5, Activation::Silu)?
                .sum_all()?
                .backward()
                .map(drop)
        })?;
        let flop = 2e-6 * (n * c * c * 9 * side * side) as f64;
        println!(
            "{n:3} {c:4} {side:3} | {fwd:7.2} {both:7.2} ({:.0}, {:.0}) | {one1:6.2} {both1:6.2} | {gn:6.2} {gn_both:6.2}",
            flop / fwd,
            3.0 * flop / both
        );
        let _: &Tensor = &x;
    }
    Ok(())
}
