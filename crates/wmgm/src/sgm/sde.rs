//! Processes in continuous time at work: predictor-corrector, Euler-Maruyama, the probability flow, the solvers in sigma.

use super::SdeConfig;
use crate::error::{Error, Result};
use candle_core::Tensor;
use score_sde::diffusion::Model;
use score_sde::grid::karras;
use score_sde::ode::Rk45;
use score_sde::sampler::{
    Corrector, Noise, OnStep, Predictor, PredictorCorrector, SolverConfig, predictor_corrector,
    probability_flow, remove_noise,
};
use score_sde::sde::{Labels, NetworkScore, ScoreDenoiser, Sde};

/// rho of the grid of solvers in sigma (Karras et al. 2022, arXiv 2206.00364, eq. 5).
const RHO: f64 = 7.0;

/// A sampler of a process in time.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Sampler {
    PredictorCorrector(PredictorCorrector, usize),
    /// From the end to this time, adaptively.
    Flow(f64),
    /// So many steps from the end to this time.
    Solver(SolverConfig, usize, f64),
}

impl Sampler {
    pub(super) fn new(name: &str, options: PredictorCorrector, steps: usize) -> Result<Self> {
        let pc = |predictor, corrector| {
            let options = PredictorCorrector {
                predictor,
                corrector,
                ..options
            };
            Ok(Self::PredictorCorrector(options, steps))
        };
        match name.replace('-', "_").as_str() {
            "predictor_corrector" | "pc" => Ok(Self::PredictorCorrector(options, steps)),
            "reverse_diffusion" => pc(Predictor::ReverseDiffusion, Corrector::None),
            "ancestral_sampling" => pc(Predictor::AncestralSampling, Corrector::None),
            "euler_maruyama" => pc(Predictor::EulerMaruyama, Corrector::None),
            "probability_flow" | "ode" => Ok(Self::Flow(options.eps)),
            other => other
                .parse()
                .map(|solver| Self::Solver(solver, steps, options.eps))
                .map_err(|e| {
                    Error::Argument(format!(
                        "{e}; and of this process predictor_corrector, reverse_diffusion, ancestral_sampling, \
                         euler_maruyama, probability_flow"
                    ))
                }),
        }
    }

    pub(super) fn check(&self, sde: &SdeConfig) -> Result<()> {
        sde.process.check()?;
        let eps = match self {
            Self::PredictorCorrector(options, _) => options.eps,
            Self::Flow(eps) | Self::Solver(_, _, eps) => *eps,
        };
        if !(eps > 0.0 && eps < sde.process.end()) {
            return Err(Error::Argument(format!(
                "eps is {eps}, it must lie between 0 and the process's end"
            )));
        }
        if let (Self::Solver(..) | Self::Flow(_), false) = (self, sde.continuous) {
            return Err(Error::Argument(
                "sampler: the network knows discrete times alone; use predictor_corrector, reverse_diffusion, \
                 ancestral_sampling or euler_maruyama"
                    .into(),
            ));
        }
        Ok(())
    }

    /// Evaluations of the network, if they are known before.
    pub(super) fn evaluations(&self) -> Option<usize> {
        match self {
            Self::PredictorCorrector(o, steps) => {
                let correct = match o.corrector {
                    Corrector::None => 0,
                    _ => o.n_steps_each,
                };
                let predict = usize::from(o.predictor != Predictor::None);
                Some(steps * (correct + predict))
            }
            Self::Flow(_) => None,
            Self::Solver(solver, steps, _) => {
                let mut sigmas = vec![1.0; *steps];
                sigmas.push(0.0);
                Some(solver.evaluations(&sigmas))
            }
        }
    }

    pub(super) fn sample(
        &self,
        config: &SdeConfig,
        model: Model,
        start: Tensor,
        noise: Noise,
        on_step: OnStep,
    ) -> Result<Tensor> {
        let sde = &config.process;
        let score = NetworkScore {
            sde,
            network: model,
            labels: match config.continuous {
                true => Labels::Continuous,
                false => Labels::Discrete,
            },
        };
        let prior = |start: Tensor| start * sde.prior_std();
        Ok(match self {
            Self::PredictorCorrector(options, _) => {
                predictor_corrector(sde, &score, prior(start)?, options, noise, on_step)?
            }
            Self::Flow(eps) => {
                let times = [sde.end(), *eps];
                let x = prior(start)?;
                let flow = probability_flow(sde, &score, &x, times, &Rk45::default(), on_step)?;
                remove_noise(sde, &score, &flow.x, *eps)?
            }
            Self::Solver(solver, steps, eps) => {
                let mut sigmas = karras(*steps, sde.sigma(sde.end()), sde.sigma(*eps), RHO);
                sigmas.push(0.0);
                let denoiser = ScoreDenoiser { sde, score: &score };
                solver.sample(&denoiser, (start * sigmas[0])?, &sigmas, noise, on_step)?
            }
        })
    }
}
