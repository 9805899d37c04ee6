//! `wmgm info`.

use super::embedded;
use std::path::PathBuf;
use wmgm::error::Result;

/// Describe a bundle: architecture, parameters, bands, training, licence.
#[derive(Debug, clap::Args)]
pub struct InfoArgs {
    /// Folder of a bundle; the model inside the program unless given.
    bundle: Option<PathBuf>,
}

impl InfoArgs {
    pub fn run(self) -> Result<()> {
        let bundle = embedded::bundle(self.bundle.as_deref(), &candle_core::Device::Cpu)?;
        let c = &bundle.config;
        let side = c.size >> c.levels;
        let p = &c.provenance;
        let [score, generator] = bundle.parameters;
        println!("{}", c.name);
        println!("pictures     {0} x {0} RGB", c.size);
        println!(
            "wavelet      {}, {} levels, periodization; low band {side} x {side}",
            c.wavelet, c.levels
        );
        println!(
            "score        U-Net, {:.2} M parameters: {} channels x {:?}, {} blocks a level, attention at 1/{:?}, {} heads",
            score as f64 / 1e6,
            c.score.model_channels,
            c.score.channel_mult,
            c.score.num_res_blocks,
            c.score.attention_resolutions,
            c.score.num_heads
        );
        println!(
            "             EDM preconditioning, sigma {} to {}, data {}",
            c.edm.sigma_min, c.edm.sigma_max, c.edm.sigma_data
        );
        println!(
            "generator    residual U-Net, {:.2} M parameters: widths {:?}, {} noise channels, one for all levels",
            generator as f64 / 1e6,
            c.generator.widths,
            c.generator.noise_channels
        );
        println!(
            "sampler      {}, {} steps",
            c.sample.sampler, c.sample.steps
        );
        println!("bands        mean, standard deviation, kurtosis");
        for (i, level) in c.bands.iter().enumerate() {
            for (name, b) in ["LL", "LH", "HL", "HH"]
                .iter()
                .zip([level.low].iter().chain(&level.high))
            {
                println!(
                    "  level {} {name}  {:9.4} {:9.4} {:9.2}",
                    i + 1,
                    b.mean,
                    b.std,
                    b.kurtosis
                );
            }
        }
        println!(
            "training     {} pictures (fingerprint {}), seed {}",
            p.pictures, p.data_fingerprint, p.seed
        );
        println!(
            "             score: {} steps of {}; generator: {} steps of {}",
            p.low_steps, p.low_batch, p.high_steps, p.high_batch
        );
        println!("licence      weights: {}. {}", c.licence, c.attribution);
        Ok(())
    }
}
