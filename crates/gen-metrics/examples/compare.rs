//! What each metric says to four ways in which samples can be wrong, on features made by hand.

use gen_metrics::{
    Features, Gaussian, KernelOptions, Result, frechet_distance, kernel_distance, manifold,
};

/// `count` vectors of normal numbers in eight dimensions.
fn normal(seed: u64, count: usize, change: impl Fn(usize, f32) -> f32) -> Result<Features> {
    let mut values = vec![0f32; 8 * count];
    nn_ops::noise::fill_normal(seed, 0, 0, 0, &mut values);
    values
        .iter_mut()
        .enumerate()
        .for_each(|(i, v)| *v = change(i, *v));
    Features::new(values, 8)
}

fn main() -> Result<()> {
    let count = 1000;
    let reference = normal(1, count, |_, v| v)?;
    let options = KernelOptions {
        subsets: 20,
        size: 500,
        seed: 0,
    };
    println!("samples          Frechet   kernel  precision  recall  density  coverage");
    for (name, samples) in [
        ("as they should", normal(2, count, |_, v| v)?),
        ("shifted", normal(2, count, |_, v| v + 0.5)?),
        ("all alike", normal(2, count, |_, v| 0.3 * v)?),
        (
            "half blurred",
            normal(2, count, |i, v| if i % 2 == 0 { 0.1 * v } else { v })?,
        ),
        (
            "a tenth noise",
            normal(2, count, |i, v| if i % 80 < 8 { 6.0 * v } else { v })?,
        ),
    ] {
        let frechet = frechet_distance(&Gaussian::of(&samples)?, &Gaussian::of(&reference)?)?;
        let kernel = kernel_distance(&samples, &reference, options)?;
        let m = manifold(&samples, &reference, 3)?;
        println!(
            "{name:15} {frechet:8.3} {:8.3} {:10.3} {:7.3} {:8.3} {:9.3}",
            kernel.mean, m.precision, m.recall, m.density, m.coverage
        );
    }
    Ok(())
}
