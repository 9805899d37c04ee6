//! Diffusions of a cascade (Guth, Coste, De Bortoli and Mallat 2022, "Wavelet score-based generative modeling", arXiv
//! 2208.05003): each is conditioned on what those before it have made, which its network sees as further channels.
//!
//! The networks and processes are those of cascaded-wavelet-diffusion. What x and its condition are is their user's
//! business.

mod config;

use crate::diffusion::GaussianDiffusion;
use crate::error::{Error, Result};
use crate::sampler::{
    self, Factors, Noise, OnStep, check_eta, ddim_step_with, direction, fresh_noise,
};
use crate::unet::{DropMask, UNet};
use candle_core::Tensor;
use candle_nn::VarBuilder;
pub use config::{CascadeUNetConfig, DiffuserConfig};
use nn_ops::path::{self, Path};

/// How to walk down a process.
#[derive(Debug, Clone, PartialEq)]
pub struct Ddim {
    /// Evaluations, at most the steps of the process; the noisiest step and step 0 are among them.
    pub steps: usize,
    /// 0 is deterministic, 1 has the posterior's variance.
    pub eta: f64,
    /// What predictions of the clean x are kept within: a pair for each channel, or one for all.
    pub bounds: Vec<(f64, f64)>,
}

/// A diffusion of x (N, C, H, W) given a condition (N, D, H, W), or of x alone.
#[derive(Debug, Clone)]
pub struct ConditionalDiffuser {
    net: UNet,
    process: GaussianDiffusion,
    same_numbers: bool,
    share_early: bool,
}

impl ConditionalDiffuser {
    /// Reads or creates the network, named as in improved-diffusion's checkpoints, for x of `channels` and a condition
    /// of `condition` channels (0 for none).
    ///
    /// # Errors
    /// A configuration out of range, a missing or misshapen parameter.
    pub fn new(
        config: &DiffuserConfig,
        channels: usize,
        condition: usize,
        vb: VarBuilder,
    ) -> Result<Self> {
        let process = config.process()?;
        let unet = config
            .unet
            .unet(channels.saturating_add(condition), channels)?;
        Ok(Self {
            net: UNet::new(unet, vb)?,
            process,
            same_numbers: false,
            share_early: false,
        })
    }

    /// Show the network one time for all steps of a fiftieth, within the least noisy tenth (Yang et al. 2023, "Lipschitz
    /// singularities in diffusion models", arXiv 2306.11251).
    #[must_use]
    pub fn share_early_steps(mut self, on: bool) -> Self {
        self.share_early = on;
        self
    }

    /// Sample number by number as cascaded-wavelet-diffusion does: with its rounding of alpha_bar to f32, and without
    /// Winograd's algorithm, whose rounding sampling amplifies to some 3e-4.
    ///
    /// DDIM's direction has the factor sqrt(1 - alpha_bar - sigma^2). With eta 1 and a long step to the first ones this is
    /// what is left of 1e-4 - 1e-4, about as much as alpha_bar is rounded by there, so that pictures differ by some 1e-3.
    #[must_use]
    pub fn same_numbers(mut self, on: bool) -> Self {
        self.same_numbers = on;
        self
    }

    /// The network.
    pub fn net(&self) -> &UNet {
        &self.net
    }

    /// The process, all of its steps.
    pub fn process(&self) -> &GaussianDiffusion {
        &self.process
    }

    /// The noise predicted in x (N, C, H, W) at times t (N), in thousandths of the process; `mask` is the source of
    /// dropout while training. This is the model of [`ConditionalDiffuser::process`], for its losses too.
    ///
    /// # Errors
    /// Shapes that do not fit.
    pub fn predict(
        &self,
        x: &Tensor,
        t: &Tensor,
        condition: Option<&Tensor>,
        mask: Option<&dyn DropMask>,
    ) -> candle_core::Result<Tensor> {
        let t = match self.share_early {
            true => shared(t)?,
            false => t.clone(),
        };
        match condition {
            Some(condition) => {
                let both = Tensor::cat(&[x, condition], 1)?; // (N, C + D, H, W)
                self.net.forward(&both, &t, None, mask)
            }
            None => self.net.forward(x, &t, None, mask),
        }
    }

    /// Walks down from plain noise x (N, C, H, W) by DDIM, see [`crate::sampler::ddim`].
    ///
    /// No noise is drawn for the last step, which adds none.
    ///
    /// # Errors
    /// Steps, eta or bounds out of range, shapes that do not fit, errors of `noise` and of `on_step`.
    pub fn sample(
        &self,
        mut x: Tensor,
        condition: Option<&Tensor>,
        how: &Ddim,
        noise: Noise,
        on_step: OnStep,
    ) -> Result<Tensor> {
        check_eta("ConditionalDiffuser::sample", how.eta)?;
        let visited = visited(self.process.steps(), how.steps)?;
        let process = self.process.respaced(&visited)?;
        let process = process.clip_within(how.bounds.clone())?;
        let c = process.coefficients();
        let factors = |i: usize| {
            let prev = c.alphas_cumprod_prev[i];
            let fresh = fresh_noise(c.alphas_cumprod[i], prev, how.eta);
            let stored = match self.same_numbers {
                true => f64::from(prev as f32),
                false => prev,
            };
            Factors {
                signal: prev.sqrt(),
                noise: direction(stored, fresh),
                fresh,
            }
        };
        let model = |x: &Tensor, t: &Tensor| self.predict(x, t, condition, None);
        let options = sampler::Ddim {
            clip: true,
            ..Default::default()
        };
        let n = x.dims().first().copied().unwrap_or(0);
        for (i, t) in (0..how.steps).rev().enumerate() {
            let z = match t > 0 {
                true => noise(i, &x)?,
                false => x.zeros_like()?,
            };
            let t = vec![t; n];
            let step = || ddim_step_with(&process, &model, &x, &t, &factors, &options, &z);
            x = match (self.same_numbers, path::current()) {
                (true, Path::Fast) => path::with(Path::Exact, step)?,
                _ => step()?,
            };
            on_step(i, &x)?;
        }
        Ok(x)
    }
}

/// `steps` of `total` steps, ascending: evenly spaced from total - 1 down to 0 and rounded down; the first alone for one.
fn visited(total: usize, steps: usize) -> Result<Vec<usize>> {
    if steps == 0 || steps > total {
        return Err(Error::Argument {
            op: "ConditionalDiffuser::sample",
            name: "steps",
            value: format!("{steps} of {total}"),
            need: "at least 1, and at most the steps of the process",
        });
    }
    if steps == 1 {
        return Ok(vec![total - 1]);
    }
    // From the nearer end, as PyTorch counts: rounding down sees the last bit.
    let stride = (total - 1) as f64 / (steps - 1) as f64;
    let falling = |i: usize| match i < steps / 2 {
        true => (total - 1) as f64 - stride * i as f64,
        false => stride * (steps - 1 - i) as f64,
    };
    Ok((0..steps).rev().map(|i| falling(i) as usize).collect())
}

/// Times t (N) of the least noisy tenth rounded down to fiftieths.
fn shared(t: &Tensor) -> candle_core::Result<Tensor> {
    let times = t.to_vec1::<f32>()?.into_iter().map(f64::from);
    // A time that is a multiple of 20 but for its rounding stays where it is.
    let round = |t: f64| match t > 100.0 {
        true => t as f32,
        false => ((t / 20.0 + 1e-6).floor() * 20.0) as f32,
    };
    Tensor::new(times.map(round).collect::<Vec<_>>(), t.device())
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    /// torch.linspace(T - 1, 0, steps, dtype=int), backwards.
    #[test]
    fn steps_are_those_of_torch() {
        assert_eq!(visited(1000, 6).unwrap(), [0, 199, 399, 599, 799, 999]);
        assert_eq!(visited(1000, 5).unwrap(), [0, 249, 499, 749, 999]);
        assert_eq!(visited(1000, 4).unwrap(), [0, 333, 666, 999]);
        assert_eq!(visited(37, 1).unwrap(), [36]);
        assert_eq!(visited(37, 37).unwrap(), (0..37).collect::<Vec<_>>());
        for steps in 1..=250 {
            let v = visited(250, steps).unwrap();
            assert!(v.len() == steps && v.windows(2).all(|w| w[0] < w[1]));
        }
        assert!(visited(10, 0).is_err() && visited(10, 11).is_err());
    }

    #[test]
    fn early_times_are_shared() {
        let t = Tensor::new(
            &[0f32, 19.0, 20.0, 59.9, 99.9, 100.0, 100.5, 999.0],
            &Device::Cpu,
        );
        let t = shared(&t.unwrap()).unwrap().to_vec1::<f32>().unwrap();
        assert_eq!(t, [0.0, 0.0, 20.0, 40.0, 80.0, 100.0, 100.5, 999.0]);
    }

    fn config() -> CascadeUNetConfig {
        CascadeUNetConfig {
            base_channels: 32,
            num_res_attn_blocks: 2,
            channel_mults: vec![1, 4],
            is_attn: vec![true, false, true],
            num_heads: 4,
            dropout: 0.1,
            use_scale_shift_norm: true,
        }
    }

    #[test]
    fn clean_predictions_stay_within_the_bounds_of_their_channels() {
        let (steps, linear, unet) = (100, true, config());
        let process = DiffuserConfig {
            steps,
            linear,
            unet,
        }
        .process()
        .unwrap();
        let zero = |x: &Tensor, _: &Tensor| x.zeros_like();
        let x = Tensor::full(0.5f32, (1, 2, 1, 1), &Device::Cpu).unwrap();
        let clean = |bounds: Vec<(f64, f64)>| {
            let process = process.clone().clip_within(bounds)?;
            let p = process.p_mean_variance(&zero, &x, &[60], true)?;
            Ok::<_, Error>(p.pred_xstart.flatten_all()?.to_vec1::<f32>()?)
        };
        let free = (f64::NEG_INFINITY, f64::INFINITY);
        let plain = clean(vec![free]).unwrap();
        assert!(plain[0] > 1.0 && plain[0] == plain[1]);
        assert_eq!(clean(vec![(-0.1, 0.25), free]).unwrap(), [0.25, plain[0]]);
        assert_eq!(clean(vec![(-1.0, 1.0)]).unwrap(), [1.0, 1.0]);
        for bounds in [vec![], vec![(1.0, -1.0)], vec![(f64::NAN, 1.0)]] {
            assert!(clean(bounds).unwrap_err().to_string().contains("bounds is"));
        }
        assert!(
            clean(vec![free; 3])
                .unwrap_err()
                .to_string()
                .contains("(N, 3, ...)")
        );
    }

    #[test]
    fn names_of_two_programs() {
        let unet = config().unet(12, 9).unwrap();
        assert_eq!(unet.channel_mult, [1, 1, 4]);
        assert_eq!(unet.attention_resolutions, [1, 4]);
        assert!(unet.conv_resample && unet.use_scale_shift_norm && unet.num_res_blocks == 2);
        assert_eq!(config().factor(), 4);
    }

    #[test]
    fn what_cannot_be_built_is_named() {
        let refused = |change: fn(&mut CascadeUNetConfig)| {
            let mut c = config();
            change(&mut c);
            c.unet(3, 3).unwrap_err().to_string()
        };
        for (error, expected) in [
            (
                refused(|c| c.is_attn.truncate(2)),
                "is_attn is of 2 entries",
            ),
            (
                refused(|c| c.channel_mults = vec![1; 40]),
                "channel_mults is of 40",
            ),
            (refused(|c| c.base_channels = 33), "model_channels is 33"),
            (refused(|c| c.num_heads = 5), "5 heads"),
            (refused(|c| c.dropout = f64::NAN), "dropout is NaN"),
        ] {
            assert!(error.contains(expected), "{error}");
        }
        let process = |steps, linear| {
            let unet = config();
            DiffuserConfig {
                steps,
                linear,
                unet,
            }
            .process()
        };
        assert_eq!(process(1000, true).unwrap().steps(), 1000);
        assert!(process(20, true).is_err() && process(0, false).is_err());
        let e = process(1 << 40, false).unwrap_err().to_string();
        assert!(e.contains("T is 1099511627776"), "{e}");
    }
}
