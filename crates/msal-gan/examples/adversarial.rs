//! A few steps of the official networks against each other on synthetic pictures, then two levels of sampling.
//!
//! cargo run --release -p msal-gan --example adversarial

use candle_core::{Device, Tensor};
use msal_gan::official::{
    Discriminator, DiscriminatorConfig, Example, Generator, GeneratorConfig, LossConfig, LowInput,
    discriminator_step, generator_step, haar, sample,
};
use nn_ops::{AdamW, AdamWConfig, Params, noise};

const SEED: u64 = 1;
const BATCH: [u64; 4] = [0, 1, 2, 3];

/// Smooth waves of random direction and colour in [0, 1], (N, 3, side, side).
fn pictures(step: u32, side: usize) -> candle_core::Result<Tensor> {
    let mut data = Vec::new();
    for index in BATCH {
        let mut p = [0f32; 9];
        noise::fill_uniform(SEED, index, 0, step, &mut p);
        for c in p.chunks_exact(3) {
            data.extend((0..side * side).map(|i| {
                let (y, x) = ((i / side) as f32, (i % side) as f32);
                0.5 + 0.5 * (c[0] * x + c[1] * y + std::f32::consts::TAU * c[2]).sin()
            }));
        }
    }
    Tensor::from_vec(data, (BATCH.len(), 3, side, side), &Device::Cpu)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let device = Device::Cpu;
    let (g_params, d_params) = (Params::new(SEED), Params::new(SEED + 1));
    let g_config = GeneratorConfig {
        n_channels: 8,
        ..Default::default()
    };
    let generator = Generator::new(g_config, g_params.builder(&device))?;
    let d_config = DiscriminatorConfig {
        n_channels: 8,
        n_blocks: 3,
        ..Default::default()
    };
    let discriminator = Discriminator::new(d_config, d_params.builder(&device))?;
    // The official rates are 1e-4 and 1e-5; faster ones show something in a few steps.
    let adam = |lr| AdamWConfig {
        lr,
        ..Default::default()
    };
    let mut g_adam = AdamW::new(g_params.named(), adam(3e-3))?;
    let mut d_adam = AdamW::new(d_params.named(), adam(1e-3))?;
    println!(
        "generator {} parameters, discriminator {}",
        g_params.count(),
        d_params.count()
    );

    for step in 0..20 {
        let target = pictures(step, 64)?;
        let (low, _) = haar::forward(&target)?;
        let z = noise::normal_tensor(SEED, &BATCH, 1, step, &low.dims()[1..], &device)?;
        let example = Example {
            low,
            noise: z,
            target,
        };
        let (loss, fake) = generator_step(
            &generator,
            &discriminator,
            &mut g_adam,
            &example,
            &LossConfig::default(),
        )?;
        // One step of the discriminator for four of the generator.
        if step % 4 == 3 {
            let d_loss = discriminator_step(&discriminator, &mut d_adam, &fake, &example.target)?;
            println!(
                "step {:2}: mean squared error {:.4}, 1 - SSIM {:.4}, discriminator {:+.4}",
                step + 1,
                loss.mse.to_scalar::<f32>()?,
                loss.dissimilarity.to_scalar::<f32>()?,
                d_loss.to_scalar::<f32>()?,
            );
        }
    }

    let low = LowInput::UnitPicture.to_band(&pictures(99, 16)?)?;
    let mut fresh = |round: usize, shape: &candle_core::Shape| {
        noise::normal_tensor(SEED, &BATCH, 2, round as u32, &shape.dims()[1..], &device)
    };
    let mut report = |round: usize, x: &Tensor| {
        println!("round {round}: {:?}", x.shape());
        Ok(())
    };
    sample(&generator, &low, 2, &mut fresh, &mut report)?;
    Ok(())
}
