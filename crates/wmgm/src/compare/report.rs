//! What a comparison leaves for readers: JSON, Markdown, plots, sheets.

use super::budget::{StageWork, total_work, training_work};
use super::config::Planned;
use super::point::{Point, TimedPoint, Timing, write_json};
use super::{CompareConfig, Measure};
use crate::data::PictureSet;
use crate::error::{Error, Result};
use crate::files::write_atomic;
use crate::picture::{self, RgbImage};
use crate::pipeline::{Cost, Model};
use charts::{Axis, Chart, Curve, Legend};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;

/// `results.json`: the same for the same configuration and pictures, to the last digit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Results {
    /// The comparison's name.
    pub name: String,
    /// Training and reference pictures.
    pub reference: usize,
    /// A hash of their pixels.
    pub fingerprint: String,
    /// Multiply-adds that the training of each model of this comparison could cost; models of others have their own.
    pub multiply_adds: f64,
    /// Pictures of every point.
    pub pictures: u64,
    /// Seeds of sampling, in the order of their distances.
    pub seeds: Vec<u64>,
    /// Pictures of the headlines.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub headline: Option<u64>,
    /// The measures' names.
    pub measures: Vec<String>,
    /// What their numbers depend on beside the pictures.
    pub identities: Vec<String>,
    /// Every model.
    pub models: Vec<Entry>,
}

/// One model in the results.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// Its name.
    pub name: String,
    /// Whether it is an ablation.
    pub ablation: bool,
    /// Parameters of the networks that sampling uses.
    pub parameters: usize,
    /// The work of its training.
    pub training: Vec<StageWork>,
    /// Its curves, point by point.
    pub points: Vec<Summary>,
    /// The point of more pictures and one seed, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub headline: Option<Summary>,
}

/// One point of a curve, over all seeds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// The sampler.
    pub sampler: String,
    /// Its steps.
    pub steps: usize,
    /// Passes allowed.
    pub allowed: usize,
    /// What a picture costs.
    pub cost: Cost,
    /// Distances of each seed in the configuration's order, by measure.
    pub distances: BTreeMap<String, Vec<f64>>,
}

impl Summary {
    /// Mean and spread (the largest less the smallest) over seeds.
    fn of(&self, measure: &str) -> Option<(f64, f64)> {
        let all = self.distances.get(measure)?;
        let mean = all.iter().sum::<f64>() / all.len().max(1) as f64;
        let ends = all
            .iter()
            .fold((f64::MAX, f64::MIN), |(a, b), v| (a.min(*v), b.max(*v)));
        Some((mean, ends.1 - ends.0))
    }
}

/// `timings.json`: what this machine took.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Timings {
    /// Seconds of training by model.
    pub training: BTreeMap<String, f64>,
    /// Sampling, a row for each point.
    pub points: Vec<TimedPoint>,
}

/// A model with all that is told of it.
pub(super) struct Made {
    pub entry: Entry,
    /// Of training, if they are known.
    pub seconds: Option<f64>,
    pub timings: Vec<TimedPoint>,
    pub sheet: Vec<RgbImage>,
    /// Of sampling.
    pub seeds: Vec<u64>,
}

impl Made {
    /// Mean seconds per picture and the largest peak of memory at a point.
    fn timing(&self, at: &Summary) -> Option<(f64, Option<u64>)> {
        let mine = self.timings.iter();
        let mine = mine.filter(|t| t.sampler == at.sampler && t.passes == at.cost.passes);
        let mine: Vec<Timing> = mine.map(|row| row.timing).collect();
        let mean = mine.iter().map(|t| t.seconds).sum::<f64>() / mine.len() as f64;
        let peak = mine.iter().map(|t| t.peak_bytes).max().flatten();
        (!mine.is_empty()).then_some((mean, peak))
    }
}

pub(super) fn entry(
    config: &CompareConfig,
    plan: &Planned,
    model: &Model,
    points: &[Point],
) -> Result<Entry> {
    let of = |pictures: u64| summaries(points.iter().filter(move |p| p.key.pictures == pictures));
    Ok(Entry {
        name: plan.model.name.clone(),
        ablation: plan.model.ablation,
        parameters: model.parameters(),
        training: training_work(&plan.run)?,
        points: of(config.pictures),
        headline: config.headline.and_then(|n| of(n).pop()),
    })
}

/// Points that differ in their seeds alone, together.
fn summaries<'a>(points: impl Iterator<Item = &'a Point>) -> Vec<Summary> {
    let mut summaries: Vec<Summary> = Vec::new();
    for point in points {
        let k = &point.key;
        let same = |s: &&mut Summary| s.sampler == k.sampler && s.allowed == k.allowed;
        let summary = match summaries.iter_mut().find(same) {
            Some(summary) => summary,
            None => {
                summaries.push(Summary {
                    sampler: k.sampler.clone(),
                    steps: k.steps,
                    allowed: k.allowed,
                    cost: k.cost,
                    distances: BTreeMap::new(),
                });
                let last = summaries.len() - 1;
                &mut summaries[last]
            }
        };
        for (name, value) in &point.distances {
            summary
                .distances
                .entry(name.clone())
                .or_default()
                .push(*value);
        }
    }
    summaries
}

pub(super) fn write(
    config: &CompareConfig,
    set: &PictureSet,
    measures: &[Box<dyn Measure>],
    own: &[Made],
    beside: &[Made],
    out: &Path,
) -> Result<Results> {
    let made: Vec<&Made> = own.iter().chain(beside).collect();
    let results = Results {
        name: config.name.clone(),
        reference: set.len(),
        fingerprint: format!("{:016x}", set.fingerprint()),
        multiply_adds: config.multiply_adds,
        pictures: config.pictures,
        seeds: config.seeds.clone(),
        headline: config.headline,
        measures: measures.iter().flat_map(|m| m.names()).collect(),
        identities: measures.iter().map(|m| m.identity()).collect(),
        models: made.iter().map(|m| m.entry.clone()).collect(),
    };
    let seconds = made.iter().filter_map(|m| Some((m, m.seconds?)));
    let timings = Timings {
        training: seconds.map(|(m, s)| (m.entry.name.clone(), s)).collect(),
        points: made.iter().flat_map(|m| m.timings.clone()).collect(),
    };
    for measure in &results.measures {
        let plain = |c: char| c.is_alphanumeric() || c == '-';
        let words: Vec<&str> = measure
            .split(|c| !plain(c))
            .filter(|w| !w.is_empty())
            .collect();
        let file = format!("curves-{}.png", words.join("-").to_lowercase());
        let bytes = curves(&made, measure).map_err(|e| Error::Argument(e.to_string()))?;
        write_atomic(out.join(file), |w| w.write_all(&bytes))?;
    }
    for ablation in [false, true] {
        let rows = made.iter().filter(|m| m.entry.ablation == ablation);
        let pictures: Vec<RgbImage> = rows.flat_map(|m| m.sheet.iter().cloned()).collect();
        if pictures.is_empty() {
            continue;
        }
        let columns = (config.pictures.min(8)) as usize;
        let layout = picture::Layout {
            columns: Some(columns),
            ..Default::default()
        };
        let name = if ablation {
            "ablations.png"
        } else {
            "pictures.png"
        };
        picture::save_png(out.join(name), &picture::sheet(&pictures, layout)?)?;
    }
    let text =
        markdown(config, &results, &made, own.len()).map_err(|e| Error::Argument(e.to_string()))?;
    write_atomic(out.join("results.md"), |w| w.write_all(text.as_bytes()))?;
    write_json(&out.join("timings.json"), &timings)?;
    // Last: where it is, all is.
    write_json(&out.join("results.json"), &results)?;
    Ok(results)
}

/// The distance against passes, multiply-adds and seconds (the paper's Fig. 4), a curve for each model and sampler.
fn curves(made: &[&Made], measure: &str) -> std::result::Result<Vec<u8>, charts::ChartError> {
    type Abscissa<'a> = &'a dyn Fn(&Made, &Summary) -> Option<f64>;
    let axes: [(&str, Abscissa<'_>); 3] = [
        ("network passes per picture", &|_, s| {
            Some(s.cost.passes as f64)
        }),
        ("multiply-adds per picture", &|_, s| {
            Some(s.cost.multiply_adds as f64)
        }),
        ("seconds per picture", &|m, s| m.timing(s).map(|t| t.0)),
    ];
    let charts = axes.map(|(label, x)| {
        let mut curves: Vec<Curve> = Vec::new();
        for m in made.iter().filter(|m| !m.entry.ablation) {
            for s in &m.entry.points {
                let name = format!("{}, {}", m.entry.name, s.sampler);
                let (Some(x), Some((y, _))) = (x(m, s), s.of(measure)) else {
                    continue;
                };
                match curves.iter_mut().find(|c| c.name == name) {
                    Some(curve) => curve.points.push((x, y)),
                    None => curves.push(Curve {
                        name,
                        points: vec![(x, y)],
                        ..Curve::default()
                    }),
                }
            }
        }
        let equal = if is_equal(made) {
            " at equal training"
        } else {
            ""
        };
        Chart {
            title: format!("{measure}{equal}"),
            x: Axis::log(label),
            y: Axis::linear(measure),
            curves,
            legend: Legend::Emptiest,
        }
    });
    charts::png(&charts, 3)
}

/// Whether the training of all took the same work, to a hundredth: models of other runs may have taken more.
fn is_equal(made: &[&Made]) -> bool {
    let works = made.iter().filter(|m| !m.entry.ablation);
    let works: Vec<f64> = works
        .map(|m| total_work(&m.entry.training) as f64)
        .collect();
    let most = works.iter().copied().fold(0.0, f64::max);
    works.iter().all(|work| *work > 0.99 * most)
}

fn markdown(
    config: &CompareConfig,
    results: &Results,
    made: &[&Made],
    own: usize,
) -> std::result::Result<String, std::fmt::Error> {
    let mut text = String::new();
    let t = &mut text;
    writeln!(t, "# {}\n", results.name)?;
    writeln!(
        t,
        "{} pictures at every point, {} of sampling; against {} training pictures (fingerprint {}). Training of each model of this \
         run: at most {:.3e} multiply-adds. Distances: lower is better; means over seeds, in brackets the largest less the smallest.\n",
        results.pictures,
        match config.seeds.len() {
            1 => "one seed".into(),
            n => format!("{n} seeds"),
        },
        results.reference,
        results.fingerprint,
        config.multiply_adds
    )?;
    if own < config.models.len() {
        let all = config.models.len();
        writeln!(t, "So far {own} of {all} models; the comparison goes on.\n")?;
    }
    if own < made.len() {
        let told = |m: &&Made| match m.seeds == config.seeds {
            true => m.entry.name.clone(),
            false => format!("{} (seeds of sampling {:?})", m.entry.name, m.seeds),
        };
        let names: Vec<String> = made[own..].iter().map(told).collect();
        writeln!(t, "Of other runs: {}.\n", names.join(", "))?;
    }
    for (title, ablation) in [("Models", false), ("Ablations", true)] {
        let rows = made.iter().filter(|m| m.entry.ablation == ablation);
        let rows: Vec<&&Made> = rows.collect();
        if rows.is_empty() {
            continue;
        }
        writeln!(t, "## {title} at {} passes\n", config.sheet)?;
        writeln!(
            t,
            "| model | parameters | training steps | training multiply-adds | training s | sampler | passes | multiply-adds | s per picture | peak MiB | {} |",
            results.measures.join(" | ")
        )?;
        writeln!(t, "|{}", "---|".repeat(10 + results.measures.len()))?;
        for m in rows {
            let e = &m.entry;
            let steps: Vec<String> = (e.training.iter())
                .map(|w| format!("{} {}", w.stage, w.steps))
                .collect();
            for s in e.points.iter().filter(|s| s.allowed == config.sheet) {
                let timing = m.timing(s);
                let seconds = told(timing, |t| format!("{:.4}", t.0));
                let peak = told(timing.and_then(|t| t.1), |b| (b >> 20).to_string());
                let trained = told(m.seconds, |s| format!("{s:.0}"));
                write!(
                    t,
                    "| {} | {} | {} | {:.3e} | {trained} | {} | {} | {:.3e} | {seconds} | {peak} |",
                    e.name,
                    e.parameters,
                    steps.join(", "),
                    total_work(&e.training) as f64,
                    s.sampler,
                    s.cost.passes,
                    s.cost.multiply_adds as f64
                )?;
                distances(t, s, &results.measures)?;
            }
        }
        writeln!(t)?;
    }
    writeln!(
        t,
        "Peak memory is that of the whole process while sampling {} pictures at a time.\n",
        config.batch
    )?;
    writeln!(t, "## Curves\n")?;
    writeln!(
        t,
        "| model | sampler | passes | steps | multiply-adds | {} |",
        results.measures.join(" | ")
    )?;
    writeln!(t, "|{}", "---|".repeat(5 + results.measures.len()))?;
    for e in results.models.iter().filter(|e| !e.ablation) {
        for s in &e.points {
            let adds = s.cost.multiply_adds as f64;
            write!(
                t,
                "| {} | {} | {} | {} | {adds:.3e} |",
                e.name, s.sampler, s.cost.passes, s.steps
            )?;
            distances(t, s, &results.measures)?;
        }
    }
    bar(t, config, results)?;
    headline(t, config, results)?;
    Ok(text)
}

/// A dash for what is not known.
fn told<T>(value: Option<T>, tell: impl Fn(T) -> String) -> String {
    value.map_or("-".into(), tell)
}

fn distances(t: &mut String, s: &Summary, measures: &[String]) -> std::fmt::Result {
    let single = s.distances.values().all(|seeds| seeds.len() < 2);
    for measure in measures {
        match s.of(measure) {
            Some((mean, _)) if single => write!(t, " {} |", figures(mean))?,
            Some((mean, spread)) => {
                let places = places(mean);
                write!(t, " {} ({spread:.places$}) |", figures(mean))?;
            }
            None => write!(t, " - |")?,
        }
    }
    writeln!(t)
}

/// Digits after the point of a value told in four significant figures; no more than six.
fn places(value: f64) -> usize {
    let before = value.abs().max(1e-300).log10().floor() as i64;
    (3 - before).clamp(0, 6) as usize
}

fn figures(value: f64) -> String {
    format!("{value:.*}", places(value))
}

/// How near each model's best sampler at the sheets' passes comes to its best at the most passes: a baseline whose solver is
/// weak would make any other look good.
fn bar(t: &mut String, config: &CompareConfig, results: &Results) -> std::fmt::Result {
    let Some(&most) = config.passes.last().filter(|n| **n != config.sheet) else {
        return Ok(());
    };
    writeln!(
        t,
        "\n## The best sampler at {} passes against {most}\n",
        config.sheet
    )?;
    writeln!(
        t,
        "| model | measure | at {} | at {most} | ratio |",
        config.sheet
    )?;
    writeln!(t, "|---|---|---|---|---|")?;
    for e in results.models.iter().filter(|e| !e.ablation) {
        for measure in &results.measures {
            let best = |allowed: usize| {
                let at = e.points.iter().filter(|s| s.allowed == allowed);
                let means = at.filter_map(|s| s.of(measure).map(|(mean, _)| mean));
                means.min_by(f64::total_cmp)
            };
            if let (Some(few), Some(many)) = (best(config.sheet), best(most)) {
                let ratio = few / many;
                writeln!(
                    t,
                    "| {} | {measure} | {} | {} | {ratio:.3} |",
                    e.name,
                    figures(few),
                    figures(many)
                )?;
            }
        }
    }
    Ok(())
}

/// The points of more pictures.
fn headline(t: &mut String, config: &CompareConfig, results: &Results) -> std::fmt::Result {
    let mut rows = Vec::new();
    for e in &results.models {
        rows.extend(e.headline.iter().map(|s| (e, s)));
    }
    let (Some(pictures), false) = (config.headline, rows.is_empty()) else {
        return Ok(());
    };
    let (sheet, seed) = (config.sheet, config.seeds[0]);
    writeln!(
        t,
        "\n## {pictures} pictures of seed {seed} at {sheet} passes\n"
    )?;
    let measures = results.measures.join(" | ");
    writeln!(t, "| model | sampler | passes | {measures} |")?;
    writeln!(t, "|---|---|---|{}", "---|".repeat(results.measures.len()))?;
    for (e, s) in rows {
        write!(t, "| {} | {} | {} |", e.name, s.sampler, s.cost.passes)?;
        distances(t, s, &results.measures)?;
    }
    Ok(())
}
