//! Distillation: one step of the student for several of its teacher's (after Salimans and Ho 2022, arXiv 2202.00512).

use crate::config::{DistillConfig, LowConfig};
use crate::error::Result;
use crate::model::denoised;
use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use nn_ops::Params;
use score_sde::sampler::heun;
use score_sde::{Edm, UNet, UNetConfig, grid};
use std::sync::OnceLock;

/// The network that a run began from, and the noise levels at which it teaches.
pub(super) struct Teacher {
    /// Its weights, which checkpoints keep.
    pub params: Params,
    /// The network of constants, made when first asked: weights may still be loaded before.
    net: OnceLock<UNet>,
    unet: UNetConfig,
    config: DistillConfig,
    edm: Edm,
    /// The student's noise levels, 0 at the end.
    sigmas: Vec<f64>,
}

impl Teacher {
    /// A teacher of this shape, whose weights are loaded later.
    pub(super) fn new(band: &LowConfig, config: DistillConfig, device: &Device) -> Result<Self> {
        let params = Params::new(0);
        UNet::new(band.unet.clone(), params.builder(device))?;
        Ok(Self {
            params,
            net: OnceLock::new(),
            unet: band.unet.clone(),
            config,
            edm: band.edm,
            sigmas: band.edm.sigmas(config.steps),
        })
    }

    /// The interval of the student's grid that an item of a batch is about.
    fn interval(&self, item: usize, step: u64) -> usize {
        (item as u64 + step) as usize % self.config.steps
    }

    /// The noise level at which the student sees an item.
    pub(super) fn sigma(&self, item: usize, step: u64) -> f64 {
        self.sigmas[self.interval(item, step)]
    }

    fn net(&self, device: &Device) -> Result<&UNet> {
        if let Some(net) = self.net.get() {
            return Ok(net);
        }
        let mut tensors = self.params.tensors();
        for t in tensors.values_mut() {
            *t = t.copy()?.detach();
        }
        let vb = VarBuilder::from_tensors(tensors, DType::F32, device);
        let net = UNet::new(self.unet.clone(), vb)?;
        Ok(self.net.get_or_init(|| net))
    }

    /// The levels of the teacher's steps through an interval of the student's.
    fn levels(&self, interval: usize) -> Vec<f64> {
        let (from, to) = (self.sigmas[interval], self.sigmas[interval + 1]);
        let (steps, least) = (self.config.substeps, self.config.sigma_min);
        if to > 0.0 {
            return grid::karras(steps + 1, from, to, self.edm.rho);
        }
        let mut levels = match from > least {
            true => grid::karras(steps, from, least, self.edm.rho),
            false => vec![from],
        };
        levels.push(0.0);
        levels
    }

    /// What the student should take for the clean bands of `noisy` (N, C, H, W), so that its own step ends where the teacher's
    /// steps end; item i is at [`Teacher::sigma`].
    pub(super) fn clean(
        &self,
        noisy: &Tensor,
        condition: Option<&Tensor>,
        step: u64,
    ) -> Result<Tensor> {
        let net = self.net(noisy.device())?;
        let n = noisy.dim(0)?;
        let mut clean = vec![None; n];
        for interval in 0..self.config.steps {
            let items: Vec<u32> = (0..n)
                .filter(|i| self.interval(*i, step) == interval)
                .map(|i| i as u32)
                .collect();
            if items.is_empty() {
                continue;
            }
            let picked = Tensor::new(&items[..], noisy.device())?;
            let x = noisy.index_select(&picked, 0)?;
            let shown = condition.map(|c| c.index_select(&picked, 0)).transpose()?;
            let denoiser =
                |x: &Tensor, sigma: f64| denoised(net, &self.edm, x, sigma, shown.as_ref());
            let levels = self.levels(interval);
            let end = heun(&denoiser, x.clone(), &levels, &mut |_, _| Ok(()))
                .map_err(candle_core::Error::from)?;
            // Euler's step from x by (x - clean) / sigma ends there.
            let (from, to) = (self.sigmas[interval], self.sigmas[interval + 1]);
            let made = (&x - ((&x - end)? * (from / (from - to)))?)?;
            for (k, i) in items.iter().enumerate() {
                clean[*i as usize] = Some(made.narrow(0, k, 1)?);
            }
        }
        let clean: Vec<Tensor> = clean.into_iter().flatten().collect();
        Ok(Tensor::cat(&clean, 0)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn teacher(steps: usize, substeps: usize) -> (Teacher, LowConfig) {
        let text = include_str!("../../../../assets/configs/small-wmgm.toml");
        let config: crate::config::TrainConfig = toml::from_str(text).unwrap();
        let distill = DistillConfig {
            steps,
            substeps,
            sigma_min: 0.002,
        };
        let mut low = config.low;
        low.edm.sigma_min = 0.3;
        let teacher = Teacher::new(&low, distill, &Device::Cpu).unwrap();
        (teacher, low)
    }

    #[test]
    fn levels_join_and_every_interval_has_its_turn() {
        let (teacher, _) = teacher(4, 3);
        assert_eq!(teacher.sigmas.len(), 5);
        for interval in 0..4 {
            let levels = teacher.levels(interval);
            assert_eq!(levels.len(), 4);
            let ends = [levels[0], levels[3]];
            for (have, want) in ends.iter().zip(&teacher.sigmas[interval..]) {
                assert!((have - want).abs() < 1e-9 * (1.0 + want), "{ends:?}");
            }
            assert!(levels.windows(2).all(|w| w[0] > w[1]));
        }
        let seen: Vec<usize> = (0..8).map(|i| teacher.interval(i, 3)).collect();
        assert_eq!(seen, [3, 0, 1, 2, 3, 0, 1, 2]);
    }

    /// One step of Euler with the clean band that is taught ends where the teacher ends.
    #[test]
    fn a_step_with_what_is_taught_is_the_teachers_steps() {
        let (teacher, low) = teacher(2, 3);
        let x = nn_ops::noise::normal_tensor(1, &[0, 1], 0, 0, &[12, 8, 8], &Device::Cpu).unwrap();
        let x = (x * 5.0).unwrap();
        let clean = teacher.clean(&x, None, 0).unwrap();
        let net = teacher.net(&Device::Cpu).unwrap();
        let denoiser = |x: &Tensor, sigma: f64| denoised(net, &low.edm, x, sigma, None);
        for item in 0..2 {
            let x = x.narrow(0, item, 1).unwrap();
            let clean = clean.narrow(0, item, 1).unwrap();
            let (from, to) = (teacher.sigmas[item], teacher.sigmas[item + 1]);
            let end = heun(&denoiser, x.clone(), &teacher.levels(item), &mut |_, _| {
                Ok(())
            })
            .unwrap();
            let slope = ((&x - &clean).unwrap() / from).unwrap();
            let step = (&x + (slope * (to - from)).unwrap()).unwrap();
            let apart = (step - end).unwrap().abs().unwrap().max_all().unwrap();
            assert!(apart.to_scalar::<f32>().unwrap() < 1e-4);
        }
    }
}
