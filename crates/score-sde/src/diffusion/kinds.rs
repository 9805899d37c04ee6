//! The choices a process is made of.

use crate::prediction::Prediction;

/// What the network predicts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MeanType {
    /// The noise in x_t.
    Epsilon,
    /// The clean x_0.
    XStart,
    /// v = sqrt(alpha_bar) noise - sqrt(1 - alpha_bar) x_0 (Salimans and Ho 2022, arXiv 2202.00512).
    V,
    /// The mean of x_{t-1}.
    PreviousX,
}

impl MeanType {
    /// What is predicted at a noise level; none for the mean of x_{t-1}, which belongs to a step.
    pub fn prediction(self) -> Option<Prediction> {
        match self {
            Self::Epsilon => Some(Prediction::Epsilon),
            Self::XStart => Some(Prediction::Sample),
            Self::V => Some(Prediction::V),
            Self::PreviousX => None,
        }
    }
}

/// Where the variance of a reverse step comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum VarType {
    /// The posterior's, exact for data in one point.
    FixedSmall,
    /// Beta, exact for normal data of variance 1 (the first step's is the posterior's of the second).
    FixedLarge,
    /// The network's second half of channels is its logarithm.
    Learned,
    /// The second half, in [-1, 1], goes from the logarithm of the small to that of the large one.
    LearnedRange,
}

impl VarType {
    /// Whether the network returns twice the picture's channels.
    pub fn is_learned(self) -> bool {
        matches!(self, Self::Learned | Self::LearnedRange)
    }
}

/// The variance of a reverse step to x_0, where the posterior's is 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum EndVariance {
    /// The posterior's of the step after it, for the variational bound; samplers add no noise there: improved-diffusion.
    #[default]
    Borrowed,
    /// The step's own, 1e-20 in place of the posterior's 0, and noise of it is added unless the step is the first of the
    /// whole process: diffusers, where it shows if the last step visited is another (offset or trailing steps, or a list).
    Own,
}

/// What training minimises.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LossType {
    /// Squared error, plus the bound for learned variances.
    Mse,
    /// The same with the bound times T / 1000: L_hybrid, for the sum of all T terms is the whole bound over 1000.
    RescaledMse,
    /// One term of the variational bound, in bits per dimension.
    Kl,
    /// The same times T: an estimate of the whole bound.
    RescaledKl,
}
