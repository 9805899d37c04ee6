//! Squared errors of what a network predicts, and their weights.

use super::{Objective, Reduction, check, weigh};
use crate::diffusion::{GaussianDiffusion, LossType, MeanType, Model, VarType};
use crate::error::{Error, Result, same_shape};
use crate::pictures::per_picture;
use crate::prediction::Prediction;
use crate::sde::{Labels, Marginal, Sde, Ve, Vp};
use candle_core::Tensor;

/// A forward process as training sees it: x_t = signal x_0 + std noise, and a label for the network.
pub trait Forward {
    /// A continuous time or the number of a step.
    type Time: Copy;

    /// The distribution of x_t given x_0.
    ///
    /// # Errors
    /// A time outside the process.
    fn perturbation(&self, t: Self::Time) -> Result<Marginal>;

    /// What the network is shown.
    fn label(&self, t: Self::Time) -> f64;

    /// Errs unless the parameters make sense.
    ///
    /// # Errors
    /// The first parameter out of its range.
    fn check_process(&self) -> Result<()> {
        Ok(())
    }
}

fn refuse<T>(op: &'static str, value: String, need: &'static str) -> Result<T> {
    Err(Error::Argument {
        op,
        name: "t",
        value,
        need,
    })
}

impl<S: Sde> Forward for S {
    type Time = f64;

    fn perturbation(&self, t: f64) -> Result<Marginal> {
        if !(t >= 0.0 && t <= self.end()) {
            return refuse("Forward", t.to_string(), "in 0 to the end of the process");
        }
        Ok(Sde::marginal(self, t))
    }

    /// That of continuous time.
    fn label(&self, t: f64) -> f64 {
        self.query(t, Labels::Continuous).label
    }

    fn check_process(&self) -> Result<()> {
        Sde::check(self)
    }
}

impl Forward for GaussianDiffusion {
    type Time = usize;

    fn perturbation(&self, t: usize) -> Result<Marginal> {
        match self.coefficients().alphas_cumprod.get(t) {
            None => refuse("Forward", t.to_string(), "below the number of steps"),
            Some(bar) => Ok(Marginal {
                signal: bar.sqrt(),
                std: (1.0 - bar).sqrt(),
            }),
        }
    }

    fn label(&self, t: usize) -> f64 {
        self.model_time(t as f64)
    }
}

/// The noise levels of SMLD (NCSN): those of [`Ve`], numbered with the largest first as the network sees them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct NoiseLevels(pub Ve);

impl Forward for NoiseLevels {
    type Time = usize;

    fn perturbation(&self, t: usize) -> Result<Marginal> {
        match self.0.num_scales.checked_sub(t + 1) {
            None => refuse("NoiseLevels", t.to_string(), "below the number of scales"),
            Some(i) => Ok(Marginal {
                signal: 1.0,
                std: self.0.discrete_sigma(i),
            }),
        }
    }

    fn label(&self, t: usize) -> f64 {
        t as f64
    }

    fn check_process(&self) -> Result<()> {
        self.0.check()
    }
}

/// The weight of a time by its signal-to-noise ratio SNR = signal^2 / std^2.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum Weight {
    /// 1 for the error of whatever is predicted.
    #[default]
    One,
    /// min(SNR, gamma) for the error of x_0, and what amounts to the same for the others: min(SNR, gamma) / SNR for noise,
    /// min(SNR, gamma) / (SNR + 1) for v (Hang et al. 2023, "Efficient diffusion training via min-SNR weighting strategy",
    /// arXiv 2303.09556; they take gamma = 5).
    MinSnr {
        /// The largest weight, above 0.
        gamma: f64,
    },
    /// 1 / (k + SNR)^gamma for the error of the noise, and what amounts to the same for the others (Choi et al. 2022,
    /// "Perception prioritized training of diffusion models", arXiv 2204.00227; they take k = 1, gamma 0.5 or 1).
    P2 {
        /// Where it begins to fall, above 0.
        k: f64,
        /// How fast, from 0.
        gamma: f64,
    },
}

impl Weight {
    /// The factor of the squared error of `target`, on a process that keeps the variance if that is V.
    pub fn of(&self, target: Prediction, snr: f64) -> f64 {
        // The error of the noise is SNR times that of x_0, that of v SNR + 1 times.
        let per_x0 = match target {
            Prediction::Epsilon | Prediction::Score => snr,
            Prediction::Sample => 1.0,
            Prediction::V => snr + 1.0,
            Prediction::Flow => (snr.sqrt() + 1.0).powi(2),
        };
        match *self {
            Self::One => 1.0,
            // Without signal noise and score weigh what they do next to it: the limit of 0 / 0.
            Self::MinSnr { .. } if per_x0 == 0.0 => 1.0,
            Self::P2 { k, gamma } if per_x0 == 0.0 => k.powf(-gamma),
            Self::MinSnr { gamma } => snr.min(gamma) / per_x0,
            Self::P2 { k, gamma } => snr / per_x0 / (k + snr).powf(gamma),
        }
    }

    fn check(&self) -> Result<()> {
        let positive = |x: f64| x > 0.0 && x.is_finite();
        let good = match *self {
            Self::One => true,
            Self::MinSnr { gamma } => positive(gamma),
            Self::P2 { k, gamma } => positive(k) && gamma >= 0.0 && gamma.is_finite(),
        };
        if good {
            return Ok(());
        }
        Err(Error::Argument {
            op: "PredictionLoss",
            name: "weight",
            value: format!("{self:?}"),
            need: "of positive, finite numbers",
        })
    }
}

/// The weighted squared error of what a network predicts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PredictionLoss<F> {
    /// The forward process.
    pub forward: F,
    /// What is predicted. V is for processes with signal^2 + std^2 = 1; the error of the score is multiplied by std, so that
    /// it is that of the noise.
    pub target: Prediction,
    /// The weight of a time.
    pub weight: Weight,
    /// Mean or half sum of a picture.
    pub reduction: Reduction,
}

impl<F: Forward> PredictionLoss<F> {
    /// The mean squared error, unweighted.
    pub fn new(forward: F, target: Prediction) -> Self {
        Self {
            forward,
            target,
            weight: Weight::default(),
            reduction: Reduction::default(),
        }
    }
}

impl PredictionLoss<GaussianDiffusion> {
    /// score_sde's `get_ddpm_loss_fn`: the noise of the VP process's discrete chain. With the mean it is L_simple of Ho et al.
    /// 2020.
    ///
    /// # Errors
    /// Parameters that make no chain.
    pub fn ddpm(vp: &Vp, reduction: Reduction) -> Result<Self> {
        vp.check()?;
        let betas = (0..vp.num_scales).map(|i| vp.discrete_beta(i)).collect();
        let (mean, var) = (MeanType::Epsilon, VarType::FixedSmall);
        let chain = GaussianDiffusion::new(betas, mean, var, LossType::Mse)?;
        Ok(Self {
            reduction,
            ..Self::new(chain, Prediction::Epsilon)
        })
    }
}

impl PredictionLoss<NoiseLevels> {
    /// score_sde's `get_smld_loss_fn`: the score at the noise levels of the VE process, errors weighted by sigma^2 (Song and
    /// Ermon 2019).
    ///
    /// # Errors
    /// Parameters out of their range.
    pub fn smld(ve: &Ve, reduction: Reduction) -> Result<Self> {
        ve.check()?;
        Ok(Self {
            reduction,
            ..Self::new(NoiseLevels(*ve), Prediction::Score)
        })
    }
}

impl<F: Forward> Objective for PredictionLoss<F> {
    type Time = F::Time;

    fn losses(&self, network: Model, x0: &Tensor, t: &[F::Time], noise: &Tensor) -> Result<Tensor> {
        const OP: &str = "PredictionLoss";
        check(OP, x0, t.len(), noise)?;
        self.forward.check_process()?;
        self.weight.check()?;
        let at: Vec<Marginal> = t
            .iter()
            .map(|&t| self.forward.perturbation(t))
            .collect::<Result<_>>()?;
        let unit = |m: &Marginal| (m.signal.powi(2) + m.std.powi(2) - 1.0).abs() < 1e-6;
        if self.target == Prediction::V && !at.iter().all(unit) {
            return Err(Error::Argument {
                op: OP,
                name: "target",
                value: "V on a process that does not keep the variance".into(),
                need: "Epsilon, Sample, Score or Flow there",
            });
        }
        let weights: Vec<f64> = at
            .iter()
            .map(|m| self.weight.of(self.target, (m.signal / m.std).powi(2)))
            .collect();
        if let Some(m) = at.iter().zip(&weights).find(|(_, w)| !w.is_finite()) {
            let need = "of finite signal-to-noise ratio where it is weighted";
            return refuse(OP, format!("{m:?}"), need);
        }
        let factors =
            |g: fn(&Marginal) -> f64| per_picture(x0, &at.iter().map(g).collect::<Vec<_>>());
        let (signal, std) = (factors(|m| m.signal)?, factors(|m| m.std)?);
        let x_t = (x0.broadcast_mul(&signal)? + noise.broadcast_mul(&std)?)?;
        let labels: Vec<f32> = t.iter().map(|&t| self.forward.label(t) as f32).collect();
        let output = network(&x_t, &Tensor::new(labels, x0.device())?)?;
        same_shape(OP, "the network's output", &output, x0)?;
        let error = match self.target {
            Prediction::Epsilon => (output - noise)?,
            Prediction::Sample => (output - x0)?,
            Prediction::V => {
                let v = (noise.broadcast_mul(&signal)? - x0.broadcast_mul(&std)?)?;
                (output - v)?
            }
            Prediction::Score => (output.broadcast_mul(&std)? + noise)?,
            Prediction::Flow => (output - (noise - x0)?)?,
        };
        let losses = self.reduction.of(&error.sqr()?)?;
        if self.weight == Weight::One {
            return Ok(losses);
        }
        weigh(&losses, &weights)
    }
}
