//! The law that the discretised reverse process makes, mode by mode.

use super::{Mode, Spectrum, f};

/// What the reverse process makes of one mode.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Outcome {
    /// The variance v of its result; the data's is l.
    pub variance: f64,
    /// The mean of its result over the mean of the data.
    pub mean_ratio: f64,
}

impl Outcome {
    /// KL of the data N(m, l) from the result N(ratio m, v), per direction, averaged over m:
    /// (f(l / v - 1) + E\[m^2\] (1 - ratio)^2 / v) / 2.
    pub fn kl(&self, mode: &Mode) -> f64 {
        let v = self.variance;
        let missed = 1.0 - self.mean_ratio;
        let kl = 0.5 * (f((mode.variance - v) / v) + mode.mean_square * missed * missed / v);
        // Steps far above 1 can blow the variance up beyond f64.
        if kl.is_nan() { f64::INFINITY } else { kl }
    }
}

/// Where the reverse process starts.
#[derive(Clone, Copy, PartialEq)]
enum Start {
    /// From N(0, 1), as samplers do.
    White,
    /// From the exact law at time T.
    Exact,
}

/// The outcome of every mode after `steps` uniform Euler-Maruyama steps from N(0, 1) at `horizon` to 0, the score
/// taken at each step's start. With 0 steps it is N(0, 1) itself.
pub fn outcome(spectrum: &Spectrum, horizon: f64, steps: usize) -> Vec<Outcome> {
    run(spectrum, horizon, steps, Start::White)
}

fn run(spectrum: &Spectrum, horizon: f64, steps: usize, start: Start) -> Vec<Outcome> {
    let modes = spectrum.modes();
    let delta = horizon / steps as f64;
    // s(t) = 1 + (l - 1) e^(-2t) is the variance at time t, e^(-t) the factor of the mean.
    let excess: Vec<f64> = modes.iter().map(|m| m.variance - 1.0).collect();
    let last = (-horizon).exp();
    let begin = |e: f64| match start {
        Start::White => (1.0, 0.0),
        Start::Exact => (1.0 + e * last * last, last),
    };
    let mut state: Vec<(f64, f64)> = excess.iter().map(|&e| begin(e)).collect();
    for k in 0..steps {
        let decay = (-(horizon - k as f64 * delta)).exp();
        for ((v, m), e) in state.iter_mut().zip(&excess) {
            let pull = 2.0 * delta / (1.0 + e * decay * decay);
            let keep = 1.0 + delta - pull;
            *v = *v * keep * keep + 2.0 * delta;
            *m = *m * keep + pull * decay;
        }
    }
    let made = |(variance, mean_ratio)| Outcome {
        variance,
        mean_ratio,
    };
    state.into_iter().map(made).collect()
}

/// The divergence KL(p | p~) in nats of the data's law p from that of the reverse process's result: `steps` Euler-Maruyama
/// steps from `horizon`. Infinite where steps are so large that the result leaves f64.
pub fn kl(spectrum: &Spectrum, horizon: f64, steps: usize) -> f64 {
    total(spectrum, &outcome(spectrum, horizon, steps))
}

/// What the steps alone cost: as [`kl`], but started from the exact law at `horizon`.
pub fn step_kl(spectrum: &Spectrum, horizon: f64, steps: usize) -> f64 {
    total(spectrum, &run(spectrum, horizon, steps, Start::Exact))
}

/// What starting from N(0, 1) costs: the divergence with infinitely many steps from `horizon`.
///
/// The reverse process then scales a difference from the exact law by l e^(-T) / s(T), so that
/// v = l (1 - l (l - 1) e^(-4T) / s(T)^2).
pub fn horizon_kl(spectrum: &Spectrum, horizon: f64) -> f64 {
    let decay = (-horizon).exp();
    let outcome = |m: &Mode| {
        let l = m.variance;
        let contraction = l * decay / (1.0 + (l - 1.0) * decay * decay);
        Outcome {
            variance: l - contraction * contraction * (l - 1.0) * decay * decay,
            mean_ratio: 1.0 - contraction * decay,
        }
    };
    let outcomes: Vec<Outcome> = spectrum.modes().iter().map(outcome).collect();
    total(spectrum, &outcomes)
}

fn total(spectrum: &Spectrum, outcomes: &[Outcome]) -> f64 {
    let modes = spectrum.modes().iter();
    modes.zip(outcomes).map(|(m, o)| m.count * o.kl(m)).sum()
}
