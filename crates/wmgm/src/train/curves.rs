//! Charts of a stage's metrics, for whoever watches a run.

use crate::error::{Error, Result};
use crate::files::{read_bounded, write_atomic};
use charts::{Axis, Chart, Curve, Legend, Line};
use std::collections::BTreeMap;
use std::path::Path;

/// The most bytes of metrics that are read.
const MOST: u64 = 1 << 28;
/// Points of a smoothed curve over which a mean is taken: this part of all.
const SMOOTH: usize = 30;

/// Draws every value of a file of metrics (JSON lines with `step`) over the steps: as it was logged, and smoothed.
///
/// # Errors
/// A file that cannot be read or written; one without numbers draws nothing.
pub(super) fn draw(metrics: &Path, title: &str, out: &Path) -> Result<()> {
    let bytes = read_bounded(metrics, MOST)?;
    let text = String::from_utf8_lossy(&bytes);
    let mut series: BTreeMap<String, Vec<(f64, f64)>> = BTreeMap::new();
    for line in text.lines() {
        let Ok(serde_json::Value::Object(line)) = serde_json::from_str(line) else {
            continue;
        };
        let Some(step) = line.get("step").and_then(serde_json::Value::as_f64) else {
            continue;
        };
        let named = line.iter().filter(|(n, _)| *n != "step" && *n != "seconds");
        for (name, value) in named {
            let points = value.as_f64().map(|v| (step, v));
            series.entry(name.clone()).or_default().extend(points);
        }
    }
    series.retain(|_, points| !points.is_empty());
    if series.is_empty() {
        return Ok(());
    }
    let charts: Vec<Chart> = series
        .into_iter()
        .map(|(name, points)| Chart {
            title: format!("{title}: {name}"),
            x: Axis::linear("step"),
            y: axis(name, &points),
            curves: vec![
                Curve {
                    name: "as logged".into(),
                    line: Line::Plain,
                    points: points.clone(),
                },
                Curve {
                    name: "smoothed".into(),
                    line: Line::Plain,
                    points: smoothed(&points),
                },
            ],
            legend: Legend::UpperRight,
        })
        .collect();
    let png = charts::png(&charts, 2).map_err(|e| Error::Argument(e.to_string()))?;
    write_atomic(out, |w| std::io::Write::write_all(w, &png))?;
    Ok(())
}

/// From 0 for values between 0 and 1, which may be as small as a learning rate.
fn axis(name: String, points: &[(f64, f64)]) -> Axis {
    let axis = Axis::linear(name);
    let most = points.iter().map(|p| p.1).fold(0.0, f64::max);
    match points.iter().all(|p| p.1 >= 0.0) && (f64::MIN_POSITIVE..1.0).contains(&most) {
        true => axis.within(0.0, 1.1 * most),
        false => axis,
    }
}

/// The mean of each point and those about it, as many before as after.
fn smoothed(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let reach = points.len() / SMOOTH / 2;
    (0..points.len())
        .map(|i| {
            let reach = reach.min(i).min(points.len() - 1 - i);
            let about = &points[i - reach..=i + reach];
            let mean = about.iter().map(|p| p.1).sum::<f64>() / about.len() as f64;
            (points[i].0, mean)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_stays_a_line() {
        let points: Vec<(f64, f64)> = (0..200)
            .map(|i| (f64::from(i), 3.0 - f64::from(i)))
            .collect();
        for (a, b) in points.iter().zip(smoothed(&points)) {
            assert!(a.0 == b.0 && (a.1 - b.1).abs() < 1e-9);
        }
        assert!(smoothed(&[]).is_empty());
    }
}
