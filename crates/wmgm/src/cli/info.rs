//! `wmgm info`.

use super::embedded;
use super::say::say;
use std::fmt::Write;
use std::path::PathBuf;
use wmgm::Bundle;
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
        say(&describe(&bundle).unwrap_or_default())
    }
}

/// Everything of a bundle that a person may want to know.
fn describe(bundle: &Bundle) -> std::result::Result<String, std::fmt::Error> {
    let (c, p) = (&bundle.config, &bundle.config.provenance);
    let [score, generator] = bundle.parameters;
    let low = c.size >> c.levels;
    let mut text = String::new();
    let t = &mut text;
    writeln!(t, "{}", c.name)?;
    writeln!(t, "pictures     {0} x {0} RGB", c.size)?;
    writeln!(
        t,
        "wavelet      {}, {} levels, periodization; low band {low} x {low}",
        c.wavelet, c.levels
    )?;
    writeln!(
        t,
        "score        U-Net, {score} parameters: {} channels x {:?}, {} blocks a level, attention at 1/{:?}, {} heads",
        c.score.model_channels,
        c.score.channel_mult,
        c.score.num_res_blocks,
        c.score.attention_resolutions,
        c.score.num_heads
    )?;
    writeln!(
        t,
        "             works at {0} x {0} on {1} channels (the low band folded {2} times)",
        low >> c.fold,
        c.score.in_channels,
        c.fold
    )?;
    writeln!(
        t,
        "             EDM preconditioning, sigma {} to {}, data {}",
        c.edm.sigma_min, c.edm.sigma_max, c.edm.sigma_data
    )?;
    writeln!(
        t,
        "generator    residual U-Net, {generator} parameters: widths {:?}, {} noise channels, one for all levels",
        c.generator.widths, c.generator.noise_channels
    )?;
    writeln!(
        t,
        "sampler      {}, {} steps",
        c.sample.sampler, c.sample.steps
    )?;
    writeln!(t, "bands             mean        std   kurtosis")?;
    for (i, level) in c.bands.iter().enumerate() {
        let bands = [level.low].into_iter().chain(level.high);
        for (name, b) in ["LL", "LH", "HL", "HH"].iter().zip(bands) {
            writeln!(
                t,
                "  level {} {name} {:10.4} {:10.4} {:10.2}",
                i + 1,
                b.mean,
                b.std,
                b.kurtosis
            )?;
        }
    }
    writeln!(
        t,
        "training     {} pictures (fingerprint {}), seed {}",
        p.pictures, p.data_fingerprint, p.seed
    )?;
    writeln!(
        t,
        "             score: {} steps of {}; generator: {} steps of {}",
        p.low_steps, p.low_batch, p.high_steps, p.high_batch
    )?;
    if let Some(i) = &p.init {
        writeln!(
            t,
            "             started from {} (score: {} steps, generator: {}, pictures {})",
            i.name, i.low_steps, i.high_steps, i.data_fingerprint
        )?;
    }
    writeln!(t, "licence      weights: {}", or_unknown(&c.licence))?;
    writeln!(t, "attribution  {}", or_unknown(&c.attribution))?;
    writeln!(t, "code         MIT OR Apache-2.0")?;
    Ok(text)
}

fn or_unknown(text: &str) -> &str {
    if text.is_empty() { "not stated" } else { text }
}
