//! What a configuration may hold. Whatever sizes a network or a tensor is bounded here, before memory is asked for: a
//! configuration may be a stranger's.

use super::{LowConfig, OptimConfig, SampleDefaults, TrainConfig};
use crate::bundle::Kind;
use crate::transform::Transform;
use candle_core::{DType, Device};
use candle_nn::VarBuilder;
use msal_gan::detail::{DetailDiscriminator, DetailDiscriminatorConfig};
use msal_gan::{DetailGenerator, detail::DetailGeneratorConfig};
use nn_ops::Params;
use score_sde::sampler::SolverConfig;
use score_sde::{Edm, UNet, UNetConfig};

/// A reason that begins with the field's name.
pub(super) type Check = Result<(), String>;

/// The largest network: 2^30 parameters, 4 GiB.
const MAX_PARAMETERS: f64 = (1u64 << 30) as f64;

/// Fails unless `value` is in the range.
pub(super) fn within(field: &str, value: usize, min: usize, max: usize) -> Check {
    match (min..=max).contains(&value) {
        true => Ok(()),
        false => Err(format!("{field} is {value}, it must be {min} to {max}")),
    }
}

/// Fails unless the network of so many convolutions of this width is of a size that can be meant.
fn small_enough(field: &str, convolutions: usize, width: usize) -> Check {
    let most = convolutions as f64 * 9.0 * (width as f64).powi(2);
    match most <= MAX_PARAMETERS {
        true => Ok(()),
        false => Err(format!(
            "{field}: a network of {convolutions} convolutions up to {width} wide may have {most:.1e} parameters, more than {MAX_PARAMETERS:.1e}"
        )),
    }
}

/// The score network by itself; `field` is what the file calls it.
pub(crate) fn check_unet(field: &str, u: &UNetConfig) -> Check {
    within(
        &format!("{field}.channel_mult: the number of levels"),
        u.channel_mult.len(),
        1,
        12,
    )?;
    within(
        &format!("{field}.model_channels"),
        u.model_channels,
        32,
        1 << 13,
    )?;
    within(&format!("{field}.num_res_blocks"), u.num_res_blocks, 1, 64)?;
    for &mult in &u.channel_mult {
        within(&format!("{field}.channel_mult: a factor"), mult, 1, 64)?;
    }
    if u.num_classes.is_some() {
        return Err(format!(
            "{field}.num_classes: networks conditioned on a class cannot be used here; leave it out"
        ));
    }
    let widest = u.channel_mult.iter().max().unwrap_or(&1) * u.model_channels;
    let blocks = u.channel_mult.len() * (2 * u.num_res_blocks + 1) + 2;
    small_enough(field, 4 * blocks, widest)?;
    u.check().map_err(|e| format!("{field}: {e}"))
}

/// Whether a low band of side `low`, folded `fold` times, fits the score network.
pub(crate) fn check_fold(field: &str, low: usize, fold: usize, u: &UNetConfig) -> Check {
    check_band(field, low, fold, [3, 3], u)
}

/// Whether a band of this side, folded `fold` times, fits its score network; `channels` are those of the band and its
/// condition together, and of the band.
pub(crate) fn check_band(
    field: &str,
    side: usize,
    fold: usize,
    channels: [usize; 2],
    u: &UNetConfig,
) -> Check {
    within("fold", fold, 0, 4)?;
    let halvings = u.channel_mult.len().saturating_sub(1) + fold;
    if !side.is_multiple_of(1 << halvings) {
        return Err(format!(
            "fold is {fold} and {field}.channel_mult has {} levels: the band of {side} x {side} cannot be halved {halvings} times",
            u.channel_mult.len()
        ));
    }
    let [inputs, outputs] = channels.map(|c| c << (2 * fold));
    if u.in_channels != inputs || u.out_channels != outputs {
        return Err(format!(
            "{field}: in_channels is {} and out_channels {}, RGB folded {fold} times has {inputs} and {outputs}",
            u.in_channels, u.out_channels
        ));
    }
    Ok(())
}

/// The preconditioning's constants.
pub(crate) fn check_edm(field: &str, e: &Edm) -> Check {
    for (name, value) in [
        ("sigma_data", e.sigma_data),
        ("p_std", e.p_std),
        ("sigma_min", e.sigma_min),
        ("sigma_max", e.sigma_max),
        ("rho", e.rho),
    ] {
        if !(1e-6..=1e6).contains(&value) {
            return Err(format!("{field}.{name} is {value}, it must be 1e-6 to 1e6"));
        }
    }
    if !(-100.0..=100.0).contains(&e.p_mean) {
        return Err(format!(
            "{field}.p_mean is {}, it must be -100 to 100",
            e.p_mean
        ));
    }
    if e.sigma_min >= e.sigma_max {
        return Err(format!(
            "{field}: sigma_min {} must be below sigma_max {}",
            e.sigma_min, e.sigma_max
        ));
    }
    Ok(())
}

/// What a teacher is to teach, guided or in fewer steps, and that sampling is what the steps are for.
pub(super) fn check_taught(field: &str, low: &LowConfig, sample: &SampleDefaults) -> Check {
    if let Some(guide) = &low.guide {
        check_guidance(guide.weight).map_err(|e| format!("{field}.guide.weight is {e}"))?;
    }
    if low.by_channel && (low.distill.is_some() || low.guide.is_some()) {
        return Err(format!(
            "{field}.by_channel: a network that is taught by another is preconditioned by sigma_data; leave out one of them"
        ));
    }
    let Some(d) = &low.distill else { return Ok(()) };
    within(&format!("{field}.distill.steps"), d.steps, 1, 1000)?;
    within(&format!("{field}.distill.substeps"), d.substeps, 1, 1000)?;
    if !(1e-6..=low.edm.sigma_min).contains(&d.sigma_min) {
        return Err(format!(
            "{field}.distill.sigma_min is {}, it must be 1e-6 to {field}.edm.sigma_min, {}, where the student's last step begins",
            d.sigma_min, low.edm.sigma_min
        ));
    }
    if sample.sampler != "euler" || sample.steps != d.steps {
        return Err(format!(
            "{field}.distill: a network distilled for {} steps knows no others: sample.sampler must be \"euler\" and sample.steps {}",
            d.steps, d.steps
        ));
    }
    Ok(())
}

/// The weight of a guide.
pub(crate) fn check_guidance(weight: f64) -> Check {
    match (1.0..=100.0).contains(&weight) {
        true => Ok(()),
        false => Err(format!("{weight}, it must be 1 to 100")),
    }
}

/// The detail generator for `levels` levels, the coarsest low band of side `low`.
pub(crate) fn check_generator(
    field: &str,
    g: &DetailGeneratorConfig,
    levels: usize,
    low: usize,
) -> Check {
    check_details(field, g.channels, g.levels, &g.widths, levels)?;
    within(
        &format!("{field}.noise_channels"),
        g.noise_channels,
        0,
        1 << 10,
    )?;
    within(&format!("{field}.blocks"), g.blocks, 1, 64)?;
    let factor = 1 << (g.widths.len() - 1);
    if !low.is_multiple_of(factor) {
        return Err(format!(
            "{field}.widths has {} sizes: the low band of {low} x {low} must divide by {factor}",
            g.widths.len()
        ));
    }
    let widest = g.widths.iter().max().unwrap_or(&1);
    let networks = if g.shared { 1 } else { levels };
    small_enough(field, 6 * g.widths.len() * g.blocks * networks, *widest)
}

fn check_discriminator(field: &str, d: &DetailDiscriminatorConfig, levels: usize) -> Check {
    check_details(field, d.channels, d.levels, &d.widths, levels)?;
    within(&format!("{field}.convs"), d.convs, 1, 16)?;
    let widest = d.widths.iter().max().unwrap_or(&1);
    small_enough(field, d.widths.len() * d.convs + 1, *widest)
}

/// What the two networks of the details have in common.
fn check_details(
    field: &str,
    channels: usize,
    own_levels: usize,
    widths: &[usize],
    levels: usize,
) -> Check {
    if channels != 3 {
        return Err(format!("{field}.channels is {channels}, pictures have 3"));
    }
    if own_levels != levels {
        return Err(format!(
            "{field}.levels is {own_levels}, but levels is {levels}"
        ));
    }
    within(
        &format!("{field}.widths: the number of widths"),
        widths.len(),
        1,
        12,
    )?;
    widths
        .iter()
        .try_for_each(|&w| within(&format!("{field}.widths: a width"), w, 1, 1 << 13))
}

/// The fewest steps of a WMGM's low band; where every band is diffused, one is enough.
pub(crate) const FEWEST_STEPS: usize = 2;

/// How to sample.
pub(crate) fn check_sample(s: &SampleDefaults, fewest: usize) -> crate::Result<SolverConfig> {
    if !(fewest..=10_000).contains(&s.steps) {
        return Err(crate::Error::Argument(format!(
            "steps is {}, it must be {fewest} to 10000",
            s.steps
        )));
    }
    crate::model::solver(&s.sampler)
}

/// The pace of a diffusion's training.
pub(super) fn check_pace(field: &str, d: &LowConfig) -> Check {
    check_optim(&format!("{field}.optim"), &d.optim)?;
    match d.clip > 0.0 {
        true => Ok(()),
        false => Err(format!("{field}.clip is {}, it must be above 0", d.clip)),
    }
}

fn check_optim(field: &str, o: &OptimConfig) -> Check {
    // Pictures and steps address noise by 16 and 32 bits.
    within(&format!("{field}.batch"), o.batch, 1, 1 << 12)?;
    if !(1..=u64::from(u32::MAX)).contains(&o.steps) {
        return Err(format!(
            "{field}.steps is {}, it must be 1 to 2^32 - 1",
            o.steps
        ));
    }
    for (name, value, most) in [
        ("lr", o.lr, 1e3),
        ("weight_decay", o.weight_decay, 1e3),
        ("decay", o.decay, 1.0),
    ] {
        if !(0.0..=most).contains(&value) {
            return Err(format!("{field}.{name} is {value}, it must be 0 to {most}"));
        }
    }
    for (name, value) in [("beta1", o.beta1), ("beta2", o.beta2), ("ema", o.ema)] {
        if !(0.0..1.0).contains(&value) {
            return Err(format!(
                "{field}.{name} is {value}, it must be at least 0 and below 1"
            ));
        }
    }
    Ok(())
}

/// What a run trains in.
pub(super) fn check_precision(name: &str) -> Check {
    super::training_precision(name)
        .map(|_| ())
        .map_err(|e| format!("precision: {e}"))
}

/// What every run has.
pub(super) fn check_seed_and_size(seed: u64, size: usize, levels: usize) -> Check {
    within("size", size, 16, 1024)?;
    within("levels", levels, 0, 6)?;
    if seed > i64::MAX as u64 {
        return Err(format!("seed is {seed}, it must be below 2^63"));
    }
    if (size >> levels) << levels != size {
        return Err(format!(
            "levels is {levels}, but size {size} does not divide by 2^levels"
        ));
    }
    Ok(())
}

impl TrainConfig {
    /// Whether a run can use every value, and the networks can be built of them.
    ///
    /// # Errors
    /// The first field that is out of range or does not fit another, in words.
    pub fn check(&self) -> Check {
        if self.kind != Kind::Wmgm {
            return Err(format!("kind is {:?}, this is read as wmgm", self.kind));
        }
        within("levels", self.levels, 1, 6)?;
        check_seed_and_size(self.seed, self.size, self.levels)?;
        check_precision(&self.precision)?;
        let low = self.size >> self.levels;
        Transform::new(&self.wavelet).map_err(|e| format!("wavelet: {e}"))?;
        let (unet, high) = (&self.low.unet, &self.high);
        check_unet("low.unet", unet)?;
        check_fold("low.unet", low, self.low.fold, unet).map_err(|e| {
            match e.starts_with("fold") {
                true => format!("low.{e}"),
                false => e,
            }
        })?;
        check_edm("low.edm", &self.low.edm)?;
        if self.low.by_channel {
            return Err("low.by_channel is for kind sgm, a diffusion on pixels".into());
        }
        check_taught("low", &self.low, &self.sample)?;
        check_generator("high.generator", &high.generator, self.levels, low)?;
        check_discriminator("high.discriminator", &high.discriminator, self.levels)?;
        check_pace("low", &self.low)?;
        check_optim("high.optim", &high.optim)?;
        let official = high.official.unwrap_or_default();
        for (name, value) in [
            ("discriminator_lr", high.discriminator_lr),
            ("l1", high.l1),
            ("adversarial", high.adversarial),
            ("official.alpha", official.alpha),
            ("official.lambda", official.lambda),
            ("official.nu", official.nu),
        ] {
            if !(0.0..=1e6).contains(&value) {
                return Err(format!("high.{name} is {value}, it must be 0 to 1e6"));
            }
        }
        let step = 1
            << (high.generator.widths.len() - 1)
                .max(high.discriminator.widths.len().saturating_sub(2));
        if !(0.0..=1.0).contains(&high.low_noise) {
            return Err(format!(
                "high.low_noise is {}, it must be 0 to 1 (standard deviations of the low band)",
                high.low_noise
            ));
        }
        if high.crop == 0 || !high.crop.is_multiple_of(step) || !low.is_multiple_of(step) {
            return Err(format!(
                "high.crop is {}: it and the low band's {low} must divide by {step}, for the generator and the discriminator halve them",
                high.crop
            ));
        }
        check_sample(&self.sample, FEWEST_STEPS).map_err(|e| format!("sample: {e}"))?;
        self.build()
    }

    /// Builds every network once, of zeros: what remains wrong is found before a run begins, not after its first stage.
    fn build(&self) -> Check {
        let zeros = || VarBuilder::zeros(DType::F32, &Device::Cpu);
        let (low, high) = (&self.low, &self.high);
        UNet::new(low.unet.clone(), zeros()).map_err(|e| format!("low.unet: {e}"))?;
        DetailGenerator::new(high.generator.clone(), zeros())
            .map_err(|e| format!("high.generator: {e}"))?;
        DetailDiscriminator::new(high.discriminator.clone(), zeros(), &Params::new(0))
            .map_err(|e| format!("high.discriminator: {e}"))?;
        Ok(())
    }
}
