//! What a step of training costs in multiply-adds of the networks, and how many steps a budget pays for.
//!
//! By convention a pass that trains a network costs three forward passes (forward, gradient of the input, gradient of the
//! weights), and one that only passes a gradient on costs two. Optimisers, averages and losses are not counted.

use crate::config::{LowConfig, RunConfig, TrainConfig};
use crate::error::Result;
use candle_core::{DType, Device};
use candle_nn::VarBuilder;
use msal_gan::detail::{DetailDiscriminator, DetailGenerator};
use nn_ops::Params;
use serde::{Deserialize, Serialize};

/// The work of one stage of training.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StageWork {
    /// low, high, level1, ...
    pub stage: String,
    /// Multiply-adds of one step.
    pub step: u64,
    /// Steps.
    pub steps: u64,
}

impl StageWork {
    /// Multiply-adds of all steps.
    pub fn total(&self) -> u64 {
        self.step.saturating_mul(self.steps)
    }
}

/// Multiply-adds of all steps of all stages.
pub fn total_work(stages: &[StageWork]) -> u64 {
    let totals = stages.iter().map(StageWork::total);
    totals.fold(0, u64::saturating_add)
}

/// The work of every stage of a run, in the order of training.
///
/// # Errors
/// A configuration whose networks cannot be built.
pub fn training_work(config: &RunConfig) -> Result<Vec<StageWork>> {
    let diffusion = |stage: &str, d: &LowConfig, side: usize| {
        let pass = d.unet.multiply_adds([side >> d.fold; 2])?;
        Ok(StageWork {
            stage: stage.into(),
            step: 3 * d.optim.batch as u64 * pass,
            steps: d.optim.steps,
        })
    };
    match config {
        RunConfig::Wmgm(c) => Ok(vec![
            diffusion("low", &c.low, c.size >> c.levels)?,
            details(c)?,
        ]),
        RunConfig::Diffused(c) => c
            .bands()
            .map(|(level, d)| diffusion(crate::bundle::band_name(level), d, c.side(level)))
            .collect(),
    }
}

/// The generator of details and its discriminator.
fn details(c: &TrainConfig) -> Result<StageWork> {
    let h = &c.high;
    let zeros = || VarBuilder::zeros(DType::F32, &Device::Cpu);
    let generator = DetailGenerator::new(h.generator.clone(), zeros())?;
    let judge = DetailDiscriminator::new(h.discriminator.clone(), zeros(), &Params::new(0))?;
    let item = |level: usize| {
        let crop = [(c.size >> level).min(h.crop); 2];
        let judged = match h.judges() {
            // Trained on a real and a made item, and once more to pass the generator's gradient on.
            true => (2 * 3 + 2) * judge.multiply_adds(crop),
            false => 0,
        };
        3 * generator.multiply_adds(crop) + judged
    };
    Ok(StageWork {
        stage: "high".into(),
        step: h.optim.batch as u64 * (1..=c.levels).map(item).sum::<u64>(),
        steps: h.optim.steps,
    })
}

/// Sets the steps of every stage to what its share of `multiply_adds` pays for.
///
/// # Errors
/// Another number of shares than stages, shares that are not positive, or a share that does not pay for one step; in words.
pub(super) fn spend(
    config: &mut RunConfig,
    multiply_adds: f64,
    shares: &[f64],
) -> std::result::Result<(), String> {
    let work = training_work(config).map_err(|e| e.to_string())?;
    let shares = match shares.is_empty() {
        true => vec![1.0; work.len()],
        false => shares.to_vec(),
    };
    if shares.len() != work.len() || shares.iter().any(|s| !(1e-6..=1e6).contains(s)) {
        let names: Vec<&str> = work.iter().map(|w| w.stage.as_str()).collect();
        return Err(format!(
            "shares is {shares:?}: one positive number for each stage is needed: {}",
            names.join(", ")
        ));
    }
    let all: f64 = shares.iter().sum();
    let mut steps = Vec::new();
    for (work, share) in work.iter().zip(&shares) {
        let paid = (multiply_adds * share / all / work.step as f64).floor();
        if !(1.0..=f64::from(u32::MAX)).contains(&paid) {
            return Err(format!(
                "multiply_adds is {multiply_adds:e}, which pays for {paid} steps of {} at {:e} each; 1 to 2^32 - 1 are needed",
                work.stage, work.step as f64
            ));
        }
        steps.push(paid as u64);
    }
    match config {
        RunConfig::Wmgm(c) => {
            (c.low.optim.steps, c.high.optim.steps) = (steps[0], steps[1]);
        }
        RunConfig::Diffused(c) => {
            c.low.optim.steps = steps[0];
            let details = c.details.iter_mut().rev();
            details
                .zip(&steps[1..])
                .for_each(|(d, s)| d.optim.steps = *s);
        }
    }
    Ok(())
}
