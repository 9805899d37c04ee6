//! Ordinary differential equations, integrated adaptively: one per picture, each with its own time and step.

mod control;

use crate::error::{Result, ensure};
use crate::sampler::Coupling;

use control::{Group, Tolerance};
use serde::{Deserialize, Serialize};

/// dy/dt of all pictures, each at its own time.
pub type Slope<'a> = &'a mut dyn FnMut(&[f64], &[Vec<f64>]) -> Result<Vec<Vec<f64>>>;

/// Called after each round of steps with its number and the states.
pub type OnRound<'a> = &'a mut dyn FnMut(usize, &[Vec<f64>]) -> Result<()>;

/// Dormand and Prince's pair of orders 5 and 4 ("A family of embedded Runge-Kutta formulae", 1980), its steps chosen as in
/// scipy's `solve_ivp(method="RK45")`: same first step, same control, so with [`Coupling::Batch`] the same evaluations as
/// scipy's on the whole batch, and by default the same as scipy's on each picture alone.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Rk45 {
    /// Error allowed in a step relative to the state.
    pub rtol: f64,
    /// Error allowed in a step in addition, above 0.
    pub atol: f64,
    /// Whose error a step size follows.
    pub coupling: Coupling,
}

impl Default for Rk45 {
    /// score_sde's tolerances, 1e-5 each.
    fn default() -> Self {
        Self {
            rtol: 1e-5,
            atol: 1e-5,
            coupling: Coupling::PerPicture,
        }
    }
}

/// States at the end of an integration.
#[derive(Debug, Clone, PartialEq)]
pub struct Solution {
    /// One state per picture.
    pub y: Vec<Vec<f64>>,
    /// Evaluations that each picture asked for.
    pub evaluations: Vec<usize>,
}

/// When the stages after the first are, as parts of a step.
const C: [f64; 6] = [1.0 / 5.0, 3.0 / 10.0, 4.0 / 5.0, 8.0 / 9.0, 1.0, 1.0];
/// Stage i + 1 weighs stages 0 to i by row i; the last row is the step itself, so its slope is the next step's first.
const A: [&[f64]; 6] = [
    &[1.0 / 5.0],
    &[3.0 / 40.0, 9.0 / 40.0],
    &[44.0 / 45.0, -56.0 / 15.0, 32.0 / 9.0],
    &[
        19372.0 / 6561.0,
        -25360.0 / 2187.0,
        64448.0 / 6561.0,
        -212.0 / 729.0,
    ],
    &[
        9017.0 / 3168.0,
        -355.0 / 33.0,
        46732.0 / 5247.0,
        49.0 / 176.0,
        -5103.0 / 18656.0,
    ],
    &[
        35.0 / 384.0,
        0.0,
        500.0 / 1113.0,
        125.0 / 192.0,
        -2187.0 / 6784.0,
        11.0 / 84.0,
    ],
];
/// The difference of the two orders, as weights of the stages.
const E: [f64; 7] = [
    -71.0 / 57600.0,
    0.0,
    71.0 / 16695.0,
    -71.0 / 1920.0,
    17253.0 / 339_200.0,
    -22.0 / 525.0,
    1.0 / 40.0,
];

impl Rk45 {
    /// Integrates from `times[0]` to `times[1]`, in either direction. Every evaluation is of the whole batch, pictures that
    /// have arrived standing still, so that what `slope` knows of each picture stays in its place.
    ///
    /// # Errors
    /// Tolerances or times out of range, states of another shape from `slope`, steps that vanish, errors of `slope` and of
    /// `on_round`.
    pub fn solve(
        &self,
        slope: Slope,
        mut y: Vec<Vec<f64>>,
        times: [f64; 2],
        on_round: OnRound,
    ) -> Result<Solution> {
        self.check(times)?;
        let mut groups = self.groups(y.len(), times);
        let mut first = evaluate(slope, &groups, &y, 0.0)?;
        self.first_steps(slope, &mut groups, &y, &first)?;
        for round in 0.. {
            if groups.iter().all(Group::arrived) {
                break;
            }
            groups.iter_mut().try_for_each(Group::set_out)?;
            let mut stages = vec![first];
            let mut next = Vec::new();
            for (row, c) in A.iter().zip(C) {
                next = advance(&groups, &y, &stages, row);
                stages.push(evaluate(slope, &groups, &next, c)?);
            }
            let error = |i: usize, k: usize| E.iter().zip(&stages).map(|(e, s)| e * s[i][k]).sum();
            let mut accepted = Vec::new();
            for g in groups.iter_mut().filter(|g| !g.arrived()) {
                if g.conclude(self.tolerance().step(g, &error, &y, &next)) {
                    accepted.extend(g.members.clone());
                }
            }
            // The last stage of an accepted step is the first of the next.
            let last = stages.swap_remove(6);
            first = stages.swap_remove(0);
            for i in accepted {
                y[i].clone_from(&next[i]);
                first[i].clone_from(&last[i]);
            }
            on_round(round, &y)?;
        }
        let counts = groups
            .iter()
            .flat_map(|g| vec![g.evaluations; g.members.len()]);
        let evaluations = counts.collect();
        Ok(Solution { y, evaluations })
    }

    fn check(&self, times: [f64; 2]) -> Result<()> {
        let rtol = self.rtol.is_finite() && self.rtol >= 100.0 * f64::EPSILON;
        ensure(
            rtol,
            "rk45",
            "rtol",
            self.rtol,
            "finite and at least 2.3e-14",
        )?;
        let atol = self.atol.is_finite() && self.atol > 0.0;
        ensure(atol, "rk45", "atol", self.atol, "finite and above 0")?;
        let apart = times.iter().all(|t| t.is_finite()) && times[0] != times[1];
        ensure(
            apart,
            "rk45",
            "times",
            format!("{times:?}"),
            "finite and different",
        )
    }

    fn tolerance(&self) -> Tolerance {
        Tolerance {
            rtol: self.rtol,
            atol: self.atol,
        }
    }

    fn groups(&self, pictures: usize, times: [f64; 2]) -> Vec<Group> {
        let size = match self.coupling {
            Coupling::PerPicture => 1,
            Coupling::Batch => pictures.max(1),
        };
        let group = |i| Group::new(i..(i + size).min(pictures), times);
        (0..pictures).step_by(size).map(group).collect()
    }

    /// A choice of the first step by two evaluations (Hairer, Norsett and Wanner, "Solving ordinary differential equations
    /// I", II.4).
    fn first_steps(
        &self,
        slope: Slope,
        groups: &mut [Group],
        y: &[Vec<f64>],
        first: &[Vec<f64>],
    ) -> Result<()> {
        let tolerance = self.tolerance();
        for g in groups.iter_mut() {
            let size = tolerance.norm(g, y, &|i, k| y[i][k]);
            g.guess(size, tolerance.norm(g, y, &|i, k| first[i][k]));
        }
        let probe = advance(groups, y, &[first.to_vec()], &[1.0]);
        let second = evaluate(slope, groups, &probe, 1.0)?;
        for g in groups.iter_mut() {
            let change = tolerance.norm(g, y, &|i, k| second[i][k] - first[i][k]);
            g.settle(tolerance.norm(g, y, &|i, k| first[i][k]), change);
        }
        Ok(())
    }
}

/// The slopes at states y, a part `c` of each group's step on.
fn evaluate(slope: Slope, groups: &[Group], y: &[Vec<f64>], c: f64) -> Result<Vec<Vec<f64>>> {
    let times = groups
        .iter()
        .flat_map(|g| vec![g.t + c * g.h(); g.members.len()]);
    let slopes = slope(&times.collect::<Vec<f64>>(), y)?;
    let lengths = |v: &[Vec<f64>]| v.iter().map(Vec::len).collect::<Vec<usize>>();
    let fits = lengths(&slopes) == lengths(y);
    ensure(
        fits,
        "rk45",
        "slope",
        "of another shape",
        "one number for each of the state's",
    )?;
    Ok(slopes)
}

/// The states a step on, by weighted stages.
fn advance(
    groups: &[Group],
    y: &[Vec<f64>],
    stages: &[Vec<Vec<f64>>],
    row: &[f64],
) -> Vec<Vec<f64>> {
    let mut next = y.to_vec();
    for g in groups {
        for i in g.members.clone() {
            for (k, v) in next[i].iter_mut().enumerate() {
                let slope: f64 = row.iter().zip(stages).map(|(a, s)| a * s[i][k]).sum();
                *v += g.h() * slope;
            }
        }
    }
    next
}

#[cfg(test)]
mod tests;
