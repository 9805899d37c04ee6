//! Training of the low band's score network with the EDM objective.

use super::checkpoint::Part;
use super::run::{Run, Stage};
use crate::bands::fold;
use crate::config::TrainConfig;
use crate::error::{Error, Result};
use crate::model::{LowModel, TIME_SCALE};
use crate::picture::{self, RgbImage};
use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use nn_ops::{AdamW, AdamWConfig, Ema, Params, clip_grad_norm, noise, precision};
use rayon::prelude::*;
use score_sde::UNet;
use score_sde::unet::DropMask;
use std::collections::HashMap;

/// Streams of noise, so that no two uses share numbers.
const NOISE: u32 = 1;
const SIGMA: u32 = 2;
const FLIP: u32 = 3;
const DROP: u32 = 4;

/// The network, its average and its optimiser.
pub(super) struct Low {
    params: Params,
    net: UNet,
    adam: AdamW,
    ema: Ema,
}

impl Low {
    pub(super) fn new(cfg: &TrainConfig, device: &Device) -> Result<Self> {
        let params = Params::new(cfg.seed);
        let net = UNet::new(cfg.low.unet.clone(), params.builder(device))?;
        let o = &cfg.low.optim;
        let adam = AdamWConfig {
            lr: o.lr,
            beta1: o.beta1,
            beta2: o.beta2,
            eps: 1e-8,
            weight_decay: o.weight_decay,
        };
        Ok(Self {
            adam: AdamW::new(params.named(), adam)?,
            ema: Ema::new(params.named(), o.ema)?,
            params,
            net,
        })
    }
}

/// Fresh masks for every call within one step.
struct Masks {
    seed: u64,
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
            noise::fill_uniform(self.seed, call << 16 | i as u64, DROP, self.step, out);
            out.iter_mut()
                .for_each(|v| *v = if (*v as f64) < p { 0.0 } else { keep });
        });
        Tensor::from_vec(data, shape, &Device::Cpu)
    }
}

impl Stage for Low {
    const NAME: &'static str = "low";

    fn parts(&mut self) -> Vec<Part<'_>> {
        vec![
            Part::Params("net", &self.params),
            Part::Adam("adam", &mut self.adam),
            Part::Ema("ema", &mut self.ema),
        ]
    }

    fn start_from(&mut self, weights: &HashMap<String, Tensor>) -> Result<()> {
        self.params.load(weights)?;
        self.ema.restart()?;
        Ok(())
    }

    fn step(&mut self, run: &Run<'_>, step: u64) -> Result<Vec<(&'static str, f64)>> {
        let cfg = run.config;
        let o = &cfg.low.optim;
        let side = cfg.size >> cfg.levels;
        let item = 3 * side * side;
        let mut x = vec![0f32; o.batch * item];
        let mut target = vec![0f32; o.batch * item];
        let mut times = vec![0f32; o.batch];
        let picks = run.batch(step, o.batch);
        x.par_chunks_mut(item)
            .zip(target.par_chunks_mut(item))
            .zip(times.par_iter_mut())
            .zip(picks.par_iter().enumerate())
            .for_each(|(((x, target), time), (i, &pick))| {
                let (index, at) = (i as u64, step as u32);
                let mut word = [0u32];
                noise::fill_words(cfg.seed, index, FLIP, at, &mut word);
                run.data.low_band(pick, word[0] & 1 == 1, x);
                let folded = fold(x.to_vec(), 3, side, cfg.low.fold);
                x.copy_from_slice(&folded.expect("the configuration's fold fits the low band"));
                let mut normal = [0f32];
                noise::fill_normal(cfg.seed, index, SIGMA, at, &mut normal);
                let sigma = cfg.low.edm.training_sigma(normal[0] as f64);
                let mut noisy = vec![0f32; item];
                noise::fill_normal(cfg.seed, index, NOISE, at, &mut noisy);
                let example = cfg.low.edm.example(sigma, &noisy, x, target);
                example.expect("all three are one picture");
                *time = (cfg.low.edm.scaling(sigma).noise * TIME_SCALE) as f32;
            });
        let device = run.device;
        let (channels, side) = (3 << (2 * cfg.low.fold), side >> cfg.low.fold);
        let shape = (o.batch, channels, side, side);
        let x = Tensor::from_vec(x, shape, device)?;
        let target = Tensor::from_vec(target, shape, device)?;
        let times = Tensor::from_vec(times, o.batch, device)?;
        let masks = Masks {
            seed: cfg.seed,
            step: step as u32,
            calls: Default::default(),
        };
        let y = precision::computed(&x, |x| self.net.forward(x, &times, None, Some(&masks)))?;
        let loss = (y - target)?.sqr()?.mean_all()?;
        let mut grads = loss.backward()?;
        let norm = clip_grad_norm(&mut grads, &self.params.named(), o.clip)?;
        let loss = loss.to_dtype(DType::F64)?.to_scalar::<f64>()?;
        if !loss.is_finite() || !norm.is_finite() {
            return Err(Error::Diverged {
                stage: "low",
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

    fn weights(&self) -> Result<HashMap<String, Tensor>> {
        Ok(self.ema.tensors()?)
    }

    fn preview(&self, run: &Run<'_>) -> Result<RgbImage> {
        let vb = VarBuilder::from_tensors(self.weights()?, DType::F32, run.device);
        let net = UNet::new(run.config.low.unet.clone(), vb)?;
        let levels = run.config.levels;
        let side = run.config.size >> levels;
        let model = LowModel {
            net,
            edm: run.config.low.edm,
            side,
            fold: run.config.low.fold,
        };
        let indices: Vec<u64> = (0..16).collect();
        let low = model.sample(
            &run.config.sample,
            run.config.seed,
            &indices,
            run.device,
            &mut |_, _| Ok(()),
        )?;
        let mut low = low.flatten_all()?.to_vec1::<f32>()?;
        run.data.stats[levels - 1].restore_low(&mut low);
        // The mean picture: an orthonormal low band is 2^levels as bright.
        low.iter_mut().for_each(|v| *v /= (1u32 << levels) as f32);
        let small = picture::from_values(&low, side as u32, side as u32, 0)?;
        let large: Vec<RgbImage> = small
            .iter()
            .map(|p| picture::resize(p, run.config.size as u32, run.config.size as u32))
            .collect();
        Ok(picture::sheet(&large, picture::Layout::default())?)
    }
}
