//! The measured order of convergence of every sampler, on normal data where the exact answer is known.
//!
//! `cargo run -p score-sde --example order`

mod measure;
mod process;

use candle_core::Result;

const STEPS: [usize; 5] = [24, 48, 96, 192, 384];

fn main() -> Result<()> {
    head("of a denoiser in sigma");
    for (name, config, expected) in measure::all() {
        line(&name, expected, |n| measure::error(&config, n))?;
    }
    println!("Deterministic: of the state. With noise: of the variance, computed exactly.\n");

    head("of a process in time");
    for (name, kind, expected) in process::all() {
        line(name, expected, |n| process::error(kind, n))?;
    }
    println!("Of the variance, computed exactly.\n");

    println!(
        "{:<24} {:>8} {:>11}",
        "probability_flow", "error", "evaluations"
    );
    for tolerance in [1e-3, 1e-4, 1e-5, 1e-6, 1e-7] {
        let (error, evaluations) = process::flow_error(tolerance)?;
        println!(
            "{:<24} {error:>8.1e} {evaluations:>11}",
            format!("tolerances of {tolerance:e}")
        );
    }
    Ok(())
}

fn head(what: &str) {
    print!("{what:<24}");
    STEPS.iter().for_each(|n| print!(" {n:>8}"));
    println!("   order between the last pairs   expected");
}

fn line(name: &str, expected: f64, error: impl Fn(usize) -> Result<f64>) -> Result<()> {
    print!("{name:<24}");
    let mut errors = Vec::new();
    for n in STEPS {
        errors.push(error(n)?);
        print!(" {:>8.1e}", errors[errors.len() - 1]);
    }
    let orders = errors.windows(2).skip(1).map(|w| (w[0] / w[1]).log2());
    print!("   ");
    orders.for_each(|order| print!(" {order:>5.2}"));
    println!("   {expected:>17}");
    Ok(())
}
