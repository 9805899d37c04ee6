//! Training of a band's score network with the EDM objective: a low band, pixels, or a level's details given its low band.

use super::band::{Band, DROP, Examples};
use super::checkpoint::Part;
use super::run::{Ahead, Run, Stage};
use super::start::Given;
use super::teacher::{Lesson, Teacher};
use crate::bundle::band_name;
use crate::config::channels;
use crate::error::{Error, Result};
use crate::model::{BandModel, Draw, TIME_SCALE, finer, preconditioner, solver};
use crate::picture::{self, RgbImage};
use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use nn_ops::{AdamW, AdamWConfig, Ema, Params, clip_grad_norm, noise, precision};
use rayon::prelude::*;
use score_sde::unet::DropMask;
use score_sde::{Preconditioner, UNet};
use std::collections::HashMap;

/// The network, its average and its optimiser.
pub(super) struct Diffusion<'a> {
    band: Band<'a>,
    preconditioner: Preconditioner,
    params: Params,
    net: UNet,
    adam: AdamW,
    ema: Ema,
    teacher: Option<Teacher>,
    /// What the teacher teaches: without it, what it says itself.
    lesson: Option<Lesson>,
    examples: Ahead<Examples>,
}

impl<'a> Diffusion<'a> {
    pub(super) fn new(band: Band<'a>, run: &Run<'_>) -> Result<Self> {
        let device = run.device;
        let params = Params::new(run.seed.wrapping_add(u64::from(band.stream(0))));
        let net = UNet::new(band.config.unet.clone(), params.builder(device))?;
        let o = &band.config.optim;
        let adam = AdamWConfig {
            lr: o.lr,
            beta1: o.beta1,
            beta2: o.beta2,
            eps: 1e-8,
            weight_decay: o.weight_decay,
        };
        let lesson = band.config.distill;
        Ok(Self {
            // Measured where the configuration asks for them, and empty else.
            preconditioner: preconditioner(band.config.edm, &run.data.channels)?,
            teacher: Teacher::new(band.config, device)?,
            lesson: lesson.map(|distill| Lesson::new(distill, band.config.edm)),
            adam: AdamW::new(params.named(), adam)?,
            ema: Ema::new(params.named(), o.ema)?,
            params,
            net,
            band,
            examples: Ahead::default(),
        })
    }
}

/// Fresh masks for every call within one step.
struct Masks {
    seed: u64,
    stream: u32,
    step: u32,
    calls: std::sync::atomic::AtomicU64,
}

impl DropMask for Masks {
    fn mask(&self, shape: &[usize], p: f64) -> candle_core::Result<Tensor> {
        let call = self
            .calls
            .fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let (n, item) = (shape[0] as u64, shape[1..].iter().product::<usize>());
        let keep = (1.0 / (1.0 - p)) as f32;
        let mut data = vec![0f32; n as usize * item];
        data.par_chunks_mut(item).enumerate().for_each(|(i, out)| {
            let at = call << 16 | i as u64;
            noise::fill_uniform(self.seed, at, self.stream, self.step, out);
            out.iter_mut()
                .for_each(|v| *v = if (*v as f64) < p { 0.0 } else { keep });
        });
        Tensor::from_vec(data, shape, &Device::Cpu)
    }
}

impl Diffusion<'_> {
    /// A step on its examples; named values for the metrics.
    fn learn(
        &mut self,
        run: &Run<'_>,
        step: u64,
        examples: Examples,
    ) -> Result<Vec<(&'static str, f64)>> {
        let Examples {
            condition,
            mut x,
            mut noises,
            sigmas,
        } = examples;
        let band = &self.band;
        let (o, preconditioner) = (&band.config.optim, &self.preconditioner);
        let [_, item] = band.items();
        let [shown, made] = channels(band.level);
        let device = run.device;
        let condition = match band.level {
            None => None,
            Some(_) => {
                let shape = &band.shape(o.batch, shown - made)[..];
                Some(Tensor::from_vec(condition, shape, device)?)
            }
        };
        let shape = &band.shape(o.batch, made)[..];
        if let (Some(teacher), Some(lesson)) = (&self.teacher, &self.lesson) {
            // The noisy bands stay; what is clean in them, and so what is noise, the teacher says.
            let parts = x.iter().zip(&noises).enumerate();
            let noisy: Vec<f32> = parts
                .map(|(i, (x, noise))| x + sigmas[i / item] as f32 * noise)
                .collect();
            let noisy = Tensor::from_vec(noisy, shape, device)?;
            let clean = lesson.clean(teacher, &noisy, condition.as_ref(), step)?;
            let rest = (noisy - &clean)?.flatten_all()?.to_vec1::<f32>()?;
            x = clean.flatten_all()?.to_vec1()?;
            let shares = noises.iter_mut().zip(rest).enumerate();
            shares.for_each(|(i, (noise, rest))| *noise = rest / sigmas[i / item] as f32);
        }
        let mut target = vec![0f32; o.batch * item];
        let mut times = vec![0f32; o.batch];
        x.par_chunks_mut(item)
            .zip(target.par_chunks_mut(item))
            .zip(noises.par_chunks(item))
            .zip(times.par_iter_mut().zip(&sigmas))
            .for_each(|(((x, target), noise), (time, &sigma))| {
                let example = preconditioner.example(sigma, noise, x, target);
                example.expect("all three are one picture");
                *time = (preconditioner.edm().scaling(sigma).noise * TIME_SCALE) as f32;
            });
        let x = Tensor::from_vec(x, shape, device)?;
        let target = Tensor::from_vec(target, shape, device)?;
        let times = Tensor::from_vec(times, o.batch, device)?;
        let x = match &condition {
            None => x,
            Some(condition) => Tensor::cat(&[&x, condition], 1)?,
        };
        let target = match (&self.teacher, &self.lesson) {
            (Some(teacher), None) => teacher.output(&x, &times)?,
            _ => target,
        };
        let masks = Masks {
            seed: run.seed,
            stream: band.stream(DROP),
            step: step as u32,
            calls: Default::default(),
        };
        let y = precision::computed(&x, |x| self.net.forward(x, &times, None, Some(&masks)))?;
        let errors = (y - target)?.sqr()?;
        let errors = match preconditioner.channels().len() {
            0 => errors,
            channels => {
                let weights = sigmas.iter().flat_map(|s| preconditioner.weights(*s));
                let weights: Vec<f32> = weights.map(|w| w as f32).collect();
                let shape = (o.batch, channels, 1, 1);
                errors.broadcast_mul(&Tensor::from_vec(weights, shape, device)?)?
            }
        };
        let loss = errors.mean_all()?;
        let mut grads = loss.backward()?;
        let norm = clip_grad_norm(&mut grads, &self.params.named(), band.config.clip)?;
        let loss = loss.to_dtype(DType::F64)?.to_scalar::<f64>()?;
        if !loss.is_finite() || !norm.is_finite() {
            return Err(Error::Diverged {
                stage: Stage::name(self),
                step,
                what: "the loss or its gradient",
            });
        }
        self.adam.config.lr = o.lr * o.schedule(step);
        self.adam.step(&grads)?;
        self.ema.update()?;
        Ok(vec![
            ("loss", loss),
            ("grad_norm", norm),
            ("lr", self.adam.config.lr),
        ])
    }
}

impl Stage for Diffusion<'_> {
    fn name(&self) -> &'static str {
        band_name(self.band.level)
    }

    fn parts(&mut self) -> Vec<Part<'_>> {
        let mut parts = vec![
            Part::Params("net", &self.params),
            Part::Adam("adam", &mut self.adam),
            Part::Ema("ema", &mut self.ema),
        ];
        if let Some(teacher) = &self.teacher {
            parts.push(Part::Params("teacher", &teacher.params));
            let guide = teacher.guide.iter();
            parts.extend(guide.map(|guide| Part::Params("guide", guide)));
        }
        parts
    }

    fn start_from(&mut self, given: Given<'_>) -> Result<()> {
        self.params.load(given.weights)?;
        if let Some(teacher) = &self.teacher {
            teacher.params.load(given.weights)?;
            if let (Some(guide), Some(weights)) = (&teacher.guide, given.guide) {
                guide.load(weights)?;
            }
        }
        self.ema.restart()?;
        Ok(())
    }

    fn step(&mut self, run: &Run<'_>, step: u64) -> Result<Vec<(&'static str, f64)>> {
        let mut examples = std::mem::take(&mut self.examples);
        let (band, lesson) = (self.band, self.lesson.clone());
        let make = |step| Ok(Examples::new(&band, lesson.as_ref(), run, step));
        let values = examples.step(step, run.ahead(), make, |examples| {
            self.learn(run, step, examples)
        });
        self.examples = examples;
        values
    }

    fn weights(&self) -> Result<HashMap<String, Tensor>> {
        Ok(self.ema.tensors()?)
    }

    fn preview(&self, run: &Run<'_>) -> Result<RgbImage> {
        let band = &self.band;
        let vb = VarBuilder::from_tensors(self.weights()?, DType::F32, run.device);
        let model = BandModel {
            net: UNet::new(band.config.unet.clone(), vb)?,
            guide: None,
            preconditioner: self.preconditioner.clone(),
            channels: channels(band.level)[1],
            side: band.side,
            fold: band.config.fold,
        };
        let how = (solver(&band.sample.sampler)?, band.sample.steps);
        let indices: Vec<u64> = (0..16).collect();
        let draw = |level: Option<usize>| match level {
            None => Draw::low(run.seed, &indices),
            Some(level) => Draw::details(run.seed, &indices, level),
        };
        let sample = |condition: Option<&Tensor>| {
            let draw = draw(band.level);
            model.sample(&how.0, how.1, draw, condition, run.device, &mut |_, _| {
                Ok(())
            })
        };
        let (stats, data) = (&run.data.stats, run.data);
        // Pictures in units of a low band `levels` deep, which is 2^levels as bright as their means.
        let (values, levels) = match band.level {
            None => {
                let mut low = sample(None)?.flatten_all()?.to_vec1::<f32>()?;
                match (&data.pixels, stats.last()) {
                    (Some(pixels), _) => pixels.restore(&mut low),
                    (None, Some(coarsest)) => coarsest.restore_low(&mut low),
                    (None, None) => {}
                }
                (low, stats.len())
            }
            Some(level) => {
                // Details made for the true low bands of the first pictures.
                let picks = (0..indices.len()).map(|i| i % data.set.len());
                let low = picks.flat_map(|pick| data.level(pick, false, level).low);
                let shape = (indices.len(), 3, band.side, band.side);
                let low = Tensor::from_vec(low.collect::<Vec<f32>>(), shape, run.device)?;
                let high = sample(Some(&low))?;
                let made = finer(&data.transform, stats, level, &low, &high)?;
                let mut made = made.flatten_all()?.to_vec1::<f32>()?;
                if level > 1 {
                    stats[level - 2].restore_low(&mut made);
                }
                (made, level - 1)
            }
        };
        let side = (run.size >> levels) as u32;
        let scale = 0.5f32.powi(levels as i32);
        let values: Vec<f32> = values.iter().map(|v| v * scale).collect();
        let small = picture::from_values(&values, side, side, 0)?;
        let size = run.size as u32;
        let large = small.iter().map(|p| picture::resize(p, size, size));
        let large: Vec<RgbImage> = large.collect();
        Ok(picture::sheet(&large, picture::Layout::default())?)
    }
}
