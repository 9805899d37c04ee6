//! `wmgm info`.

use super::say::say;
use super::{embedded, place};
use candle_core::Device;
use score_sde::DiffuserConfig;
use std::fmt::Write;
use std::path::PathBuf;
use wmgm::bands::{BandStats, LevelStats};
use wmgm::bundle::{
    Init, Kind, Single, SingleConfig, WsgmConfig, head, read_single, read_wsgm_config,
};
use wmgm::error::Result;
use wmgm::sgm::SgmConfig;
use wmgm::{Bundle, Diffused, Model, Pair, Sgm, Wsgm};

/// What a description is made into.
type Text = std::result::Result<String, std::fmt::Error>;

/// Describe a model: architecture, parameters, bands, training, licence.
#[derive(Debug, clap::Args)]
pub struct InfoArgs {
    /// A bundle's folder, one of diffusers, or owner/name in the hub's cache; the model inside the program unless given.
    #[arg(value_name = "MODEL")]
    bundle: Option<PathBuf>,
}

impl InfoArgs {
    pub fn run(self) -> Result<()> {
        let Some(model) = &self.bundle else {
            let bundle = embedded::bundle(None, &Device::Cpu)?;
            return say(&describe(&bundle).unwrap_or_default());
        };
        let folder = place::folder(model, false)?;
        if head(&folder).is_ok_and(|head| head.kind == Kind::Network) {
            let (config, parameters) = read_single(&folder)?;
            return say(&single(&config, parameters).unwrap_or_default());
        }
        let text = match Model::open(&folder, &Device::Cpu)? {
            Model::Wmgm(model) => describe(model.bundle()),
            Model::Pair(model) => pair(&model),
            Model::Sgm(model) => sgm(&model),
            Model::Wsgm(model) => wsgm(&read_wsgm_config(&folder)?, &model),
            Model::Diffused(model) => diffused(&model),
            _ => Ok(String::new()),
        };
        say(&text.unwrap_or_default())
    }
}

/// A diffusion on pixels.
fn sgm(model: &Sgm) -> Text {
    let c = model.config();
    let mut text = String::new();
    let t = &mut text;
    writeln!(t, "{}", or_unknown(&c.name))?;
    writeln!(t, "{}", pictures(c.size, c.network.channels().0))?;
    diffusion(t, c, model.parameters())?;
    origin(t, [&c.provenance, &c.licence, &c.attribution])?;
    Ok(text)
}

/// A cascade of diffusions.
fn wsgm(c: &WsgmConfig, model: &Wsgm) -> Text {
    let cascade = model.cascade();
    let (levels, last) = (&c.cascade.levels, c.cascade.levels.len().saturating_sub(1));
    let mut text = String::new();
    let t = &mut text;
    writeln!(t, "{}", or_unknown(&c.name))?;
    let size = c.cascade.size();
    writeln!(t, "{}", pictures(size, c.cascade.num_channels))?;
    writeln!(t, "wavelet      mean-Haar, {} levels", levels.len())?;
    writeln!(t, "cascade      {} parameters", cascade.parameters())?;
    for (i, level) in levels.iter().enumerate().rev() {
        let [height, width] = size.map(|side| side >> (i + 1));
        let process = |d: &DiffuserConfig| {
            let kind = if d.linear { "linear" } else { "cosine" };
            let u = &d.unet;
            let (base, mults) = (u.base_channels, &u.channel_mults);
            format!(
                "{kind}, {} steps; U-Net of {base} x 1 and {mults:?}",
                d.steps
            )
        };
        if let Some(coarse) = &level.coarse_diffuser {
            writeln!(t, "  {width} x {height} coarse  {}", process(coarse))?;
        } else if i == last {
            writeln!(t, "  {width} x {height} coarse  given")?;
        }
        writeln!(
            t,
            "  {width} x {height} details {}",
            process(&level.details_diffuser)
        )?;
    }
    let steps = c
        .cascade
        .plan(None)
        .map_or(0, |plan| cascade.evaluations(&plan));
    writeln!(t, "sampler      ddim, {steps} steps in all")?;
    origin(t, [&c.provenance, &c.licence, &c.attribution])?;
    Ok(text)
}

/// A diffusion on pixels or of every band, trained by this program.
fn diffused(model: &Diffused) -> Text {
    let c = model.config();
    let mut text = String::new();
    let t = &mut text;
    writeln!(t, "{}", or_unknown(&c.name))?;
    writeln!(t, "{}", pictures([c.size; 2], 3))?;
    if c.levels > 0 {
        writeln!(
            t,
            "wavelet      {}, {} levels, periodization",
            c.wavelet, c.levels
        )?;
    }
    writeln!(t, "networks     {} parameters in all", model.parameters())?;
    for (level, n) in c.networks() {
        let side = c.size >> level.unwrap_or(c.levels);
        let what = match level {
            None if c.levels == 0 => "pixels".into(),
            None => "low band".into(),
            Some(level) => format!("details of level {level}"),
        };
        writeln!(
            t,
            "  {side} x {side} {what}: U-Net of {} channels x {:?}, {} blocks a level, attention at 1/{:?}, {} heads",
            n.unet.model_channels,
            n.unet.channel_mult,
            n.unet.num_res_blocks,
            n.unet.attention_resolutions,
            n.unet.num_heads
        )?;
        let each = match n.channels.is_empty() {
            true => "",
            false => " of each channel by itself",
        };
        writeln!(
            t,
            "    works at {0} x {0} on {1} channels (folded {2} times); EDM preconditioning{each}, sigma {3} to {4}; {5} steps of {6}",
            side >> n.fold,
            n.unet.in_channels,
            n.fold,
            n.edm.sigma_min,
            n.edm.sigma_max,
            n.steps,
            n.batch
        )?;
    }
    writeln!(
        t,
        "sampler      {}, {} steps of every diffusion",
        c.sample.sampler, c.sample.steps
    )?;
    bands(t, c.pixels.as_ref(), &c.bands)?;
    writeln!(
        t,
        "training     {} pictures (fingerprint {}), seed {}",
        c.pictures, c.data_fingerprint, c.seed
    )?;
    started_from(t, c.init.as_ref(), "details")?;
    writeln!(t, "licence      weights: {}", or_unknown(&c.licence))?;
    writeln!(t, "attribution  {}", or_unknown(&c.attribution))?;
    writeln!(t, "code         MIT OR Apache-2.0")?;
    Ok(text)
}

/// Statistics of the pixels or of every level's bands.
fn bands(t: &mut String, pixels: Option<&BandStats>, levels: &[LevelStats]) -> std::fmt::Result {
    writeln!(t, "bands             mean        std   kurtosis")?;
    let mut line = |what: &str, b: &BandStats| {
        let BandStats {
            mean,
            std,
            kurtosis,
        } = b;
        writeln!(t, "  {what:<10} {mean:10.4} {std:10.4} {kurtosis:10.2}")
    };
    if let Some(pixels) = pixels {
        line("pixels", pixels)?;
    }
    for (i, level) in levels.iter().enumerate() {
        let bands = [level.low].into_iter().chain(level.high);
        for (name, b) in ["LL", "LH", "HL", "HH"].iter().zip(bands) {
            line(&format!("level {} {name}", i + 1), &b)?;
        }
    }
    Ok(())
}

fn started_from(t: &mut String, init: Option<&Init>, high: &str) -> std::fmt::Result {
    let Some(i) = init else {
        return Ok(());
    };
    writeln!(
        t,
        "             started from {} (score: {} steps, {high}: {}, pictures {})",
        i.name, i.low_steps, i.high_steps, i.data_fingerprint
    )
}

/// WMGM of the official program.
fn pair(model: &Pair) -> Text {
    let c = model.config();
    let [low, generator] = model.parameters();
    let mut text = String::new();
    let t = &mut text;
    writeln!(t, "{}", or_unknown(&c.name))?;
    writeln!(t, "{}", pictures(c.size, 3))?;
    let [height, width] = c.low.size;
    writeln!(
        t,
        "wavelet      haar, {} levels; low band {width} x {height} as pictures, times 4, rounding {}",
        c.levels,
        c.rounding.map_or("none".into(), |r| format!("{r:?}"))
    )?;
    diffusion(t, &c.low, low)?;
    writeln!(
        t,
        "generator    official, {generator} parameters: width {}, one for all levels",
        c.generator.n_channels
    )?;
    origin(t, [&c.provenance, &c.licence, &c.attribution])?;
    Ok(text)
}

/// One network.
fn single(c: &SingleConfig, parameters: usize) -> Text {
    let mut text = String::new();
    let t = &mut text;
    writeln!(t, "{}", or_unknown(&c.name))?;
    match &c.network {
        Single::OfficialGenerator(g) => writeln!(
            t,
            "generator    official, {parameters} parameters: width {}, pooling {:?}; no model by itself",
            g.n_channels, g.pooling
        )?,
        Single::OfficialDiscriminator(d) => writeln!(
            t,
            "discriminator official, {parameters} parameters: width {}, {} halvings",
            d.n_channels, d.n_blocks
        )?,
    }
    origin(t, [&c.provenance, &c.licence, &c.attribution])?;
    Ok(text)
}

fn pictures([height, width]: [usize; 2], channels: usize) -> String {
    let colours = if channels == 1 { "grey" } else { "RGB" };
    format!("pictures     {width} x {height} {colours}")
}

/// Network, process and sampler.
fn diffusion(t: &mut String, c: &SgmConfig, parameters: usize) -> std::fmt::Result {
    writeln!(
        t,
        "score        {parameters} parameters; {}",
        c.network.describe()
    )?;
    writeln!(t, "process      {}", c.process.describe())?;
    writeln!(
        t,
        "sampler      {}, {} steps",
        c.sample.sampler, c.sample.steps
    )
}

fn origin(t: &mut String, [provenance, licence, attribution]: [&str; 3]) -> std::fmt::Result {
    writeln!(t, "from         {}", or_unknown(provenance))?;
    writeln!(t, "licence      weights: {}", or_unknown(licence))?;
    writeln!(t, "attribution  {}", or_unknown(attribution))?;
    writeln!(t, "code         MIT OR Apache-2.0")
}

/// Everything of a bundle that a person may want to know.
fn describe(bundle: &Bundle) -> Text {
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
    bands(t, None, &c.bands)?;
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
    started_from(t, p.init.as_ref(), "generator")?;
    writeln!(t, "licence      weights: {}", or_unknown(&c.licence))?;
    writeln!(t, "attribution  {}", or_unknown(&c.attribution))?;
    writeln!(t, "code         MIT OR Apache-2.0")?;
    Ok(text)
}

fn or_unknown(text: &str) -> &str {
    if text.is_empty() { "not stated" } else { text }
}
