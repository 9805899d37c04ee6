//! Two sides timed by turns.

use anyhow::Result;
use candle_core::Device;
use std::time::Instant;

/// Turns that count; one more before them warms both sides up.
pub const TURNS: usize = 7;

/// Milliseconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spread {
    /// The least.
    pub min: f64,
    /// The middle one.
    pub median: f64,
    /// The largest.
    pub max: f64,
}

impl std::fmt::Display for Spread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:.2} / {:.2} / {:.2}", self.min, self.median, self.max)
    }
}

/// Least, middle and largest of some values, at least one.
pub fn spread(values: &[f64]) -> Spread {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    Spread {
        min: sorted[0],
        median: sorted[sorted.len() / 2],
        max: sorted[sorted.len() - 1],
    }
}

/// How many times faster we are: theirs / ours of each turn.
pub fn ratios(ours: &[f64], theirs: &[f64]) -> Spread {
    let each: Vec<f64> = ours.iter().zip(theirs).map(|(a, b)| b / a).collect();
    spread(&each)
}

/// Milliseconds of every turn, ours first, then those of each other side, which times itself.
///
/// # Errors
/// Those of a side.
pub fn turns(
    ours: &mut dyn FnMut() -> Result<()>,
    others: &mut [&mut dyn FnMut() -> Result<f64>],
) -> Result<(Vec<f64>, Vec<Vec<f64>>)> {
    turns_on(&Device::Cpu, ours, others)
}

/// The same with ours on a device: on a GPU, a turn is ten runs and the wait for their end, as the other side's are.
///
/// # Errors
/// Those of a side.
pub fn turns_on(
    device: &Device,
    ours: &mut dyn FnMut() -> Result<()>,
    others: &mut [&mut dyn FnMut() -> Result<f64>],
) -> Result<(Vec<f64>, Vec<Vec<f64>>)> {
    let times = if device.is_cpu() { 1 } else { 10 };
    let mut mine = Vec::new();
    let mut theirs = vec![Vec::new(); others.len()];
    for turn in 0..=TURNS {
        device.synchronize()?;
        let start = Instant::now();
        for _ in 0..times {
            ours()?;
        }
        device.synchronize()?;
        let ms = start.elapsed().as_secs_f64() * 1e3 / times as f64;
        if turn > 0 {
            mine.push(ms);
        }
        for (other, all) in others.iter_mut().zip(&mut theirs) {
            let ms = other()?;
            if turn > 0 {
                all.push(ms);
            }
        }
    }
    Ok((mine, theirs))
}
