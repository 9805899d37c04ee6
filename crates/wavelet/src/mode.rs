//! How a signal goes on beyond its ends.

use crate::error::{Error, Result};
use std::fmt;
use std::str::FromStr;

/// The extension of a signal `x[0..n]` beyond its ends, with PyWavelets' names.
///
/// All but [`Mode::Periodization`] give `(n + F - 1) / 2` coefficients per band (rounded down) for a filter of length
/// `F`; periodization gives `n / 2` rounded up. Every mode reconstructs exactly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Mode {
    /// `0 0 | x0 x1 .. xn | 0 0`
    Zero,
    /// `x0 x0 | x0 x1 .. xn | xn xn`
    Constant,
    /// `x1 x0 | x0 x1 .. xn | xn xn-1`, mirrored about the edge between samples.
    Symmetric,
    /// `xn-1 xn | x0 x1 .. xn | x0 x1`
    Periodic,
    /// The straight lines through the first and the last two samples.
    Smooth,
    /// Like periodic, but with the least number of coefficients; an odd signal's last sample is repeated once.
    Periodization,
    /// `x2 x1 | x0 x1 .. xn | xn-1 xn-2`, mirrored about the edge sample; at least two samples.
    Reflect,
    /// `-x1 -x0 | x0 x1 .. xn | -xn -xn-1`
    Antisymmetric,
    /// `2x0-x2 2x0-x1 | x0 x1 .. xn | 2xn-xn-1 2xn-xn-2`, turned about the edge sample; at least two samples.
    Antireflect,
}

impl Mode {
    /// All nine.
    pub const ALL: [Mode; 9] = [
        Mode::Zero,
        Mode::Constant,
        Mode::Symmetric,
        Mode::Periodic,
        Mode::Smooth,
        Mode::Periodization,
        Mode::Reflect,
        Mode::Antisymmetric,
        Mode::Antireflect,
    ];

    /// PyWavelets' name.
    pub fn name(self) -> &'static str {
        match self {
            Mode::Zero => "zero",
            Mode::Constant => "constant",
            Mode::Symmetric => "symmetric",
            Mode::Periodic => "periodic",
            Mode::Smooth => "smooth",
            Mode::Periodization => "periodization",
            Mode::Reflect => "reflect",
            Mode::Antisymmetric => "antisymmetric",
            Mode::Antireflect => "antireflect",
        }
    }

    /// The shortest signal the mode can extend: two samples for the reflections, else one.
    pub fn min_len(self) -> usize {
        match self {
            Mode::Reflect | Mode::Antireflect => 2,
            _ => 1,
        }
    }

    /// The number of coefficients per band of a signal of length `n`, for filters of length `filter`
    /// (PyWavelets' `dwt_coeff_len`).
    pub fn band_len(self, n: usize, filter: usize) -> usize {
        match self {
            Mode::Periodization => n.div_ceil(2),
            _ => (n + filter).saturating_sub(1) / 2,
        }
    }

    /// The length of the signal that bands of length `m` give back; the true one may be one less. None if the bands are
    /// shorter than any signal's.
    pub fn signal_len(self, m: usize, filter: usize) -> Option<usize> {
        match self {
            Mode::Periodization => (m > 0).then_some(2 * m),
            _ => (2 * m + 2).checked_sub(filter).filter(|&n| n > 0),
        }
    }

    /// `x[t]` of the extended signal as a combination of samples: calls `add(index, weight)`; `weight` scales it.
    ///
    /// Periodization is periodic here; its repeated sample is the caller's affair.
    pub(crate) fn extend(self, t: isize, n: usize, weight: f64, add: &mut dyn FnMut(usize, f64)) {
        let len = n as isize;
        if (0..len).contains(&t) {
            return add(t as usize, weight);
        }
        let last = n - 1;
        // How far beyond which end.
        let (edge, inner, beyond) = if t < 0 {
            (0, 1.min(last), -t)
        } else {
            (last, last.saturating_sub(1), t - (len - 1))
        };
        match self {
            Mode::Zero => {}
            Mode::Constant => add(edge, weight),
            Mode::Periodic | Mode::Periodization => add(t.rem_euclid(len) as usize, weight),
            Mode::Symmetric | Mode::Antisymmetric => {
                let u = t.rem_euclid(2 * len);
                let mirrored = u >= len;
                let at = if mirrored { 2 * len - 1 - u } else { u };
                let sign = if mirrored && self == Mode::Antisymmetric {
                    -1.0
                } else {
                    1.0
                };
                add(at as usize, sign * weight);
            }
            Mode::Reflect => {
                let u = t.rem_euclid(2 * (len - 1).max(1));
                add(
                    (if u < len { u } else { 2 * (len - 1) - u }).max(0) as usize,
                    weight,
                );
            }
            Mode::Smooth => {
                add(edge, weight * (1 + beyond) as f64);
                add(inner, -weight * beyond as f64);
            }
            Mode::Antireflect => {
                let turned = if t < 0 { -t } else { 2 * (len - 1) - t };
                if n == 1 {
                    return add(0, weight);
                }
                add(edge, 2.0 * weight);
                self.extend(turned, n, -weight, add);
            }
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Mode {
    type Err = Error;

    /// From PyWavelets' name.
    fn from_str(name: &str) -> Result<Self> {
        Mode::ALL
            .into_iter()
            .find(|m| m.name() == name)
            .ok_or_else(|| Error::UnknownMode {
                name: name.to_string(),
                known: Mode::ALL.map(Mode::name).join(", "),
            })
    }
}
