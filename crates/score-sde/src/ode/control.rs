//! How long a step is.

use crate::error::{Error, Result};
use std::ops::Range;

/// The power of an error that the next step's length follows: the pair's lower order is 4.
const EXPONENT: f64 = -1.0 / 5.0;

/// Pictures that share a time and a step: one, or the batch.
pub(super) struct Group {
    pub members: Range<usize>,
    pub t: f64,
    pub evaluations: usize,
    end: f64,
    /// Length of the step under way, or of the next.
    step: f64,
    rejected: bool,
}

impl Group {
    /// Two evaluations choose the first step.
    pub fn new(members: Range<usize>, times: [f64; 2]) -> Self {
        Self {
            members,
            t: times[0],
            evaluations: 2,
            end: times[1],
            step: 0.0,
            rejected: false,
        }
    }

    pub fn arrived(&self) -> bool {
        self.t == self.end
    }

    fn left(&self) -> f64 {
        (self.end - self.t).abs()
    }

    /// The step with its sign, none after the arrival.
    pub fn h(&self) -> f64 {
        match self.arrived() {
            true => 0.0,
            false => self.step * (self.end - self.t).signum(),
        }
    }

    /// A first guess of the step, from the norms of state and slope.
    pub fn guess(&mut self, size: f64, slope: f64) {
        let guess = if size < 1e-5 || slope < 1e-5 {
            1e-6
        } else {
            0.01 * size / slope
        };
        self.step = guess.min(self.left());
    }

    /// The first step, from the norms of the slope and of its change over the guess.
    pub fn settle(&mut self, slope: f64, change: f64) {
        let bend = change / self.step;
        let step = if slope <= 1e-15 && bend <= 1e-15 {
            (self.step * 1e-3).max(1e-6)
        } else {
            (0.01 / slope.max(bend)).powf(-EXPONENT)
        };
        self.step = step.min(100.0 * self.step).min(self.left());
    }

    /// Bounds the step before it is tried: not beyond the end, and not lost in the rounding of t.
    pub fn set_out(&mut self) -> Result<()> {
        if self.arrived() {
            return Ok(());
        }
        let next = match self.end > self.t {
            true => self.t.next_up(),
            false => self.t.next_down(),
        };
        let least = 10.0 * (next - self.t).abs();
        if self.rejected && self.step < least {
            return Err(Error::Stalled {
                op: "rk45",
                picture: self.members.start,
                time: self.t,
            });
        }
        self.step = self.step.max(least).min(self.left());
        self.evaluations += 6;
        Ok(())
    }

    /// Takes the step if its error is below 1, and chooses the next; whether it was taken.
    pub fn conclude(&mut self, error: f64) -> bool {
        // NaN is no step to take: its factor is the smallest.
        let factor = 0.9 * error.powf(EXPONENT);
        let taken = error < 1.0;
        if taken {
            self.t = match self.step >= self.left() {
                true => self.end,
                false => self.t + self.h(),
            };
            // Right after a rejection a step does not grow.
            self.step *= factor.min(if self.rejected { 1.0 } else { 10.0 });
        } else {
            self.step *= factor.max(0.2);
        }
        self.rejected = !taken;
        taken
    }
}

pub(super) struct Tolerance {
    pub rtol: f64,
    pub atol: f64,
}

impl Tolerance {
    /// The norm of `value(picture, number)` in units of the tolerance at y: a root mean square over the group.
    pub fn norm(&self, g: &Group, y: &[Vec<f64>], value: &dyn Fn(usize, usize) -> f64) -> f64 {
        let ratio = |i: usize, k: usize| value(i, k) / (self.atol + self.rtol * y[i][k].abs());
        rms(g, y, &ratio)
    }

    /// The error of a step from y to `next`, its slope's error being `error(picture, number)`.
    pub fn step(
        &self,
        g: &Group,
        error: &dyn Fn(usize, usize) -> f64,
        y: &[Vec<f64>],
        next: &[Vec<f64>],
    ) -> f64 {
        let ratio = |i: usize, k: usize| {
            let size = y[i][k].abs().max(next[i][k].abs());
            error(i, k) * g.step / (self.atol + self.rtol * size)
        };
        rms(g, y, &ratio)
    }
}

fn rms(g: &Group, y: &[Vec<f64>], value: &dyn Fn(usize, usize) -> f64) -> f64 {
    let (mut sum, mut count) = (0.0, 0usize);
    for i in g.members.clone() {
        sum += (0..y[i].len()).map(|k| value(i, k).powi(2)).sum::<f64>();
        count += y[i].len();
    }
    (sum / count.max(1) as f64).sqrt()
}
