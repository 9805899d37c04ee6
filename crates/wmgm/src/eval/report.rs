//! What an evaluation found.

use gen_metrics::BandDistance;
use serde::Serialize;
use std::fmt::Write;

/// One number.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Measured {
    /// The metric, such as `FID (clean-fid's resize)` or `recall`.
    pub metric: String,
    /// Where it was measured: the network, its resize and weights.
    pub space: String,
    /// Its value.
    pub value: f64,
    /// What its value varies by for another reason than the seed: over the kernel distance's subsets, or the standard error
    /// of a mean.
    pub spread: Option<f64>,
}

/// Everything about one set of samples.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Run {
    /// The seed, or the folder.
    pub name: String,
    /// Pictures.
    pub pictures: usize,
    /// Numbers, in the same order for every run.
    pub values: Vec<Measured>,
    /// The wavelet bands.
    pub bands: Vec<BandDistance>,
}

/// One metric over all runs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Summary {
    /// The metric.
    pub metric: String,
    /// Where it was measured.
    pub space: String,
    /// Mean over the runs.
    pub mean: f64,
    /// Standard deviation over the runs (divided by their number less one); none of a single one.
    pub std: Option<f64>,
}

/// What an evaluation found.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// What was judged.
    pub samples: String,
    /// What it was judged by.
    pub reference: String,
    /// Pictures of the reference, where that is known.
    pub reference_pictures: Option<u64>,
    /// The side that all pictures were brought to.
    pub size: u32,
    /// Every metric over all runs.
    pub summary: Vec<Summary>,
    /// Every run.
    pub runs: Vec<Run>,
}

impl Report {
    /// Adds up the runs.
    pub(super) fn new(
        samples: String,
        reference: (String, Option<u64>),
        size: u32,
        runs: Vec<Run>,
    ) -> Self {
        let mut summary = Vec::new();
        let first = runs
            .first()
            .map(|r| r.values.as_slice())
            .unwrap_or_default();
        for (i, measured) in first.iter().enumerate() {
            let values = runs.iter().filter_map(|r| r.values.get(i)).map(|m| m.value);
            let (mean, std) = moments(values);
            summary.push(Summary {
                metric: measured.metric.clone(),
                space: measured.space.clone(),
                mean,
                std,
            });
        }
        Self {
            samples,
            reference: reference.0,
            reference_pictures: reference.1,
            size,
            summary,
            runs,
        }
    }

    /// A table for people.
    pub fn table(&self) -> String {
        let mut out = String::new();
        // Writing to a string cannot fail.
        let mut line = |text: std::fmt::Arguments<'_>| {
            let _ = writeln!(out, "{text}");
        };
        let pictures: Vec<String> = self.runs.iter().map(|r| r.pictures.to_string()).collect();
        line(format_args!("samples    {}", self.samples));
        line(format_args!("           {} pictures", pictures.join(", ")));
        let count = self
            .reference_pictures
            .map_or_else(|| "an unknown number of".into(), |n| n.to_string());
        line(format_args!("reference  {}", self.reference));
        line(format_args!("           {count} pictures"));
        line(format_args!("size       {0} x {0}", self.size));
        let mut space = "";
        for (i, row) in self.summary.iter().enumerate() {
            if row.space != space {
                space = &row.space;
                line(format_args!("\n{space}"));
                let names: Vec<String> = self
                    .runs
                    .iter()
                    .map(|r| format!("{:>10}", short(&r.name)))
                    .collect();
                line(format_args!(
                    "  {:32} {:>10} {:>10} {}",
                    "",
                    "mean",
                    "std",
                    names.join(" ")
                ));
            }
            let std = row.std.map_or_else(|| "-".into(), number);
            let each = self.runs.iter().filter_map(|r| r.values.get(i));
            let each: Vec<String> = each.map(|m| format!("{:>10}", number(m.value))).collect();
            line(format_args!(
                "  {:32} {:>10} {:>10} {}",
                row.metric,
                number(row.mean),
                std,
                each.join(" ")
            ));
        }
        let bands = self.runs.first().map(|r| r.bands.len()).unwrap_or_default();
        if bands > 0 {
            line(format_args!(
                "\nwavelet bands (Haar, pictures in [-1, 1])\n  {:10} {:>17} {:>19} {:>10} {:>10}",
                "level band", "KL, nats", "spectrum, dB", "std", "reference"
            ));
        }
        for i in 0..bands {
            let each = || self.runs.iter().filter_map(move |r| r.bands.get(i));
            let Some(first) = each().next() else { continue };
            let spread = |of: fn(&BandDistance) -> f64| {
                let (mean, std) = moments(each().map(of));
                let std = std.map_or(String::new(), |s| format!(" +- {}", number(s)));
                format!("{}{std}", number(mean))
            };
            line(format_args!(
                "  {:5} {:4} {:>17} {:>19} {:>10} {:>10}",
                first.level,
                first.band,
                spread(|b| b.kl),
                spread(|b| b.spectrum_db),
                number(moments(each().map(|b| b.std)).0),
                number(first.reference_std)
            ));
        }
        out
    }
}

/// Mean, and standard deviation where there are two or more.
fn moments(values: impl Iterator<Item = f64> + Clone) -> (f64, Option<f64>) {
    let n = values.clone().count() as f64;
    let mean = values.clone().sum::<f64>() / n;
    let squares: f64 = values.map(|v| (v - mean).powi(2)).sum();
    (mean, (n > 1.0).then(|| (squares / (n - 1.0)).sqrt()))
}

/// Three digits behind the point, or more for small numbers.
fn number(value: f64) -> String {
    match value.abs() {
        0.0 => "0".into(),
        v if v < 0.01 => format!("{value:.2e}"),
        v if v < 10.0 => format!("{value:.4}"),
        _ => format!("{value:.2}"),
    }
}

/// The end of a long name.
fn short(name: &str) -> &str {
    let skip = name.chars().count().saturating_sub(10);
    name.char_indices()
        .nth(skip)
        .map_or("", |(at, _)| &name[at..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_has_every_metric_with_its_spread() {
        let run = |name: &str, value| Run {
            name: name.into(),
            pictures: 7,
            values: vec![Measured {
                metric: "recall".into(),
                space: "a network".into(),
                value,
                spread: None,
            }],
            bands: vec![BandDistance {
                level: 1,
                band: "HH",
                kl: value,
                spectrum_db: 2.0,
                std: 0.1,
                reference_std: 0.2,
            }],
        };
        let runs = vec![run("seed 0", 0.25), run("seed 1", 0.75)];
        let report = Report::new("model".into(), ("cats".into(), Some(9)), 128, runs);
        let summary = &report.summary[0];
        assert_eq!((summary.mean, summary.std), (0.5, Some(0.125f64.sqrt())));
        let table = report.table();
        for part in [
            "recall",
            "0.5000",
            "0.3536",
            "seed 1",
            "128 x 128",
            "9 pictures",
            "1 HH",
            "0.5000 +- 0.3536",
        ] {
            assert!(table.contains(part), "{part}: {table}");
        }
        let alone = Report::new("m".into(), ("r".into(), None), 8, vec![run("a", 1.0)]);
        assert_eq!(alone.summary[0].std, None);
        assert!(alone.table().contains("unknown"));
    }
}
