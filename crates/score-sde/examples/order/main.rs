//! The measured order of convergence of every sampler, on normal data where the exact answer is known.
//!
//! `cargo run -p score-sde --example order`

mod measure;

use candle_core::Result;

fn main() -> Result<()> {
    let steps = [24, 48, 96, 192, 384];
    print!("{:<24}", "error after steps");
    steps.iter().for_each(|n| print!(" {n:>8}"));
    println!("   order between the last pairs   expected");
    for (name, config, expected) in measure::all() {
        print!("{name:<24}");
        let mut errors = Vec::new();
        for n in steps {
            errors.push(measure::error(&config, n)?);
            print!(" {:>8.1e}", errors[errors.len() - 1]);
        }
        let orders = errors.windows(2).skip(1).map(|w| (w[0] / w[1]).log2());
        print!("   ");
        orders.for_each(|order| print!(" {order:>5.2}"));
        println!("   {expected:>17}");
    }
    println!("Deterministic: of the state. With noise: of the variance, computed exactly.");
    Ok(())
}
