//! One of the three processes, as a configuration names it.

use super::{Ancestral, Labels, Marginal, Query, Sde, Step, SubVp, Ve, Vp};
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::str::FromStr;

/// A process of score_sde. In files its kind is the field `sde`, with score_sde's names `vpsde`, `subvpsde` and `vesde`;
/// the other fields are those of the kind.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "sde")]
pub enum Process {
    /// Variance preserving.
    #[serde(rename = "vpsde")]
    Vp(Vp),
    /// Sub-variance preserving.
    #[serde(rename = "subvpsde")]
    SubVp(SubVp),
    /// Variance exploding.
    #[serde(rename = "vesde")]
    Ve(Ve),
}

impl FromStr for Process {
    type Err = Error;

    /// The kind of this name (`vpsde`, `subvpsde`, `vesde`) with the default parameters.
    fn from_str(name: &str) -> Result<Self> {
        match name {
            "vpsde" => Ok(Self::Vp(Vp::default())),
            "subvpsde" => Ok(Self::SubVp(SubVp::default())),
            "vesde" => Ok(Self::Ve(Ve::default())),
            _ => Err(Error::Unknown {
                what: "sde",
                name: name.into(),
                known: "vpsde, subvpsde, vesde",
            }),
        }
    }
}

impl Process {
    /// The same process discretised into `n` scales.
    #[must_use]
    pub fn with_scales(mut self, n: usize) -> Self {
        match &mut self {
            Self::Vp(s) => s.num_scales = n,
            Self::SubVp(s) => s.num_scales = n,
            Self::Ve(s) => s.num_scales = n,
        }
        self
    }

    fn kind(&self) -> &dyn Sde {
        match self {
            Self::Vp(s) => s,
            Self::SubVp(s) => s,
            Self::Ve(s) => s,
        }
    }
}

impl Sde for Process {
    fn name(&self) -> &'static str {
        self.kind().name()
    }
    fn check(&self) -> Result<()> {
        self.kind().check()
    }
    fn end(&self) -> f64 {
        self.kind().end()
    }
    fn scales(&self) -> usize {
        self.kind().scales()
    }
    fn drift(&self, t: f64) -> f64 {
        self.kind().drift(t)
    }
    fn diffusion(&self, t: f64) -> f64 {
        self.kind().diffusion(t)
    }
    fn marginal(&self, t: f64) -> Marginal {
        self.kind().marginal(t)
    }
    fn time(&self, sigma: f64) -> f64 {
        self.kind().time(sigma)
    }
    fn discretize(&self, t: f64) -> Step {
        self.kind().discretize(t)
    }
    fn ancestral(&self, t: f64) -> Option<Ancestral> {
        self.kind().ancestral(t)
    }
    fn langevin_alpha(&self, t: f64) -> f64 {
        self.kind().langevin_alpha(t)
    }
    fn query(&self, t: f64, labels: Labels) -> Query {
        self.kind().query(t, labels)
    }
    fn prior_std(&self) -> f64 {
        self.kind().prior_std()
    }
}
