//! EDM's preconditioning for data whose channels differ in strength.

use crate::edm::{Edm, Scaling};
use crate::error::ensure;
use candle_core::{Result, Tensor};

/// [`Edm`] with one standard deviation of the data for all channels, `sigma_data`, or with one for each.
///
/// White noise hides weak channels long before strong ones. A skip connection scaled for all of them together lets noise through
/// in the weak ones; the factors of Table 1 of the paper, taken channel by channel, do not: where the noise is much stronger than
/// a channel, its denoised values are the network's alone, at that channel's scale. The diffusion is the same.
#[derive(Debug, Clone, PartialEq)]
pub struct Preconditioner {
    edm: Edm,
    /// None: `sigma_data`.
    channels: Vec<f64>,
}

impl From<Edm> for Preconditioner {
    /// `sigma_data` for all channels.
    fn from(edm: Edm) -> Self {
        Self {
            edm,
            channels: Vec::new(),
        }
    }
}

impl Preconditioner {
    /// With the deviation of each channel; `sigma_data` does not count.
    ///
    /// # Errors
    /// No channels; a deviation that is not finite and above 0; those of [`Edm::check`].
    pub fn by_channel(edm: Edm, channels: Vec<f64>) -> crate::error::Result<Self> {
        edm.check()?;
        const OP: &str = "Preconditioner";
        ensure(!channels.is_empty(), OP, "channels", 0, "at least one")?;
        for (i, v) in channels.iter().enumerate() {
            let (name, need) = ("a channel's deviation", "finite and above 0");
            let found = format!("{v} in channel {i}");
            ensure(*v > 0.0 && v.is_finite(), OP, name, found, need)?;
        }
        Ok(Self { edm, channels })
    }

    /// Noise levels and what else is the same for all channels.
    pub fn edm(&self) -> &Edm {
        &self.edm
    }

    /// The deviation of each channel; empty where `sigma_data` is that of all.
    pub fn channels(&self) -> &[f64] {
        &self.channels
    }

    fn of(&self, deviation: f64) -> Edm {
        Edm {
            sigma_data: deviation,
            ..self.edm
        }
    }

    /// The denoised picture from a network `f(input, c_noise)`: x (N, C, ...) at one noise level for all.
    ///
    /// # Errors
    /// Another number of channels; those of [`Edm::denoise`].
    pub fn denoise(
        &self,
        x: &Tensor,
        sigma: f64,
        f: impl FnOnce(&Tensor, f64) -> Result<Tensor>,
    ) -> Result<Tensor> {
        if self.channels.is_empty() {
            return self.edm.denoise(x, sigma, f);
        }
        let mut shape = vec![1; x.rank()];
        if let Some(c) = shape.get_mut(1) {
            *c = self.channels.len();
        }
        let scalings: Vec<Scaling> = self
            .channels
            .iter()
            .map(|d| self.of(*d).scaling(sigma))
            .collect();
        let factors = |of: fn(&Scaling) -> f64| {
            let values: Vec<f64> = scalings.iter().map(of).collect();
            Tensor::from_vec(values, &shape[..], x.device())?.to_dtype(x.dtype())
        };
        let y = f(&x.broadcast_mul(&factors(|s| s.input)?)?, scalings[0].noise)?;
        x.broadcast_mul(&factors(|s| s.skip)?)? + y.broadcast_mul(&factors(|s| s.out)?)?
    }

    /// One training example in place, channel after channel; see [`Edm::example`].
    ///
    /// # Errors
    /// Slices of unequal length, or one that is not so many channels.
    pub fn example(
        &self,
        sigma: f64,
        noise: &[f32],
        x: &mut [f32],
        target: &mut [f32],
    ) -> crate::error::Result<()> {
        if self.channels.is_empty() {
            return self.edm.example(sigma, noise, x, target);
        }
        let (len, channels) = (x.len(), self.channels.len());
        let fits = len.is_multiple_of(channels) && [noise.len(), target.len()] == [len; 2];
        let found = format!(
            "{:?} for {channels} channels",
            [noise.len(), len, target.len()]
        );
        let need = "three equal numbers, a multiple of the channels: noise, x and target";
        ensure(fits, "Preconditioner::example", "lengths", found, need)?;
        let plane = (len / channels).max(1);
        let planes = noise
            .chunks(plane)
            .zip(x.chunks_mut(plane))
            .zip(target.chunks_mut(plane));
        for (((noise, x), target), deviation) in planes.zip(&self.channels) {
            self.of(*deviation).example(sigma, noise, x, target)?;
        }
        Ok(())
    }

    /// What the squared errors of each channel's outputs count for in the loss, 1 on average: `c_out`. Equal weights would
    /// have the network work on what noise hides in the many weak channels, squares of `c_out`, the errors of the pictures
    /// themselves, on the few strong ones alone.
    pub fn weights(&self, sigma: f64) -> Vec<f64> {
        let outs: Vec<f64> = self
            .channels
            .iter()
            .map(|d| self.of(*d).scaling(sigma).out)
            .collect();
        let mean = outs.iter().sum::<f64>() / outs.len().max(1) as f64;
        outs.iter().map(|out| out / mean).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    #[test]
    fn equal_deviations_are_sigma_data() {
        let edm = Edm {
            sigma_data: 0.7,
            ..Edm::default()
        };
        let (one, each) = (
            Preconditioner::from(edm),
            Preconditioner::by_channel(Edm::default(), vec![0.7; 3]).unwrap(),
        );
        let x = Tensor::arange(0f32, 24.0, &Device::Cpu)
            .unwrap()
            .reshape((2, 3, 4))
            .unwrap();
        let f = |input: &Tensor, noise: f64| input.affine(0.5, noise);
        let (a, b) = (
            one.denoise(&x, 1.3, f).unwrap(),
            each.denoise(&x, 1.3, f).unwrap(),
        );
        let apart = (a - b).unwrap().abs().unwrap().max_all().unwrap();
        assert!(apart.to_scalar::<f32>().unwrap() < 1e-6);
        assert!(each.weights(1.3).iter().all(|w| (w - 1.0).abs() < 1e-12));
    }

    #[test]
    fn a_perfect_network_denoises_every_channel() {
        let p = Preconditioner::by_channel(Edm::default(), vec![8.0, 0.05]).unwrap();
        let (clean, noise) = ([3.0f32, -9.0, 0.04, -0.1], [0.5f32, -1.5, 0.2, 1.0]);
        for sigma in [0.01, 0.5, 10.0] {
            let (mut input, mut target) = (clean, [0f32; 4]);
            p.example(sigma, &noise, &mut input, &mut target).unwrap();
            let noisy: Vec<f32> = clean
                .iter()
                .zip(noise)
                .map(|(c, n)| c + sigma as f32 * n)
                .collect();
            let x = Tensor::from_vec(noisy, (1, 2, 2), &Device::Cpu).unwrap();
            let got = p.denoise(&x, sigma, |x, _| {
                let x: Vec<f32> = x.flatten_all()?.to_vec1()?;
                x.iter()
                    .zip(input)
                    .for_each(|(a, b)| assert!((a - b).abs() < 1e-5));
                Tensor::new(&target, &Device::Cpu)?.reshape((1, 2, 2))
            });
            let got: Vec<f32> = got.unwrap().flatten_all().unwrap().to_vec1().unwrap();
            let near = |(g, c): (&f32, f32)| (g - c).abs() < 1e-5 * c.abs().max(1.0);
            assert!(got.iter().zip(clean).all(near), "{sigma}: {got:?}");
        }
        // Much noise: of the weak channel nothing goes through.
        assert!(p.of(0.05).scaling(5.0).skip < 1e-3);
        let weights = p.weights(5.0);
        assert!(weights[0] > 50.0 * weights[1] && (weights[0] + weights[1] - 2.0).abs() < 1e-12);
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let of = |channels| Preconditioner::by_channel(Edm::default(), channels);
        assert!(
            of(vec![])
                .unwrap_err()
                .to_string()
                .contains("channels is 0")
        );
        let error = of(vec![1.0, f64::NAN]).unwrap_err().to_string();
        assert!(error.contains("NaN in channel 1"), "{error}");
        let p = of(vec![1.0; 2]).unwrap();
        let error = p
            .example(1.0, &[0.0; 3], &mut [0.0; 3], &mut [0.0; 3])
            .unwrap_err();
        assert!(
            error.to_string().contains("[3, 3, 3] for 2 channels"),
            "{error}"
        );
        let x = Tensor::zeros((1, 3, 2), candle_core::DType::F32, &Device::Cpu).unwrap();
        assert!(p.denoise(&x, 1.0, |x, _| Ok(x.clone())).is_err());
    }
}
