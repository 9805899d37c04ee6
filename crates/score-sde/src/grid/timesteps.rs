//! Which steps of a discrete process are visited.

use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};

/// How steps are spread (Lin et al. 2024, arXiv 2305.08891, table 2, for the first three).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TimestepSpacing {
    /// Evenly, the noisiest step and step 0 among them.
    #[default]
    Linspace,
    /// An integer stride from step 0, so the noisiest steps are not visited.
    Leading,
    /// An even stride from the noisiest step down, so step 0 is not visited.
    Trailing,
    /// Squares of evenly spaced numbers, up to 0.8 T, rounded down (DDIM, Song et al. 2021, arXiv 2010.02502, appendix D.2).
    ///
    /// Of more than sqrt(0.8 T) of them the least noisy ones repeat, as there.
    Quadratic,
}

/// What `n` steps mean, which differs between diffusers' schedulers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Points {
    /// n whole steps, step 0 among those of linspace: DDPM, DDIM.
    Whole,
    /// n times that need not be whole: Euler, Euler ancestral, Heun.
    Fractional,
    /// n + 1 whole steps without step 0, whose place the end of sampling takes: DPM-Solver, UniPC, DEIS.
    #[default]
    WithoutZero,
}

/// `steps` times, the noisiest first, of a process of `train` steps of which the first `last` <= `train` are used.
///
/// `offset` is added with leading and quadratic spacing. Halves are rounded to even, as NumPy does.
///
/// # Errors
/// No steps or more than `last`, as many as `last` where leading spacing leaves out step 0, an offset that leads past the
/// process, trailing steps of a part of it that lead below step 0.
pub fn timesteps(
    train: usize,
    last: usize,
    steps: usize,
    spacing: TimestepSpacing,
    points: Points,
    offset: usize,
) -> Result<Vec<f64>> {
    let refuse = |name, value: usize, need| {
        Err(Error::Argument {
            op: "timesteps",
            name,
            value: format!("{value} for {last} of {train} training steps"),
            need,
        })
    };
    if last > train {
        return refuse("last", last, "at most the number of training steps");
    }
    if steps == 0 || steps > last {
        return refuse(
            "steps",
            steps,
            "at least 1 and at most the training steps in use",
        );
    }
    let (open, whole) = (points == Points::WithoutZero, points != Points::Fractional);
    let from_zero = |i: usize| if open { i + 1 } else { i };
    let rising: Vec<f64> = match spacing {
        TimestepSpacing::Linspace => {
            let intervals = if open { steps } else { (steps - 1).max(1) };
            let stride = (last - 1) as f64 / intervals as f64;
            let even = (0..steps).map(|i| from_zero(i) as f64 * stride);
            even.map(|t| if whole { t.round_ties_even() } else { t })
                .collect()
        }
        TimestepSpacing::Leading => {
            let stride = last / if open { steps + 1 } else { steps };
            if stride == 0 {
                let need = "below the training steps in use: leading spacing leaves out step 0";
                return refuse("steps", steps, need);
            }
            (0..steps)
                .map(|i| (from_zero(i) * stride + offset) as f64)
                .collect()
        }
        TimestepSpacing::Trailing => {
            let stride = train as f64 / steps as f64;
            let count = if last == train {
                steps
            } else {
                (last as f64 / stride).ceil() as usize
            };
            (0..count)
                .rev()
                .map(|i| (last as f64 - i as f64 * stride).round_ties_even() - 1.0)
                .collect()
        }
        TimestepSpacing::Quadratic => {
            let stride = (0.8 * last as f64).sqrt() / (steps - 1).max(1) as f64;
            (0..steps)
                .map(|i| (i as f64 * stride).powi(2).floor() + offset as f64)
                .collect()
        }
    };
    if rising.first().is_some_and(|t| *t < 0.0) {
        let need = "a number whose trailing steps of these do not lead below step 0";
        return refuse("steps", steps, need);
    }
    match rising.last().is_some_and(|t| *t > (train - 1) as f64) {
        true => refuse(
            "offset",
            offset,
            "such that the last step stays within the process",
        ),
        false => Ok(rising.into_iter().rev().collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use TimestepSpacing as S;

    #[test]
    fn as_in_the_table_of_lin_et_al() {
        let of = |spacing, points| timesteps(1000, 1000, 10, spacing, points, 0).unwrap();
        let ends = |t: Vec<f64>| (t.len(), t[0], t[9]);
        assert_eq!(ends(of(S::Linspace, Points::Whole)), (10, 999.0, 0.0));
        assert_eq!(
            ends(of(S::Linspace, Points::WithoutZero)),
            (10, 999.0, 100.0)
        );
        assert_eq!(ends(of(S::Leading, Points::Whole)), (10, 900.0, 0.0));
        assert_eq!(ends(of(S::Leading, Points::WithoutZero)), (10, 900.0, 90.0));
        assert_eq!(ends(of(S::Trailing, Points::Whole)), (10, 999.0, 99.0));
        assert_eq!(ends(of(S::Quadratic, Points::Whole)), (10, 800.0, 0.0));
    }

    #[test]
    fn bad_numbers_are_named() {
        for (steps, offset, name) in [(0, 0, "steps"), (11, 0, "steps"), (5, 3, "offset")] {
            let e = timesteps(10, 10, steps, S::Leading, Points::Whole, offset).unwrap_err();
            assert!(e.to_string().contains(name), "{e}");
        }
        assert!(timesteps(10, 11, 5, S::Leading, Points::Whole, 0).is_err());
        let e = timesteps(10, 10, 10, S::Leading, Points::WithoutZero, 0).unwrap_err();
        assert!(e.to_string().contains("leaves out step 0"), "{e}");
        // 98 less 39 strides of 2.5 is 0.5, which rounds to 0, and less 1.
        let e = timesteps(100, 98, 40, S::Trailing, Points::Whole, 0).unwrap_err();
        assert!(e.to_string().contains("below step 0"), "{e}");
        assert!(timesteps(100, 99, 40, S::Trailing, Points::Whole, 0).is_ok());
    }

    #[test]
    fn quadratic_steps_repeat_where_they_are_many() {
        let t = timesteps(100, 100, 20, S::Quadratic, Points::Whole, 0).unwrap();
        assert_eq!(&t[16..], [1.0, 0.0, 0.0, 0.0]);
    }
}
