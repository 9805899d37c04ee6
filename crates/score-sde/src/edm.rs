//! The design of Karras et al. 2022, "Elucidating the design space of diffusion-based generative models" (EDM,
//! arXiv 2206.00364): preconditioning, noise levels and training objective, sigma being the noise's standard deviation.

use crate::error::ensure;
use candle_core::{Result, Tensor};
use serde::{Deserialize, Serialize};

/// Constants of preconditioning and training.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Edm {
    /// Standard deviation of the data.
    pub sigma_data: f64,
    /// Mean of ln sigma in training.
    pub p_mean: f64,
    /// Standard deviation of ln sigma in training.
    pub p_std: f64,
    /// Smallest noise level of sampling.
    pub sigma_min: f64,
    /// Largest noise level of sampling.
    pub sigma_max: f64,
    /// Exponent of the sampling grid; larger puts more steps at low noise.
    pub rho: f64,
}

impl Default for Edm {
    /// Data of unit variance; the paper's grid.
    fn default() -> Self {
        Self {
            sigma_data: 1.0,
            p_mean: -0.6,
            p_std: 1.2,
            sigma_min: 0.002,
            sigma_max: 80.0,
            rho: 7.0,
        }
    }
}

/// The four factors of D(x; sigma) = skip * x + out * F(in * x; noise) at one noise level (Table 1 of the paper).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scaling {
    /// c_skip.
    pub skip: f64,
    /// c_out.
    pub out: f64,
    /// c_in.
    pub input: f64,
    /// c_noise = ln(sigma) / 4.
    pub noise: f64,
}

impl Edm {
    /// Errs unless the constants make sense; what can fail here asks first.
    ///
    /// # Errors
    /// The first constant out of its range.
    pub fn check(&self) -> crate::error::Result<()> {
        let positive = |v: f64| v > 0.0 && v.is_finite();
        for (name, value, good, need) in [
            (
                "sigma_data",
                self.sigma_data,
                positive(self.sigma_data),
                "finite and above 0",
            ),
            ("p_mean", self.p_mean, self.p_mean.is_finite(), "finite"),
            (
                "p_std",
                self.p_std,
                self.p_std >= 0.0 && self.p_std.is_finite(),
                "finite and not below 0",
            ),
            (
                "sigma_min",
                self.sigma_min,
                positive(self.sigma_min),
                "finite and above 0",
            ),
            (
                "sigma_max",
                self.sigma_max,
                self.sigma_max >= self.sigma_min && positive(self.sigma_max),
                "finite and not below sigma_min",
            ),
            ("rho", self.rho, positive(self.rho), "finite and above 0"),
        ] {
            ensure(good, "Edm", name, value, need)?;
        }
        Ok(())
    }

    /// The factors at `sigma` > 0.
    pub fn scaling(&self, sigma: f64) -> Scaling {
        let (s2, d2) = (sigma * sigma, self.sigma_data * self.sigma_data);
        let total = (s2 + d2).sqrt();
        Scaling {
            skip: d2 / (s2 + d2),
            out: sigma * self.sigma_data / total,
            input: 1.0 / total,
            noise: sigma.ln() / 4.0,
        }
    }

    /// The noise level of a standard normal value: ln sigma ~ N(p_mean, p_std^2).
    pub fn training_sigma(&self, normal: f64) -> f64 {
        (self.p_mean + self.p_std * normal).exp()
    }

    /// `steps` noise levels from `sigma_max` to `sigma_min`, then 0 (equation 5): steps + 1 values.
    pub fn sigmas(&self, steps: usize) -> Vec<f64> {
        let mut grid = crate::grid::karras(steps, self.sigma_max, self.sigma_min, self.rho);
        grid.push(0.0);
        grid
    }

    /// The denoised picture from a network `f(input, c_noise)`: x (N, ...) at one noise level for all.
    ///
    /// # Errors
    /// Those of [`Edm::check`] and of the network.
    pub fn denoise(
        &self,
        x: &Tensor,
        sigma: f64,
        f: impl FnOnce(&Tensor, f64) -> Result<Tensor>,
    ) -> Result<Tensor> {
        self.check()?;
        let c = self.scaling(sigma);
        let y = f(&(x * c.input)?, c.noise)?;
        (x * c.skip)? + (y * c.out)?
    }

    /// One training example in place: `x` holds clean data and becomes the network's input at `sigma` (the noise
    /// given), `target` what the network should return. The squared error between the two, unweighted, is the
    /// paper's loss: its weight lambda(sigma) is 1 / c_out^2.
    ///
    /// # Errors
    /// Slices of unequal length.
    pub fn example(
        &self,
        sigma: f64,
        noise: &[f32],
        x: &mut [f32],
        target: &mut [f32],
    ) -> crate::error::Result<()> {
        let lengths = [noise.len(), x.len(), target.len()];
        let equal = lengths == [x.len(); 3];
        let need = "three equal numbers: noise, x and target";
        ensure(
            equal,
            "Edm::example",
            "lengths",
            format!("{lengths:?}"),
            need,
        )?;
        let c = self.scaling(sigma);
        for ((x, t), n) in x.iter_mut().zip(target).zip(noise) {
            let clean = *x as f64;
            let noisy = clean + sigma * *n as f64;
            *t = ((clean - c.skip * noisy) / c.out) as f32;
            *x = (c.input * noisy) as f32;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_grid_runs_from_max_to_min_to_zero() {
        let edm = Edm::default();
        let s = edm.sigmas(18);
        assert_eq!(s.len(), 19);
        assert!((s[0] - 80.0).abs() < 1e-9 && (s[17] - 0.002).abs() < 1e-12 && s[18] == 0.0);
        assert!(s.windows(2).all(|w| w[0] > w[1]));
        assert_eq!(edm.sigmas(1).len(), 2);
    }

    #[test]
    fn a_perfect_network_denoises_perfectly() {
        let edm = Edm {
            sigma_data: 0.5,
            ..Edm::default()
        };
        let clean = [0.3f32, -0.8, 1.1];
        let noise = [0.5f32, -1.5, 0.2];
        for sigma in [0.01, 0.5, 10.0] {
            let (mut x, mut t) = (clean, [0f32; 3]);
            edm.example(sigma, &noise, &mut x, &mut t).unwrap();
            let device = candle_core::Device::Cpu;
            let noisy: Vec<f32> = clean
                .iter()
                .zip(noise)
                .map(|(c, n)| c + sigma as f32 * n)
                .collect();
            let noisy = Tensor::new(noisy, &device).unwrap();
            let got = edm
                .denoise(&noisy, sigma, |input, _| {
                    let input: Vec<f32> = input.to_vec1()?;
                    input
                        .iter()
                        .zip(x)
                        .for_each(|(a, b)| assert!((a - b).abs() < 1e-5));
                    Tensor::new(&t, &device)
                })
                .unwrap();
            for (g, c) in got.to_vec1::<f32>().unwrap().iter().zip(clean) {
                assert!((g - c).abs() < 1e-5, "sigma {sigma}: {g} instead of {c}");
            }
        }
    }

    #[test]
    fn bad_constants_and_slices_are_named() {
        let of = Edm::default;
        for (bad, words) in [
            (
                Edm {
                    sigma_data: 0.0,
                    ..of()
                },
                "sigma_data is 0",
            ),
            (
                Edm {
                    sigma_max: 0.001,
                    ..of()
                },
                "sigma_max is 0.001",
            ),
            (
                Edm {
                    p_mean: f64::NAN,
                    ..of()
                },
                "p_mean is NaN",
            ),
            (Edm { rho: -7.0, ..of() }, "rho is -7"),
        ] {
            assert!(bad.check().unwrap_err().to_string().contains(words));
        }
        let e = of().example(1.0, &[0.0; 2], &mut [0.0; 3], &mut [0.0; 3]);
        assert!(e.unwrap_err().to_string().contains("[2, 3, 3]"));
    }
}
