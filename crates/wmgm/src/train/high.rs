//! Training of the detail generator against its discriminator, all levels in every step.

use super::checkpoint::Part;
use super::objective::{Made, Objective};
use super::run::{Ahead, Run, Stage};
use super::start::Given;
use crate::config::TrainConfig;
use crate::error::{Error, Result};
use crate::model::HighModel;
use crate::picture::{self, RgbImage};
use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use msal_gan::detail::{DetailDiscriminator, DetailGenerator, Pass};
use nn_ops::{AdamW, AdamWConfig, Ema, Params, noise, precision};
use std::collections::HashMap;

const FLIP: u32 = 11;
const CROP: u32 = 12;
const NOISE: u32 = 13;
const STRENGTH: u32 = 14;
const LOW_NOISE: u32 = 15;

/// Both networks and all that trains them.
pub(super) struct High<'a> {
    config: &'a TrainConfig,
    objective: Objective,
    g_params: Params,
    d_params: Params,
    buffers: Params,
    generator: DetailGenerator,
    discriminator: DetailDiscriminator,
    g_adam: AdamW,
    d_adam: AdamW,
    ema: Ema,
    examples: Ahead<Vec<Examples>>,
}

/// What a step works on at once: crops of one size, of the levels that have it.
struct Examples {
    /// The level of each item.
    levels: Vec<usize>,
    low: Tensor,
    /// The low band that the generator is shown: `low`, or a noisy copy.
    shown: Tensor,
    high: Tensor,
    noise: Tensor,
}

impl Examples {
    /// Low band, details and noise of every level for the pictures of a step, in the host's memory.
    fn of_step(cfg: &TrainConfig, run: &Run<'_>, step: u64) -> Result<Vec<Self>> {
        let batch = cfg.high.optim.batch;
        let picks = run.batch(step, batch);
        let pyramids = run.data.pyramids(&picks, |i| {
            let mut word = [0u32];
            noise::fill_words(cfg.seed, i as u64, FLIP, step as u32, &mut word);
            word[0] & 1 == 1
        });
        let z = cfg.high.generator.noise_channels;
        let crop_of = |level: usize| (cfg.size >> level).min(cfg.high.crop);
        let levels: Vec<usize> = (1..=cfg.levels).collect();
        let mut out = Vec::new();
        for group in levels.chunk_by(|a, b| crop_of(*a) == crop_of(*b)) {
            let crop = crop_of(group[0]);
            let (mut low, mut high) = (Vec::new(), Vec::new());
            let (mut of, mut addresses) = (Vec::new(), Vec::new());
            for &level in group {
                let side = cfg.size >> level;
                for (i, pyramid) in pyramids.iter().enumerate() {
                    let address = (i * 16 + level) as u64;
                    let mut words = [0u32; 2];
                    noise::fill_words(cfg.seed, address, CROP, step as u32, &mut words);
                    let [y, x] = words.map(|w| w as usize % (side - crop + 1));
                    let bands = &pyramid[level - 1];
                    cut(&bands.low, side, y, x, crop, &mut low);
                    cut(&bands.high, side, y, x, crop, &mut high);
                    of.push(level);
                    addresses.push(address);
                }
            }
            let (n, device) = (of.len(), &Device::Cpu);
            let low = Tensor::from_vec(low, (n, 3, crop, crop), device)?;
            out.push(Self {
                levels: of,
                shown: augmented(&low, cfg, &addresses, step as u32)?,
                low,
                high: Tensor::from_vec(high, (n, 9, crop, crop), device)?,
                noise: noise::normal_tensor(
                    cfg.seed,
                    &addresses,
                    NOISE,
                    step as u32,
                    &[z, crop, crop],
                    device,
                )?,
            });
        }
        Ok(out)
    }

    /// The same on a device.
    fn on(&self, device: &Device) -> candle_core::Result<Self> {
        Ok(Self {
            levels: self.levels.clone(),
            low: self.low.to_device(device)?,
            shown: self.shown.to_device(device)?,
            high: self.high.to_device(device)?,
            noise: self.noise.to_device(device)?,
        })
    }

    /// How many levels share the batch: losses are means over items, and count once per level.
    fn weight(&self) -> f64 {
        let mut levels = self.levels.clone();
        levels.dedup();
        levels.len() as f64
    }
}

impl<'a> High<'a> {
    pub(super) fn new(cfg: &'a TrainConfig, device: &Device) -> Result<Self> {
        let (h, o) = (&cfg.high, &cfg.high.optim);
        let (g_params, d_params, buffers) = (
            Params::new(cfg.seed),
            Params::new(cfg.seed + 1),
            Params::new(cfg.seed + 2),
        );
        let generator = DetailGenerator::new(h.generator.clone(), g_params.builder(device))?;
        let discriminator =
            DetailDiscriminator::new(h.discriminator.clone(), d_params.builder(device), &buffers)?;
        let adam = |lr| AdamWConfig {
            lr,
            beta1: o.beta1,
            beta2: o.beta2,
            eps: 1e-8,
            weight_decay: o.weight_decay,
        };
        Ok(Self {
            config: cfg,
            objective: Objective::new(h),
            g_adam: AdamW::new(g_params.named(), adam(o.lr))?,
            d_adam: AdamW::new(d_params.named(), adam(h.discriminator_lr))?,
            ema: Ema::new(g_params.named(), o.ema)?,
            g_params,
            d_params,
            buffers,
            generator,
            discriminator,
            examples: Ahead::default(),
        })
    }

    /// The discriminator's scores.
    fn judge(&self, low: &Tensor, high: &Tensor, levels: &[usize], pass: Pass) -> Result<Tensor> {
        let judged = precision::computed(low, |low| {
            let high = high.to_dtype(low.dtype())?;
            self.discriminator.forward_mixed(low, &high, levels, pass)
        });
        Ok(judged?)
    }
}

impl High<'_> {
    /// A step of the discriminator: its loss.
    fn learn_to_judge(
        &mut self,
        examples: &[Examples],
        fakes: &[Tensor],
        schedule: f64,
    ) -> Result<Tensor> {
        let mut losses = Vec::new();
        for (i, (e, fake)) in examples.iter().zip(fakes).enumerate() {
            // Real and fake in one batch; the power iterations advance once a step.
            let low = Tensor::cat(&[&e.low, &e.low], 0)?;
            let high = Tensor::cat(&[&e.high, &fake.detach()], 0)?;
            let levels = [&e.levels[..], &e.levels].concat();
            let pass = if i == 0 { Pass::Refine } else { Pass::Train };
            let judged = self.judge(&low, &high, &levels, pass)?;
            let n = e.levels.len();
            let (real, fake) = (judged.narrow(0, 0, n)?, judged.narrow(0, n, n)?);
            losses.push((self.objective.discriminator(&real, &fake)? * e.weight())?);
        }
        let loss = total(losses)?;
        self.d_adam.config.lr = self.config.high.discriminator_lr * schedule;
        self.d_adam.step(&loss.backward()?)?;
        Ok(loss)
    }

    /// A step on its examples; named values for the metrics.
    fn learn(
        &mut self,
        run: &Run<'_>,
        step: u64,
        examples: &[Examples],
    ) -> Result<Vec<(&'static str, f64)>> {
        let cfg = &self.config.high;
        let examples: Vec<_> = (examples.iter())
            .map(|e| e.on(run.device))
            .collect::<candle_core::Result<_>>()?;
        let fakes = examples
            .iter()
            .map(|e| {
                precision::computed(&e.shown, |low| {
                    let noise = e.noise.to_dtype(low.dtype())?;
                    self.generator.forward_mixed(low, &noise, &e.levels)
                })
            })
            .collect::<candle_core::Result<Vec<_>>>()?;

        let schedule = cfg.optim.schedule(step);
        let judges = cfg.judges();
        let d = match judges {
            true => Some(self.learn_to_judge(&examples, &fakes, schedule)?),
            false => None,
        };
        let (mut adversarial, mut distance) = (Vec::new(), Vec::new());
        for (e, fake) in examples.iter().zip(&fakes) {
            let judged = match judges {
                true => Some(self.judge(&e.low, fake, &e.levels, Pass::Judge)?),
                false => None,
            };
            let made = Made {
                levels: &e.levels,
                low: &e.low,
                high: &e.high,
                fake,
            };
            let (a, l) = (self.objective).generator(run.data, &made, judged.as_ref())?;
            if let Some(a) = a {
                adversarial.push((a * e.weight())?);
            }
            distance.push((l * e.weight())?);
        }
        let [by_judge, by_distance] = self.objective.weights();
        let distance = total(distance)?;
        let mut loss = (&distance * by_distance)?;
        let mut a = None;
        if judges {
            let adversarial = total(adversarial)?;
            loss = ((&adversarial * by_judge)? + loss)?;
            a = Some(adversarial);
        }
        self.g_adam.config.lr = cfg.optim.lr * schedule;
        self.g_adam.step(&loss.backward()?)?;
        self.ema.update()?;

        // Read last: a GPU would have to wait.
        let read = |t: Option<Tensor>| t.map_or(Ok(0.0), |t| value(&t));
        let (d, a, l) = (read(d)?, read(a)?, value(&distance)?);
        if ![d, a, l].iter().all(|v| v.is_finite()) {
            return Err(Error::Diverged {
                stage: Stage::name(self),
                step,
                what: "a loss",
            });
        }
        Ok(vec![
            ("d_loss", d),
            ("adversarial", a),
            (self.objective.distance_name(), l),
            ("lr", self.g_adam.config.lr),
        ])
    }
}

/// Low bands with noise of a strength between 0 and `low_noise`, one per item.
fn augmented(low: &Tensor, cfg: &TrainConfig, addresses: &[u64], step: u32) -> Result<Tensor> {
    if cfg.high.low_noise == 0.0 {
        return Ok(low.clone());
    }
    let strength = |&address: &u64| {
        let mut uniform = [0f32];
        noise::fill_uniform(cfg.seed, address, STRENGTH, step, &mut uniform);
        uniform[0] * cfg.high.low_noise as f32
    };
    let strengths: Vec<f32> = addresses.iter().map(strength).collect();
    let (n, device) = (strengths.len(), low.device());
    let strengths = Tensor::from_vec(strengths, (n, 1, 1, 1), device)?;
    let item = &low.dims()[1..];
    let noise = noise::normal_tensor(cfg.seed, addresses, LOW_NOISE, step, item, device)?;
    Ok((low + noise.broadcast_mul(&strengths)?)?)
}

/// Appends the square `crop` at (y, x) of every plane of side `side`.
fn cut(planes: &[f32], side: usize, y: usize, x: usize, crop: usize, out: &mut Vec<f32>) {
    for plane in planes.chunks_exact(side * side) {
        for line in plane.chunks_exact(side).skip(y).take(crop) {
            out.extend_from_slice(&line[x..x + crop]);
        }
    }
}

/// Sum of the levels' losses.
fn total(losses: Vec<Tensor>) -> candle_core::Result<Tensor> {
    let mut losses = losses.into_iter();
    let first = losses.next().expect("at least one level");
    losses.try_fold(first, |a, b| a + b)
}

fn value(t: &Tensor) -> Result<f64> {
    Ok(t.to_dtype(DType::F64)?.to_scalar::<f64>()?)
}

impl Stage for High<'_> {
    fn name(&self) -> &'static str {
        "high"
    }

    fn parts(&mut self) -> Vec<Part<'_>> {
        vec![
            Part::Params("generator", &self.g_params),
            Part::Params("discriminator", &self.d_params),
            Part::Params("buffers", &self.buffers),
            Part::Adam("generator_adam", &mut self.g_adam),
            Part::Adam("discriminator_adam", &mut self.d_adam),
            Part::Ema("ema", &mut self.ema),
        ]
    }

    /// The discriminator, which no bundle holds, begins at random.
    fn start_from(&mut self, given: Given<'_>) -> Result<()> {
        let weights = given.weights;
        let mut all = self.generator.added_blocks(&self.g_params, weights)?;
        all.extend(weights.iter().map(|(name, t)| (name.clone(), t.clone())));
        self.g_params.load(&all)?;
        self.ema.restart()?;
        Ok(())
    }

    fn step(&mut self, run: &Run<'_>, step: u64) -> Result<Vec<(&'static str, f64)>> {
        let mut examples = std::mem::take(&mut self.examples);
        let cfg = self.config;
        let make = |step| Examples::of_step(cfg, run, step);
        let values = examples.step(step, run.ahead(), make, |examples| {
            self.learn(run, step, &examples)
        });
        self.examples = examples;
        values
    }

    fn weights(&self) -> Result<HashMap<String, Tensor>> {
        Ok(self.ema.tensors()?)
    }

    fn preview(&self, run: &Run<'_>) -> Result<RgbImage> {
        let vb = VarBuilder::from_tensors(self.weights()?, DType::F32, run.device);
        let model = HighModel {
            generator: DetailGenerator::new(self.config.high.generator.clone(), vb)?,
            stats: run.data.stats.clone(),
            transform: run.data.transform.clone(),
        };
        // Eight pictures, and below each what is made of its true low band.
        let picks: Vec<usize> = (0..8.min(run.data.set.len())).collect();
        let mut pictures = Vec::new();
        for &pick in &picks {
            pictures.push(run.data.set.picture(pick)?);
        }
        let levels = self.config.levels;
        let side = run.size >> levels;
        let mut low = Vec::new();
        for &pick in &picks {
            low.extend(run.data.low_band(pick, false));
        }
        let low = Tensor::from_vec(low, (picks.len(), 3, side, side), run.device)?;
        let indices: Vec<u64> = (0..picks.len() as u64).collect();
        let made = model.details(&low, levels, run.seed, &indices)?;
        let size = run.size as u32;
        pictures.extend(picture::from_values(
            &made.flatten_all()?.to_vec1::<f32>()?,
            size,
            size,
            0,
        )?);
        Ok(picture::sheet(
            &pictures,
            picture::Layout {
                columns: Some(picks.len()),
                ..Default::default()
            },
        )?)
    }
}
