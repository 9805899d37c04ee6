//! Learning from a finished network: what it says when guided by a worse one, or where several of its steps lead.

use crate::config::{DistillConfig, LowConfig};
use crate::error::Result;
use crate::guide::{self, Guide};
use crate::model::denoised;
use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use nn_ops::Params;
use score_sde::sampler::dpmpp_2m;
use score_sde::{Edm, Preconditioner, UNet, UNetConfig, grid};
use std::sync::OnceLock;

/// The network that a run began from, guided or not.
pub(super) struct Teacher {
    /// Its weights, which checkpoints keep.
    pub params: Params,
    /// The weights of the worse network that guides it.
    pub guide: Option<Params>,
    /// The networks of constants, made when first asked: weights may still be loaded before.
    nets: OnceLock<(UNet, Option<Guide>)>,
    unet: UNetConfig,
    weight: f64,
}

impl Teacher {
    /// A teacher of the band's shape, whose weights are loaded later, if the band has one.
    pub(super) fn new(band: &LowConfig, device: &Device) -> Result<Option<Self>> {
        if band.distill.is_none() && band.guide.is_none() {
            return Ok(None);
        }
        let network = || {
            let params = Params::new(0);
            UNet::new(band.unet.clone(), params.builder(device))?;
            Ok::<_, candle_core::Error>(params)
        };
        Ok(Some(Self {
            params: network()?,
            guide: band.guide.map(|_| network()).transpose()?,
            nets: OnceLock::new(),
            unet: band.unet.clone(),
            weight: band.guide.map_or(1.0, |g| g.weight),
        }))
    }

    fn nets(&self, device: &Device) -> Result<(&UNet, Option<&Guide>)> {
        let constant = |params: &Params| {
            let mut tensors = params.tensors();
            for t in tensors.values_mut() {
                *t = t.copy()?.detach();
            }
            let vb = VarBuilder::from_tensors(tensors, DType::F32, device);
            UNet::new(self.unet.clone(), vb)
        };
        let (net, guide) = match self.nets.get() {
            Some(nets) => nets,
            None => {
                let worse = self.guide.as_ref().map(constant).transpose()?;
                let weight = self.weight;
                let guide = worse.map(|net| Guide { net, weight });
                let nets = (constant(&self.params)?, guide);
                self.nets.get_or_init(|| nets)
            }
        };
        Ok((net, guide.as_ref()))
    }

    /// What the student should return for its scaled input (N, C, H, W) at `times` (N).
    pub(super) fn output(&self, input: &Tensor, times: &Tensor) -> Result<Tensor> {
        let (net, guide) = self.nets(input.device())?;
        Ok(guide::output(net, guide, input, times)?)
    }
}

/// Distillation: one step of the student for several of its teacher's (after Salimans and Ho 2022, arXiv 2202.00512).
#[derive(Clone)]
pub(super) struct Lesson {
    config: DistillConfig,
    edm: Edm,
    /// The student's noise levels, 0 at the end.
    sigmas: Vec<f64>,
}

impl Lesson {
    pub(super) fn new(config: DistillConfig, edm: Edm) -> Self {
        Self {
            config,
            edm,
            sigmas: edm.sigmas(config.steps),
        }
    }

    /// The interval of the student's grid that an item of a batch is about.
    fn interval(&self, item: usize, step: u64) -> usize {
        (item as u64 + step) as usize % self.config.steps
    }

    /// The noise level at which the student sees an item.
    pub(super) fn sigma(&self, item: usize, step: u64) -> f64 {
        self.sigmas[self.interval(item, step)]
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
    /// steps end; item i is at [`Lesson::sigma`].
    pub(super) fn clean(
        &self,
        teacher: &Teacher,
        noisy: &Tensor,
        condition: Option<&Tensor>,
        step: u64,
    ) -> Result<Tensor> {
        let nets = teacher.nets(noisy.device())?;
        let n = noisy.dim(0)?;
        let mut clean = vec![None; n];
        let preconditioner = Preconditioner::from(self.edm);
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
                |x: &Tensor, sigma: f64| denoised(nets, &preconditioner, x, sigma, shown.as_ref());
            let levels = self.levels(interval);
            let end = dpmpp_2m(&denoiser, x.clone(), &levels, &mut |_, _| Ok(()))
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

    fn teacher(steps: usize, substeps: usize) -> (Teacher, Lesson, LowConfig) {
        let text = include_str!("../../../../assets/configs/small-wmgm.toml");
        let config: crate::config::TrainConfig = toml::from_str(text).unwrap();
        let distill = DistillConfig {
            steps,
            substeps,
            sigma_min: 0.002,
        };
        let mut low = config.low;
        low.edm.sigma_min = 0.3;
        low.distill = Some(distill);
        let teacher = Teacher::new(&low, &Device::Cpu).unwrap().unwrap();
        let lesson = Lesson::new(distill, low.edm);
        (teacher, lesson, low)
    }

    #[test]
    fn levels_join_and_every_interval_has_its_turn() {
        let (_, lesson, _) = teacher(4, 3);
        assert_eq!(lesson.sigmas.len(), 5);
        for interval in 0..4 {
            let levels = lesson.levels(interval);
            assert_eq!(levels.len(), 4);
            let ends = [levels[0], levels[3]];
            for (have, want) in ends.iter().zip(&lesson.sigmas[interval..]) {
                assert!((have - want).abs() < 1e-9 * (1.0 + want), "{ends:?}");
            }
            assert!(levels.windows(2).all(|w| w[0] > w[1]));
        }
        let seen: Vec<usize> = (0..8).map(|i| lesson.interval(i, 3)).collect();
        assert_eq!(seen, [3, 0, 1, 2, 3, 0, 1, 2]);
    }

    /// One step of Euler with the clean band that is taught ends where the teacher ends.
    #[test]
    fn a_step_with_what_is_taught_is_the_teachers_steps() {
        let (teacher, lesson, low) = teacher(2, 3);
        let x = nn_ops::noise::normal_tensor(1, &[0, 1], 0, 0, &[12, 8, 8], &Device::Cpu).unwrap();
        let x = (x * 5.0).unwrap();
        let clean = lesson.clean(&teacher, &x, None, 0).unwrap();
        let nets = teacher.nets(&Device::Cpu).unwrap();
        let edm = low.edm.into();
        let denoiser = |x: &Tensor, sigma: f64| denoised(nets, &edm, x, sigma, None);
        for item in 0..2 {
            let x = x.narrow(0, item, 1).unwrap();
            let clean = clean.narrow(0, item, 1).unwrap();
            let (from, to) = (lesson.sigmas[item], lesson.sigmas[item + 1]);
            let end = dpmpp_2m(&denoiser, x.clone(), &lesson.levels(item), &mut |_, _| {
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
