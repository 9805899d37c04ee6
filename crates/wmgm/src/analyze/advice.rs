//! How many levels to take.

use super::report::SizeReport;
use serde::Serialize;

/// Details are worth one pass of a generator while they are sparse: a kurtosis of at least that of Laplace's law ...
const SPARSE: f64 = 6.0;
/// ... and while all that is made so is at most a tenth of the pictures' variance.
const SHARE: f64 = 0.1;
/// The smallest low band that still holds a picture.
const LEAST: usize = 8;

/// The number of levels that the measured bands suggest, and why.
///
/// Work alone always asks for one level more, since each quarters the low band; what limits the depth is what is then left to
/// a generator that does not diffuse. The rule is one of thumb: take a level while its details are sparse (each band's
/// kurtosis at least 6), while the details of all levels taken hold at most 10 % of the variance, and while the low band is at
/// least 8 x 8.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Advice {
    /// The number of levels, 0 for none.
    pub levels: usize,
    /// Why, in words.
    pub reason: String,
}

impl Advice {
    pub(super) fn of(report: &SizeReport) -> Self {
        let mut taken = 0.0;
        let mut levels = 0;
        let mut words = Vec::new();
        let mut end = format!("level {} is the deepest that was measured", report.levels);
        for level in 1..=report.levels {
            let share: f64 = report.details(level).map(|b| b.share).sum();
            let kurtosis = report
                .details(level)
                .map(|b| b.kurtosis)
                .fold(f64::INFINITY, f64::min);
            let side = report.size >> level;
            if kurtosis.is_nan() || kurtosis < SPARSE {
                end = format!(
                    "the details of level {level} are not sparse (kurtosis {kurtosis:.1}, a Gaussian's is 3, {SPARSE} is asked for)"
                );
                break;
            }
            if taken + share > SHARE {
                end = format!(
                    "with level {level} the details would hold {:.1} % of the variance, more than {:.0} %",
                    100.0 * (taken + share),
                    100.0 * SHARE
                );
                break;
            }
            if side < LEAST {
                end = format!("the low band of level {level} would be {side} x {side}");
                break;
            }
            taken += share;
            levels = level;
            words.push(format!(
                "level {level}: kurtosis at least {kurtosis:.1}, {:.1} % of the variance",
                100.0 * share
            ));
        }
        Self {
            levels,
            reason: reason(report, levels, &words, &end),
        }
    }
}

fn reason(report: &SizeReport, levels: usize, words: &[String], end: &str) -> String {
    let (Some(pixels), Some(low)) = (report.low(0), report.low(levels)) else {
        return String::new();
    };
    if levels == 0 {
        return format!("0 levels: {end}; wavelets have nothing to offer to these pictures");
    }
    let steps = |s: Option<usize>| s.map_or("more than 20000".into(), |s| s.to_string());
    format!(
        "{levels} {}: their details are sparse and hold little, so one pass of a generator can make them ({}); {end}. \
         The low band of {side} x {side} has a condition number of {:.0} (the pixels {:.0}) and takes {} Euler-Maruyama \
         steps for 0.01 nats per dimension (the pixels {}), each of 1/{} of the positions",
        if levels == 1 { "level" } else { "levels" },
        words.join("; "),
        low.condition,
        pixels.condition,
        steps(low.steps),
        steps(pixels.steps),
        1 << (2 * levels),
        side = low.side,
    )
}
