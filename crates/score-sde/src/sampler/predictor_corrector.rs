//! The predictor-corrector loop.

use super::ancestral::unfit;
use super::{
    Corrector, Coupling, Noise, OnStep, Predictor, ancestral_step, annealed_langevin_step,
    euler_maruyama_step, langevin_step, reverse_diffusion_step,
};
use crate::error::{Result, ensure, same_shape};
use crate::sde::{Reverse, Score, Sde};
use candle_core::Tensor;
use serde::{Deserialize, Serialize};

/// The choices of [`predictor_corrector`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PredictorCorrector {
    /// The predictor.
    pub predictor: Predictor,
    /// The corrector, which comes first at each time.
    pub corrector: Corrector,
    /// Signal-to-noise ratio of the corrector's steps, above 0.
    pub snr: f64,
    /// Corrector steps at each time, from 1.
    pub n_steps_each: usize,
    /// Predict along the probability flow, without noise.
    pub probability_flow: bool,
    /// Return the last state without its fresh noise.
    pub noise_removal: bool,
    /// The last time, above 0 and below the process's end. score_sde takes 1e-3 for VP and sub-VP, 1e-5 for VE.
    pub eps: f64,
    /// Whose norms a Langevin step follows.
    pub coupling: Coupling,
}

impl Default for PredictorCorrector {
    /// Reverse diffusion with one Langevin step of snr 0.16, to 1e-3.
    fn default() -> Self {
        Self {
            predictor: Predictor::default(),
            corrector: Corrector::default(),
            snr: 0.16,
            n_steps_each: 1,
            probability_flow: false,
            noise_removal: true,
            eps: 1e-3,
            coupling: Coupling::default(),
        }
    }
}

/// Predictor-corrector sampling (Song et al. 2021, arXiv 2011.13456, algorithm 1) over the scales of the process, at as many
/// times evenly from its end to `eps`: scales (1 + n_steps_each) evaluations with a corrector, from x (N, ...), the prior's
/// standard deviation times noise. `noise(i, x)` is asked for draw i of the run, in the order of use.
///
/// # Errors
/// Options out of range, a predictor that does not fit the process, errors of the score, of `noise` and of `on_step`.
pub fn predictor_corrector(
    sde: &dyn Sde,
    score: &dyn Score,
    x: Tensor,
    options: &PredictorCorrector,
    noise: Noise,
    on_step: OnStep,
) -> Result<Tensor> {
    let free: Settle = &mut |pair, _, _| Ok(pair);
    options.run(sde, score, x, free, noise, on_step)
}

/// A state and its mean: the state without its last noise.
pub(crate) type Pair = (Tensor, Tensor);

/// The next noise, of x's shape.
pub(crate) type Draw<'a> = &'a mut dyn FnMut(&Tensor) -> Result<Tensor>;

/// What is done to a state after each half of a step: its argument is the pair at times t.
pub(crate) type Settle<'a> = &'a mut dyn FnMut(Pair, &[f64], Draw) -> Result<Pair>;

impl PredictorCorrector {
    /// The loop, each half of a step followed by `settle`.
    pub(crate) fn run(
        &self,
        sde: &dyn Sde,
        score: &dyn Score,
        mut x: Tensor,
        settle: Settle,
        noise: Noise,
        on_step: OnStep,
    ) -> Result<Tensor> {
        self.check(sde)?;
        let n = x.dims().first().copied().unwrap_or(0);
        let mut draws = 0;
        let draw: Draw = &mut |x| {
            let z = noise(draws, x)?;
            draws += 1;
            same_shape("predictor_corrector", "noise", &z, x)?;
            Ok(z)
        };
        let mut mean = x.clone();
        for (i, time) in times(sde.end(), self.eps, sde.scales()).enumerate() {
            let t = vec![time; n];
            x = settle(self.correct(sde, score, x, &t, draw)?, &t, draw)?.0;
            (x, mean) = settle(self.predict(sde, score, x, &t, draw)?, &t, draw)?;
            on_step(i, &x)?;
        }
        Ok(if self.noise_removal { mean } else { x })
    }

    fn correct(
        &self,
        sde: &dyn Sde,
        score: &dyn Score,
        x: Tensor,
        t: &[f64],
        draw: Draw,
    ) -> Result<Pair> {
        let mut pair = (x.clone(), x);
        if self.corrector == Corrector::None {
            return Ok(pair);
        }
        for _ in 0..self.n_steps_each {
            let z = draw(&pair.0)?;
            pair = match self.corrector {
                Corrector::Langevin => {
                    langevin_step(sde, score, &pair.0, t, self.snr, self.coupling, &z)?
                }
                _ => annealed_langevin_step(sde, score, &pair.0, t, self.snr, &z)?,
            };
        }
        Ok(pair)
    }

    fn predict(
        &self,
        sde: &dyn Sde,
        score: &dyn Score,
        x: Tensor,
        t: &[f64],
        draw: Draw,
    ) -> Result<Pair> {
        if self.predictor == Predictor::None {
            return Ok((x.clone(), x));
        }
        let z = match self.probability_flow {
            true => x.zeros_like()?,
            false => draw(&x)?,
        };
        let reverse = Reverse {
            sde,
            score,
            probability_flow: self.probability_flow,
        };
        match self.predictor {
            Predictor::EulerMaruyama => {
                let dt = sde.end() / sde.scales() as f64;
                euler_maruyama_step(&reverse, &x, t, dt, &z)
            }
            Predictor::AncestralSampling => ancestral_step(sde, score, &x, t, &z),
            _ => reverse_diffusion_step(&reverse, &x, t, &z),
        }
    }

    fn check(&self, sde: &dyn Sde) -> Result<()> {
        const OP: &str = "predictor_corrector";
        sde.check()?;
        check_eps(OP, sde, self.eps)?;
        let need = "at least 2: the times go from the process's end to eps";
        ensure(sde.scales() > 1, OP, "num_scales", sde.scales(), need)?;
        if self.corrector != Corrector::None {
            let fits = self.snr.is_finite() && self.snr > 0.0;
            ensure(fits, OP, "snr", self.snr, "finite and above 0")?;
            let need = "at least 1, or the corrector none";
            ensure(
                self.n_steps_each > 0,
                OP,
                "n_steps_each",
                self.n_steps_each,
                need,
            )?;
        }
        let need =
            "false with ancestral_sampling; reverse_diffusion and euler_maruyama follow the flow";
        let ancestral = self.predictor == Predictor::AncestralSampling;
        let flow = self.probability_flow;
        ensure(!(ancestral && flow), OP, "probability_flow", flow, need)?;
        // VP's last beta, the largest, is beta_max / num_scales.
        let end = sde.end();
        let chain = match self.predictor {
            Predictor::AncestralSampling => {
                sde.ancestral(end).ok_or_else(|| unfit(sde))?.signal > 0.0
            }
            Predictor::ReverseDiffusion => sde.discretize(end).drift.is_finite(),
            _ => true,
        };
        let corrects = self.corrector == Corrector::None || sde.langevin_alpha(end) >= 0.0;
        let need = "at least beta_max, with ancestral_sampling above it: a step's beta is beta_max / num_scales";
        ensure(chain && corrects, OP, "num_scales", sde.scales(), need)?;
        Ok(())
    }
}

/// Errs unless `eps` lies within the process.
pub(crate) fn check_eps(op: &'static str, sde: &dyn Sde, eps: f64) -> Result<()> {
    let inside = eps > 0.0 && eps < sde.end();
    ensure(
        inside,
        op,
        "eps",
        eps,
        "above 0 and below the process's end",
    )
}

/// `n` times evenly from `end` to `eps`.
fn times(end: f64, eps: f64, n: usize) -> impl Iterator<Item = f64> {
    let last = n.saturating_sub(1).max(1) as f64;
    (0..n).map(move |i| end + i as f64 / last * (eps - end))
}
