//! Samplers by name.

use super::ddim::check_eta;
use super::exponential::{check_order, check_sigmas};
use super::{
    Bh, Churn, Denoiser, Dpmpp, Evaluated, Form, Noise, OnStep, Third, UniPc, ddim_sigma, deis,
    dpmpp_multistep, dpmpp_singlestep, edm, euler_churn, heun, unipc,
};
use crate::error::{Error, Result};
use candle_core::Tensor;
use serde::{Deserialize, Serialize};

/// A sampler of a [`Denoiser`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum SamplerName {
    /// [`euler_churn`], that is [`euler`](super::euler) unless there is churn; `churn`, `evaluated`.
    Euler,
    /// [`ddim_sigma`] with eta 1: the ancestral sampler, DDPM with the posterior's variance.
    #[serde(alias = "ddpm")]
    EulerAncestral,
    /// [`ddim_sigma`]; `eta`.
    Ddim,
    /// [`heun`].
    Heun,
    /// [`edm`]; `churn`.
    Edm,
    /// [`dpmpp_multistep`]; `order`, `form`, `third`, `lower_order_final`, `euler_at_final`.
    #[default]
    DpmppMultistep,
    /// The same for the SDE.
    DpmppMultistepSde,
    /// [`dpmpp_singlestep`]; `order`, `form`, `third`, `lower_order_final`.
    DpmppSinglestep,
    /// The same for the SDE.
    DpmppSinglestepSde,
    /// [`unipc`]; `order`, `bh`, `lower_order_final`, `uncorrected`.
    #[serde(rename = "unipc")]
    UniPc,
    /// [`deis`]; `order`, `lower_order_final`.
    Deis,
}

impl SamplerName {
    /// All samplers.
    pub const ALL: [Self; 11] = [
        Self::Euler,
        Self::EulerAncestral,
        Self::Ddim,
        Self::Heun,
        Self::Edm,
        Self::DpmppMultistep,
        Self::DpmppMultistepSde,
        Self::DpmppSinglestep,
        Self::DpmppSinglestepSde,
        Self::UniPc,
        Self::Deis,
    ];

    /// Its name, as in a configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::Euler => "euler",
            Self::EulerAncestral => "euler_ancestral",
            Self::Ddim => "ddim",
            Self::Heun => "heun",
            Self::Edm => "edm",
            Self::DpmppMultistep => "dpmpp_multistep",
            Self::DpmppMultistepSde => "dpmpp_multistep_sde",
            Self::DpmppSinglestep => "dpmpp_singlestep",
            Self::DpmppSinglestepSde => "dpmpp_singlestep_sde",
            Self::UniPc => "unipc",
            Self::Deis => "deis",
        }
    }
}

impl std::fmt::Display for SamplerName {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

const KNOWN: &str = "euler, euler_ancestral (ddpm), ddim, heun, edm, dpmpp_multistep, dpmpp_multistep_sde, \
    dpmpp_singlestep, dpmpp_singlestep_sde, unipc, deis, and with an order in 1..=3: dpmpp_2m, dpmpp_2m_sde, dpmpp_2s, \
    dpmpp_2s_sde, unipc_2, deis_2";

impl std::str::FromStr for SamplerName {
    type Err = Error;
    fn from_str(name: &str) -> Result<Self> {
        let found = Self::ALL.into_iter().find(|s| s.name() == name);
        match (found, name) {
            (Some(found), _) => Ok(found),
            (None, "ddpm") => Ok(Self::EulerAncestral),
            (None, _) => Err(Error::Unknown {
                what: "sampler",
                name: name.into(),
                known: KNOWN,
            }),
        }
    }
}

/// A sampler and its options; those that it does not have are not looked at.
///
/// `"dpmpp_2m".parse()` gives one with everything else at its default; so do the names of [`SamplerName`].
///
/// ```
/// use score_sde::sampler::{SamplerName, SolverConfig};
/// let config: SolverConfig = "unipc_3".parse()?;
/// assert_eq!((config.sampler, config.order), (SamplerName::UniPc, 3));
/// let unknown = "plms".parse::<SolverConfig>().unwrap_err().to_string();
/// assert!(unknown.contains("dpmpp_2m"));
/// # Ok::<(), score_sde::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SolverConfig {
    /// The sampler.
    pub sampler: SamplerName,
    /// Order of DPM-Solver++, UniPC and DEIS, 1 to 3.
    pub order: usize,
    /// Fresh noise of DDIM, in [0, 1].
    pub eta: f64,
    /// Fresh noise of EDM and Euler.
    pub churn: Churn,
    /// Whether Euler's network sees it.
    pub evaluated: Evaluated,
    /// Form of DPM-Solver++.
    pub form: Form,
    /// The curvature term of DPM-Solver++.
    pub third: Third,
    /// B(h) of UniPC.
    pub bh: Bh,
    /// Lower order in the last of few steps, as each sampler has it.
    pub lower_order_final: bool,
    /// First order in the last step of multistep DPM-Solver++.
    pub euler_at_final: bool,
    /// Steps after which UniPC corrects nothing.
    pub uncorrected: Vec<usize>,
}

impl Default for SolverConfig {
    fn default() -> Self {
        Self {
            sampler: SamplerName::default(),
            order: 2,
            eta: 0.0,
            churn: Churn::default(),
            evaluated: Evaluated::default(),
            form: Form::default(),
            third: Third::default(),
            bh: Bh::default(),
            lower_order_final: true,
            euler_at_final: false,
            uncorrected: Vec::new(),
        }
    }
}

impl SolverConfig {
    /// # Errors
    /// An order not in 1..=3, an `eta` outside [0, 1], a churn out of range, where the sampler has them.
    pub fn check(&self) -> Result<()> {
        use SamplerName as S;
        match self.sampler {
            S::EulerAncestral | S::Heun => Ok(()),
            S::Euler => {
                self.evaluated.check()?;
                self.churn.check()
            }
            S::Ddim => check_eta("ddim", self.eta),
            S::Edm => self.churn.check(),
            _ => check_order(self.sampler.name(), self.order),
        }
    }

    /// Whether it asks for noise.
    pub fn is_stochastic(&self) -> bool {
        use SamplerName as S;
        match self.sampler {
            S::EulerAncestral | S::DpmppMultistepSde | S::DpmppSinglestepSde => true,
            S::Ddim => self.eta > 0.0,
            S::Edm | S::Euler => self.churn.s_churn > 0.0,
            _ => false,
        }
    }

    /// Network evaluations on a grid of n + 1 levels.
    pub fn evaluations(&self, sigmas: &[f64]) -> usize {
        let steps = sigmas.len().saturating_sub(1);
        match self.sampler {
            SamplerName::Heun | SamplerName::Edm => {
                2 * steps - usize::from(steps > 0 && sigmas.last() == Some(&0.0))
            }
            _ => steps,
        }
    }

    /// Samples: from `x = sigmas[0] * noise` down the levels, in the dtype of x.
    ///
    /// # Errors
    /// Those of [`SolverConfig::check`], no steps, levels that do not fall, errors of the denoiser, of `noise` and of
    /// `on_step`.
    pub fn sample(
        &self,
        d: &dyn Denoiser,
        x: Tensor,
        sigmas: &[f64],
        noise: Noise,
        on_step: OnStep,
    ) -> Result<Tensor> {
        use SamplerName as S;
        self.check()?;
        check_sigmas(self.sampler.name(), sigmas)?;
        let dpmpp = Dpmpp {
            order: self.order,
            sde: self.is_stochastic(),
            form: self.form,
            third: self.third,
            lower_order_final: self.lower_order_final,
            euler_at_final: self.euler_at_final,
        };
        match self.sampler {
            S::Euler => euler_churn(d, x, sigmas, &self.churn, self.evaluated, noise, on_step),
            S::EulerAncestral => ddim_sigma(d, x, sigmas, 1.0, noise, on_step),
            S::Ddim => ddim_sigma(d, x, sigmas, self.eta, noise, on_step),
            S::Heun => heun(d, x, sigmas, on_step),
            S::Edm => edm(d, x, sigmas, &self.churn, noise, on_step),
            S::DpmppMultistep | S::DpmppMultistepSde => {
                dpmpp_multistep(d, x, sigmas, &dpmpp, noise, on_step)
            }
            S::DpmppSinglestep | S::DpmppSinglestepSde => {
                dpmpp_singlestep(d, x, sigmas, &dpmpp, noise, on_step)
            }
            S::UniPc => {
                let options = UniPc {
                    order: self.order,
                    bh: self.bh,
                    lower_order_final: self.lower_order_final,
                    uncorrected: self.uncorrected.clone(),
                };
                unipc(d, x, sigmas, &options, on_step)
            }
            S::Deis => deis(d, x, sigmas, self.order, self.lower_order_final, on_step),
        }
    }
}

impl std::str::FromStr for SolverConfig {
    type Err = Error;
    fn from_str(name: &str) -> Result<Self> {
        let (sampler, order) = match split_order(name) {
            Some((sampler, order)) => (sampler, order),
            None => (name.parse()?, Self::default().order),
        };
        let config = Self {
            sampler,
            order,
            ..Self::default()
        };
        config.check()?;
        Ok(config)
    }
}

/// "dpmpp_3m_sde", "unipc_2", "deis_3" and their like as a sampler and an order, which may be out of range.
fn split_order(name: &str) -> Option<(SamplerName, usize)> {
    use SamplerName as S;
    let order = |text: &str| text.parse::<usize>().ok();
    if let Some(order_text) = name.strip_prefix("unipc_") {
        return Some((S::UniPc, order(order_text)?));
    }
    if let Some(order_text) = name.strip_prefix("deis_") {
        return Some((S::Deis, order(order_text)?));
    }
    let rest = name.strip_prefix("dpmpp_")?;
    let kinds = [
        ("m_sde", S::DpmppMultistepSde),
        ("s_sde", S::DpmppSinglestepSde),
        ("m", S::DpmppMultistep),
        ("s", S::DpmppSinglestep),
    ];
    kinds
        .into_iter()
        .find_map(|(end, sampler)| Some((sampler, order(rest.strip_suffix(end)?)?)))
}

#[cfg(test)]
mod tests {
    use super::super::no_noise;
    use super::*;

    #[test]
    fn names_are_the_same_in_text_and_serde() {
        for sampler in SamplerName::ALL {
            assert_eq!(sampler.name().parse::<SamplerName>().unwrap(), sampler);
            let text = serde_json::to_string(&sampler).unwrap();
            assert_eq!(text, format!("\"{sampler}\""));
            assert!(KNOWN.contains(sampler.name()));
            let config: SolverConfig = sampler.name().parse().unwrap();
            let json = serde_json::to_string(&config).unwrap();
            assert_eq!(serde_json::from_str::<SolverConfig>(&json).unwrap(), config);
        }
        let config: SolverConfig = "dpmpp_3m_sde".parse().unwrap();
        assert_eq!(
            (config.sampler, config.order),
            (SamplerName::DpmppMultistepSde, 3)
        );
        assert!(config.is_stochastic());
    }

    #[test]
    fn what_does_not_fit_is_told_with_what_would() {
        for (name, parts) in [
            ("plms", ["\"plms\"", "unipc"]),
            ("dpmpp_4m", ["order is 4", "1, 2 or 3"]),
            ("deis_0", ["order is 0", "1, 2 or 3"]),
            ("unipc_x", ["\"unipc_x\"", "deis"]),
        ] {
            let e = name.parse::<SolverConfig>().unwrap_err().to_string();
            assert!(parts.iter().all(|p| e.contains(p)), "{e}");
        }
        let x = Tensor::new(&[[1f64]], &candle_core::Device::Cpu).unwrap();
        let d = |x: &Tensor, _: f64| x * 0.5;
        let run = |config: &SolverConfig, sigmas: &[f64]| {
            let run = config.sample(&d, x.clone(), sigmas, &mut no_noise, &mut |_, _| Ok(()));
            run.unwrap_err().to_string()
        };
        let config = |sampler| SolverConfig {
            sampler,
            eta: 1.5,
            order: 4,
            ..Default::default()
        };
        assert!(run(&config(SamplerName::Euler), &[1.0]).contains("steps is 0"));
        assert!(run(&config(SamplerName::Ddim), &[1.0, 0.0]).contains("eta is 1.5"));
        assert!(run(&config(SamplerName::Deis), &[1.0, 0.0]).contains("order is 4"));
        assert!(run(&config(SamplerName::Heun), &[1.0, 2.0]).contains("falling"));
        let unknown = serde_json::from_str::<SolverConfig>(r#"{"sampler": "plms"}"#);
        assert!(unknown.unwrap_err().to_string().contains("dpmpp_multistep"));
    }
}
