//! Autoguidance: a band's network led away from a worse one (Karras et al. 2024, "Guiding a diffusion model with a bad version
//! of itself", arXiv 2406.02507).

use candle_core::{Result, Tensor};
use nn_ops::precision;
use score_sde::UNet;

/// A worse network of the same band: one of an earlier point of its training, say, or a smaller one.
#[derive(Debug, Clone)]
pub struct Guide {
    /// The worse network. Its preconditioning must be the better one's.
    pub net: UNet,
    /// What the difference of the better from the worse one is multiplied by: 1 is no guidance, 2 goes as far again.
    pub weight: f64,
}

/// What a network, guided or not, returns for its scaled input (N, C, H, W) at `times` (N): D_w = D + (w - 1) (D - D_worse),
/// equation 3 of the paper. It holds for the outputs as for what they mean, both networks being scaled alike.
pub(crate) fn output(
    net: &UNet,
    guide: Option<&Guide>,
    input: &Tensor,
    times: &Tensor,
) -> Result<Tensor> {
    let of = |net: &UNet| precision::computed(input, |x| net.forward(x, times, None, None));
    let better = of(net)?;
    match guide {
        None => Ok(better),
        Some(guide) => &better + ((&better - of(&guide.net)?)? * (guide.weight - 1.0))?,
    }
}
