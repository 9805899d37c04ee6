//! What a network predicts, and the way from one kind of prediction to another.
//!
//! With x = alpha clean + sigma eps, every kind is linear in x and the clean picture, so going from one to another takes
//! two numbers, an [`Affine`] map. Nothing here assumes alpha^2 + sigma^2 = 1 or alpha + sigma = 1.

use crate::error::{Error, Result};
use candle_core::Tensor;
use serde::{Deserialize, Serialize};

/// What a network predicts at a noise level.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Prediction {
    /// The noise eps (Ho et al. 2020, arXiv 2006.11239).
    #[default]
    Epsilon,
    /// The clean picture x_0.
    Sample,
    /// v = alpha eps - sigma x_0 (Salimans and Ho 2022, arXiv 2202.00512, appendix D).
    V,
    /// The score, grad log p(x) = -eps / sigma (Song et al. 2021, arXiv 2011.13456).
    Score,
    /// The velocity of a rectified flow, eps - x_0 (Liu et al. 2023, arXiv 2209.03003).
    Flow,
}

/// x * `x` + y * `y`: a linear map of a noisy picture and another quantity.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Affine {
    /// Factor of the noisy picture.
    pub x: f64,
    /// Factor of the other quantity.
    pub y: f64,
}

impl Affine {
    /// The map of tensors of one shape.
    ///
    /// # Errors
    /// Shapes that differ.
    pub fn apply(self, x: &Tensor, y: &Tensor) -> candle_core::Result<Tensor> {
        match (self.x, self.y) {
            (0.0, 1.0) => Ok(y.clone()),
            (0.0, b) => y * b,
            (a, b) => (x * a)? + (y * b)?,
        }
    }
}

impl Prediction {
    /// All kinds' names, as [`std::str::FromStr`] takes them.
    pub const NAMES: &'static str = "epsilon, sample, v, score, flow";

    /// x_0 from the noisy picture and this prediction.
    ///
    /// # Errors
    /// A level at which the prediction does not determine x_0, such as epsilon where alpha is 0.
    pub fn to_clean(self, alpha: f64, sigma: f64) -> Result<Affine> {
        let (a, s) = (alpha, sigma);
        let square = a * a + s * s;
        match self {
            Self::Epsilon if a != 0.0 => Ok((1.0 / a, -s / a)),
            Self::Sample => Ok((0.0, 1.0)),
            Self::V if square != 0.0 => Ok((a / square, -s / square)),
            Self::Score if a != 0.0 => Ok((1.0 / a, s * s / a)),
            Self::Flow if a + s != 0.0 => Ok((1.0 / (a + s), -s / (a + s))),
            _ => self.refuse("Prediction::to_clean", a, s, "alpha not 0"),
        }
        .and_then(|(x, y)| self.finite("Prediction::to_clean", alpha, sigma, Affine { x, y }))
    }

    /// This prediction from the noisy picture and x_0.
    ///
    /// # Errors
    /// `sigma` 0, where nothing but x_0 is determined.
    pub fn from_clean(self, alpha: f64, sigma: f64) -> Result<Affine> {
        let (a, s) = (alpha, sigma);
        match self {
            Self::Sample => Ok((0.0, 1.0)),
            _ if s == 0.0 => self.refuse("Prediction::from_clean", a, s, "sigma not 0"),
            Self::Epsilon => Ok((1.0 / s, -a / s)),
            Self::V => Ok((a / s, -(a * a + s * s) / s)),
            Self::Score => Ok((-1.0 / (s * s), a / (s * s))),
            Self::Flow => Ok((1.0 / s, -(a + s) / s)),
        }
        .and_then(|(x, y)| self.finite("Prediction::from_clean", alpha, sigma, Affine { x, y }))
    }

    /// `other` from the noisy picture and this prediction.
    ///
    /// # Errors
    /// As [`Prediction::to_clean`] and [`Prediction::from_clean`]; none if the two are the same.
    pub fn to(self, other: Self, alpha: f64, sigma: f64) -> Result<Affine> {
        if self == other {
            return Ok(Affine { x: 0.0, y: 1.0 });
        }
        let (inner, outer) = (
            self.to_clean(alpha, sigma)?,
            other.from_clean(alpha, sigma)?,
        );
        Ok(Affine {
            x: outer.x + outer.y * inner.x,
            y: outer.y * inner.y,
        })
    }

    fn finite(self, op: &'static str, alpha: f64, sigma: f64, map: Affine) -> Result<Affine> {
        match map.x.is_finite() && map.y.is_finite() {
            true => Ok(map),
            false => self.refuse(op, alpha, sigma, "of finite factors"),
        }
    }

    fn refuse<T>(self, op: &'static str, a: f64, s: f64, need: &'static str) -> Result<T> {
        Err(Error::Argument {
            op,
            name: "the noise level",
            value: format!("alpha {a}, sigma {s} for {self:?}"),
            need,
        })
    }
}

impl std::str::FromStr for Prediction {
    type Err = Error;
    fn from_str(name: &str) -> Result<Self> {
        match name {
            "epsilon" => Ok(Self::Epsilon),
            "sample" => Ok(Self::Sample),
            "v" | "v_prediction" => Ok(Self::V),
            "score" => Ok(Self::Score),
            "flow" | "flow_prediction" => Ok(Self::Flow),
            _ => Err(Error::Unknown {
                what: "prediction",
                name: name.into(),
                known: Self::NAMES,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Prediction::{Epsilon, Flow, Sample, Score, V};

    #[test]
    fn every_kind_leads_to_every_other() {
        let (clean, eps) = (0.7, -1.3);
        // Variance preserving, exploding, a flow and none of these.
        for (a, s) in [(0.6, 0.8), (1.0, 5.0), (0.25, 0.75), (0.9, 2.0)] {
            let x = a * clean + s * eps;
            let of = |kind| match kind {
                Epsilon => eps,
                Sample => clean,
                V => a * eps - s * clean,
                Score => -eps / s,
                Flow => eps - clean,
            };
            for from in [Epsilon, Sample, V, Score, Flow] {
                for to in [Epsilon, Sample, V, Score, Flow] {
                    let map = from.to(to, a, s).unwrap();
                    let got = map.x * x + map.y * of(from);
                    assert!((got - of(to)).abs() < 1e-12, "{from:?} to {to:?}: {got}");
                }
            }
        }
    }

    #[test]
    fn tensors_as_numbers() {
        let device = candle_core::Device::Cpu;
        let (x, y) = (
            Tensor::new(&[2f64], &device).unwrap(),
            Tensor::new(&[3f64], &device).unwrap(),
        );
        let got = |a, b| {
            Affine { x: a, y: b }
                .apply(&x, &y)
                .unwrap()
                .to_vec1::<f64>()
                .unwrap()[0]
        };
        assert_eq!(
            [got(0.0, 1.0), got(0.0, 2.0), got(-1.0, 2.0)],
            [3.0, 6.0, 4.0]
        );
    }

    #[test]
    fn levels_without_an_answer_are_errors() {
        let e = Epsilon.to_clean(0.0, 1.0).unwrap_err().to_string();
        assert!(e.contains("alpha 0, sigma 1 for Epsilon"), "{e}");
        assert!(V.to_clean(0.0, 1.0).is_ok() && V.to_clean(0.0, 0.0).is_err());
        assert!(Sample.to(Epsilon, 1.0, 0.0).is_err() && Sample.to(Sample, 1.0, 0.0).is_ok());
        let e = "noise".parse::<Prediction>().unwrap_err().to_string();
        assert!(e.contains("\"noise\"") && e.contains("flow"), "{e}");
    }
}
