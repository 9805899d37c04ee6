//! Error of each sampler per network evaluation, on normal data where the exact answer is known.
//!
//! `cargo run -p score-sde --example gaussian`

use candle_core::{Device, Result, Tensor};
use score_sde::Edm;
use score_sde::sampler::{ddim_sigma, dpmpp_2m, euler, heun, no_noise};

fn main() -> Result<()> {
    let variance = 0.25;
    let edm = Edm {
        sigma_max: 20.0,
        sigma_min: 0.01,
        ..Edm::default()
    };
    let denoiser = |x: &Tensor, sigma: f64| x * (variance / (variance + sigma * sigma));
    let start = Tensor::new(&[20.0f64], &Device::Cpu)?;
    // The flow scales a state by the ratio of standard deviations.
    let exact = 20.0 * (variance / (variance + 400.0f64)).sqrt();

    println!(
        "{:>12} {:>10} {:>10} {:>10} {:>10}",
        "evaluations", "euler", "ddim", "heun", "dpmpp_2m"
    );
    for evaluations in [9, 19, 39, 79] {
        let all = edm.sigmas(evaluations);
        // Heun evaluates twice per step, but once in the last.
        let half = edm.sigmas(evaluations.div_ceil(2));
        let (mut quiet, x) = (|_: usize, _: &Tensor| Ok(()), || start.clone());
        let results = [
            euler(&denoiser, x(), &all, &mut quiet)?,
            ddim_sigma(&denoiser, x(), &all, 0.0, &mut no_noise, &mut quiet)?,
            heun(&denoiser, x(), &half, &mut quiet)?,
            dpmpp_2m(&denoiser, x(), &all, &mut quiet)?,
        ];
        print!("{evaluations:>12}");
        for result in results {
            print!(
                " {:>10.1e}",
                (result.to_vec1::<f64>()?[0] / exact - 1.0).abs()
            );
        }
        println!();
    }
    Ok(())
}
