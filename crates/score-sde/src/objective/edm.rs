//! The loss of EDM.

use super::{Objective, Reduction, check};
use crate::diffusion::Model;
use crate::edm::{Edm, Scaling};
use crate::error::{Error, Result, same_shape};
use crate::pictures::scale;
use candle_core::Tensor;

impl Objective for Edm {
    /// A noise level sigma, see [`LogNormalSigmas`](super::LogNormalSigmas).
    type Time = f64;

    /// lambda(sigma) |D(x_0 + sigma noise; sigma) - x_0|^2, the mean of a picture (Karras et al. 2022, eq. 8), with D made of
    /// `network` by [`Edm::scaling`]: since lambda = 1 / c_out^2, it is the unweighted error of the network itself. What
    /// [`Edm::example`] prepares in place, for tensors.
    fn losses(&self, network: Model, x0: &Tensor, sigma: &[f64], noise: &Tensor) -> Result<Tensor> {
        const OP: &str = "Edm::losses";
        self.check()?;
        check(OP, x0, sigma.len(), noise)?;
        if let Some(s) = sigma.iter().find(|s| !(**s > 0.0 && s.is_finite())) {
            return Err(Error::Argument {
                op: OP,
                name: "sigma",
                value: s.to_string(),
                need: "above 0 and finite",
            });
        }
        let by = |x: &Tensor, g: &dyn Fn(&Scaling) -> f64| scale(x, sigma, |s| g(&self.scaling(s)));
        let noisy = (x0 + scale(noise, sigma, |s| s)?)?;
        let labels: Vec<f32> = sigma
            .iter()
            .map(|&s| self.scaling(s).noise as f32)
            .collect();
        let input = by(&noisy, &|c| c.input)?;
        let output = network(&input, &Tensor::new(labels, x0.device())?)?;
        same_shape(OP, "the network's output", &output, x0)?;
        let rest = (x0 - by(&noisy, &|c| c.skip)?)?;
        let target = by(&rest, &|c| 1.0 / c.out)?;
        Reduction::Mean.of(&(output - target)?.sqr()?)
    }
}
