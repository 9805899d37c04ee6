//! A grid by diffusers' options.

use super::{NoiseTable, Points, TimestepSpacing, exponential, flow, karras, timesteps};
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};

/// Where the noise levels come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SigmaSpacing {
    /// Those of spaced steps.
    #[default]
    Timesteps,
    /// [`karras`] between the ends of the process (of the spaced steps with [`Points::Fractional`]).
    Karras,
    /// [`exponential`] between the same ends, evenly spaced in log-SNR: `use_exponential_sigmas`, `use_lu_lambdas`.
    Exponential,
    /// [`flow`] from 1 - 1 / T towards 0, of a process with T steps: `use_flow_sigmas` of DPM-Solver.
    /// Sampling ends at 0.
    Flow,
    /// The same from 1 towards 1 / T: UniPC.
    FlowFromOne,
}

/// Where sampling ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FinalSigma {
    /// At sigma 0: the last step returns the denoiser's answer.
    #[default]
    Zero,
    /// At the level of step 0 of the process.
    SigmaMin,
}

/// What is done to times between the steps of the process before the network is shown them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TimeRounding {
    /// Nothing: diffusers' Euler and Heun.
    #[default]
    None,
    /// The nearest step, halves to even: its DPM-Solver, UniPC and DEIS with Karras' levels.
    Nearest,
    /// The step below: the same with exponential and flow levels, or a cosine schedule.
    Down,
}

/// Noise levels and what time the network is shown at each but the last.
#[derive(Debug, Clone, PartialEq)]
pub struct TimeGrid {
    /// n + 1 levels, the noisiest first; the last is where sampling ends.
    pub sigmas: Vec<f64>,
    /// n times.
    pub times: Vec<f64>,
}

impl TimeGrid {
    /// The time of a level of this grid; linear in ln sigma between two of them, the nearest's beyond them.
    pub fn time(&self, sigma: f64) -> f64 {
        let pairs = || self.sigmas.iter().zip(&self.times);
        if let Some((_, t)) = pairs().find(|(s, _)| **s == sigma) {
            return *t;
        }
        let above = pairs().take_while(|(s, _)| **s > sigma).count();
        let at = |i: usize| Some((*self.sigmas.get(i)?, *self.times.get(i)?));
        match (above.checked_sub(1).and_then(at), at(above)) {
            (Some((s, high)), Some((next, low))) => {
                low + (high - low) * (sigma.ln() - next.ln()) / (s.ln() - next.ln())
            }
            (Some((_, one)), None) | (None, Some((_, one))) => one,
            (None, None) => 0.0,
        }
    }
}

/// diffusers' options of `set_timesteps`. The defaults are those of its DPM-Solver; Euler and Heun have
/// [`Points::Fractional`], DDIM and DDPM [`Points::Whole`] with [`TimestepSpacing::Leading`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GridConfig {
    /// Steps of the sampler, at least 1.
    pub steps: usize,
    /// Where the levels come from.
    pub sigmas: SigmaSpacing,
    /// How steps are spread, where levels come from steps.
    pub spacing: TimestepSpacing,
    /// What a number of steps means.
    pub points: Points,
    /// Added to the steps of leading and quadratic spacing.
    pub steps_offset: usize,
    /// Where sampling ends.
    pub final_sigma: FinalSigma,
    /// What the network is shown between the steps of its process.
    pub rounding: TimeRounding,
    /// Exponent of Karras' grid.
    pub rho: f64,
    /// Shift of the flow grid.
    pub flow_shift: f64,
    /// Leaves out spaced steps with -ln sigma below this: -5.1 for cosine schedules (`lambda_min_clipped`).
    pub lambda_min: Option<f64>,
}

impl Default for GridConfig {
    fn default() -> Self {
        Self {
            steps: 20,
            sigmas: SigmaSpacing::Timesteps,
            spacing: TimestepSpacing::Linspace,
            points: Points::WithoutZero,
            steps_offset: 0,
            final_sigma: FinalSigma::Zero,
            rounding: TimeRounding::None,
            rho: 7.0,
            flow_shift: 1.0,
            lambda_min: None,
        }
    }
}

impl GridConfig {
    /// The grid on a process.
    ///
    /// # Errors
    /// No steps or too many, an offset past the process, a `rho` or shift that is not positive.
    pub fn build(&self, table: &NoiseTable) -> Result<TimeGrid> {
        for (name, value) in [("rho", self.rho), ("flow_shift", self.flow_shift)] {
            if !(value > 0.0 && value.is_finite()) {
                return Err(Error::Argument {
                    op: "GridConfig::build",
                    name,
                    value: value.to_string(),
                    need: "positive",
                });
            }
        }
        let is_flow = matches!(self.sigmas, SigmaSpacing::Flow | SigmaSpacing::FlowFromOne);
        if is_flow && self.final_sigma == FinalSigma::SigmaMin {
            return Err(Error::Argument {
                op: "GridConfig::build",
                name: "final_sigma",
                value: "sigma_min, a level of a process's betas".into(),
                need: "zero for a flow, which has none",
            });
        }
        let (train, n) = (table.sigmas().len(), self.steps);
        let kept = |s: &&f64| self.lambda_min.is_none_or(|least| -s.ln() >= least);
        let last = table.sigmas().iter().filter(kept).count();
        let spaced = timesteps(train, last, n, self.spacing, self.points, self.steps_offset)?;
        let of_steps: Vec<f64> = spaced.iter().map(|t| table.sigma_at(*t)).collect();
        let (low, high) = match (self.points, of_steps.first(), of_steps.last()) {
            (Points::Fractional, Some(high), Some(low)) => (*low, *high),
            _ => table.range(),
        };
        let with_times = |sigmas: Vec<f64>| {
            let times = sigmas.iter().map(|s| self.rounded(table.time_of(*s)));
            (times.collect(), sigmas)
        };
        let (times, mut sigmas): (Vec<f64>, Vec<f64>) = match self.sigmas {
            SigmaSpacing::Timesteps => (spaced, of_steps),
            SigmaSpacing::Karras => {
                let mut levels = karras(n, high, low, self.rho);
                // The ends are levels of the process, not numbers beside them.
                levels.last_mut().into_iter().for_each(|end| *end = low);
                levels.first_mut().into_iter().for_each(|end| *end = high);
                with_times(levels)
            }
            SigmaSpacing::Exponential => with_times(exponential(n, high, low)),
            SigmaSpacing::Flow => self.flow(1.0 - 1.0 / train as f64, 0.0, train),
            SigmaSpacing::FlowFromOne => self.flow(1.0, 1.0 / train as f64, train),
        };
        sigmas.push(match self.final_sigma {
            FinalSigma::Zero => 0.0,
            FinalSigma::SigmaMin => table.range().0,
        });
        Ok(TimeGrid { sigmas, times })
    }

    /// Times and levels.
    fn flow(&self, first: f64, last: f64, train: usize) -> (Vec<f64>, Vec<f64>) {
        flow(self.steps, first, last, self.flow_shift)
            .into_iter()
            .map(|t| (self.rounded(t * train as f64), t / (1.0 - t)))
            .unzip()
    }

    fn rounded(&self, time: f64) -> f64 {
        match self.rounding {
            TimeRounding::None => time,
            TimeRounding::Nearest => time.round_ties_even(),
            TimeRounding::Down => time.floor(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diffusion::BetaSchedule;

    #[test]
    fn times_lie_between_those_of_the_neighbours() {
        let grid = TimeGrid {
            sigmas: vec![4.0, 1.0, 0.0],
            times: vec![30.0, 10.0],
        };
        let times = [5.0, 4.0, 2.0, 1.0, 0.5].map(|s| grid.time(s));
        assert_eq!(times, [30.0, 30.0, 20.0, 10.0, 10.0]);
        // Fields are anyone's: levels and times need not fit.
        let short = TimeGrid {
            sigmas: vec![4.0],
            ..grid
        };
        assert_eq!([5.0, 1.0].map(|s| short.time(s)), [30.0, 30.0]);
    }

    #[test]
    fn bad_options_are_named() {
        let betas = BetaSchedule::default().betas(100).unwrap();
        let table = NoiseTable::from_betas(&betas).unwrap();
        let fails = |config: GridConfig| config.build(&table).unwrap_err().to_string();
        let of = GridConfig::default;
        assert!(fails(GridConfig { steps: 0, ..of() }).contains("steps is 0"));
        let sigmas = SigmaSpacing::Flow;
        let final_sigma = FinalSigma::SigmaMin;
        let flow = GridConfig {
            sigmas,
            final_sigma,
            ..of()
        };
        assert!(fails(flow).contains("zero for a flow"));
        assert!(fails(GridConfig { rho: 0.0, ..of() }).contains("rho is 0"));
        assert!(fails(GridConfig { steps: 101, ..of() }).contains("steps is 101"));
    }
}
