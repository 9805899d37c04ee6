//! The activations that score_sde's and diffusers' configurations can name.

use candle_core::{Result, Tensor};
use nn_ops::plan::opaque;
use nn_ops::{Activation, GroupNorm, leaky_relu, silu};
use serde::{Deserialize, Serialize};

/// What follows the normalisations, and acts on the embedding of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Nonlinearity {
    /// x sigmoid(x), "swish" or "silu".
    #[default]
    #[serde(alias = "silu")]
    Swish,
    /// max(x, 0).
    Relu,
    /// x where positive, else 0.2 x.
    Lrelu,
    /// x where positive, else exp(x) - 1.
    Elu,
    /// x Phi(x), Phi the normal distribution's.
    Gelu,
    /// x tanh(log(1 + exp(x))).
    Mish,
}

impl Nonlinearity {
    pub(crate) fn apply(self, x: &Tensor) -> Result<Tensor> {
        match self {
            Self::Swish => silu(x),
            Self::Relu => leaky_relu(x, 0.0),
            Self::Lrelu => leaky_relu(x, 0.2),
            Self::Elu => opaque(&[x], |x| x[0].elu(1.0)),
            Self::Gelu => opaque(&[x], |x| x[0].gelu_erf()),
            Self::Mish => opaque(&[x], |x| {
                // tanh(log(1 + w)) is n / (n + 2) with n = w (w + 2), w = exp(x); above 20 it is 1 in every type.
                let w = x[0].minimum(20.0)?.exp()?;
                let n = (&w * (&w + 2.0)?)?;
                &x[0] * (&n / (&n + 2.0)?)?
            }),
        }
    }

    /// After a normalisation, in one operator where there is one.
    pub(crate) fn after(self, norm: &GroupNorm, x: &Tensor) -> Result<Tensor> {
        match self {
            Self::Swish => norm.forward_act(x, Activation::Silu),
            other => other.apply(&norm.forward_act(x, Activation::None)?),
        }
    }

    /// After a normalisation that `scale` and `shift` (N, C) modulate.
    pub(crate) fn after_modulated(
        self,
        norm: &GroupNorm,
        x: &Tensor,
        scale: &Tensor,
        shift: &Tensor,
    ) -> Result<Tensor> {
        match self {
            Self::Swish => norm.forward_modulated(x, scale, shift, Activation::Silu),
            other => other.apply(&norm.forward_modulated(x, scale, shift, Activation::None)?),
        }
    }
}
