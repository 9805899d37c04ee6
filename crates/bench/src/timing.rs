//! Two sides timed by turns.

use anyhow::Result;
use candle_core::Device;
use std::time::{Duration, Instant};

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

/// One side of a comparison: runs so many times and answers with the milliseconds of one.
pub type Side<'a> = &'a mut dyn FnMut(usize) -> Result<f64>;

/// What a turn should take at least: shorter runs are repeated.
const TURN_MS: f64 = 20.0;
/// Between sides, for the other's threads to stop waiting busily for more work.
const PAUSE: Duration = Duration::from_millis(20);

/// Runs so many times on a device and waits for the end; milliseconds of one.
///
/// # Errors
/// Those of a run.
pub fn timed(device: &Device, times: usize, run: &mut dyn FnMut() -> Result<()>) -> Result<f64> {
    device.synchronize()?;
    let start = Instant::now();
    for _ in 0..times {
        run()?;
    }
    device.synchronize()?;
    Ok(start.elapsed().as_secs_f64() * 1e3 / times as f64)
}

/// Milliseconds of every turn, ours first, then those of each other side.
///
/// # Errors
/// Those of a side.
pub fn turns(
    ours: &mut dyn FnMut() -> Result<()>,
    others: &mut [Side<'_>],
) -> Result<(Vec<f64>, Vec<Vec<f64>>)> {
    turns_on(&Device::Cpu, ours, others)
}

/// The same with ours on a device: on a GPU, a turn is at least ten runs and the wait for their end.
///
/// # Errors
/// Those of a side.
pub fn turns_on(
    device: &Device,
    ours: &mut dyn FnMut() -> Result<()>,
    others: &mut [Side<'_>],
) -> Result<(Vec<f64>, Vec<Vec<f64>>)> {
    let least = if device.is_cpu() { 1 } else { 10 };
    let mut ours = |times: usize| timed(device, times, ours);
    let mut sides: Vec<Side<'_>> = vec![&mut ours];
    sides.extend(others.iter_mut().map(|side| &mut **side as Side<'_>));
    let mut all = vec![Vec::new(); sides.len()];
    let mut times = vec![least; sides.len()];
    for turn in 0..=TURNS {
        for ((side, times), all) in sides.iter_mut().zip(&mut times).zip(&mut all) {
            std::thread::sleep(PAUSE);
            let ms = side(*times)?;
            match turn {
                0 => *times = least.max((TURN_MS / ms).ceil().min(200.0) as usize),
                _ => all.push(ms),
            }
        }
    }
    let ours = all.remove(0);
    Ok((ours, all))
}
