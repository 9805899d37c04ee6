//! The theory in numbers: Theorem 1 beside the exact divergence, steps needed, pixels against wavelets.
//!
//! `cargo run -p score-sde --example theory -- FOLDER` prints the tables and writes the plots of docs/theory.md to FOLDER
//! (target/theory if none is given).

use charts::{Axis, Chart, Curve, Line};
use score_sde::error::Result;
use score_sde::theory::{
    Field, HAAR, Spectrum, Steps, Terms, first_order, outcome, power_fit, printed_order,
    steps_needed,
};
use std::path::{Path, PathBuf};

/// A spectrum's name and how it follows from its condition number.
type Family = (&'static str, fn(f64) -> Result<Spectrum>);

const FAMILIES: [Family; 2] = [
    ("two eigenvalues", Spectrum::two),
    ("1/k^2, k = 1..sqrt(kappa)", |kappa| {
        Spectrum::power_law(kappa.sqrt().round() as usize, 2.0)
    }),
];
const KAPPAS: [f64; 6] = [4.0, 16.0, 64.0, 256.0, 1024.0, 4096.0];
const SIZES: [usize; 6] = [32, 64, 128, 256, 512, 1024];
const BOUNDS: [f64; 4] = [1e-1, 1e-2, 1e-3, 1e-4];
const LIMIT: usize = 200_000;

/// Daubechies' filter of two vanishing moments, PyWavelets' db2.
fn db2() -> [f64; 4] {
    let (root, scale) = (3f64.sqrt(), 32f64.sqrt());
    [1.0 + root, 3.0 + root, 3.0 - root, 1.0 - root].map(|h| h / scale)
}

fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    let folder = PathBuf::from(std::env::args().nth(1).unwrap_or("target/theory".into()));
    std::fs::create_dir_all(&folder)?;
    first_orders()?;
    draw(&folder.join("theory-terms.png"), &terms()?)?;
    draw(&folder.join("theory-kappa.png"), &steps_of_kappa()?)?;
    draw(&folder.join("theory-pictures.png"), &pictures()?)?;
    println!("\nplots: {}", folder.display());
    Ok(())
}

/// Writes a chart, whole or not at all.
fn draw(path: &Path, chart: &Chart) -> std::result::Result<(), Box<dyn std::error::Error>> {
    let part = path.with_extension("png.tmp");
    std::fs::write(&part, charts::png(std::slice::from_ref(chart), 1)?)?;
    std::fs::rename(part, path)?;
    Ok(())
}

fn line(dashed: bool) -> Line {
    if dashed { Line::Dashed } else { Line::Marked }
}

fn first_orders() -> Result<()> {
    println!("c(l) of the variance l (1 + delta c(l)) that small steps make of eigenvalue l\n");
    println!("| l | recursion | c(l) | as printed in Theorem 1 |\n|---|---|---|---|");
    for l in [0.01, 0.1, 0.5, 1.0, 2.0, 10.0, 100.0] {
        let spectrum = Spectrum::new(&[l])?;
        // Richardson's extrapolation from two step sizes.
        let slope = |n: usize| {
            let v = outcome(&spectrum, 12.0, n)[0].variance;
            (v / l - 1.0) / (12.0 / n as f64)
        };
        let measured = 2.0 * slope(100_000) - slope(50_000);
        println!(
            "| {l} | {measured:.4} | {:.4} | {:.4} |",
            first_order(l),
            printed_order(l)
        );
    }
    Ok(())
}

fn terms() -> Result<Chart> {
    println!("\nthe divergence in nats and its parts; T horizon, N steps, delta = T / N\n");
    println!(
        "| spectrum | d | T | N | KL | horizon alone | E_T | steps alone | first order | E_delta, exact c | E_delta, printed |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|---|");
    let cases = [
        ("all 1", Spectrum::new(&[1.0; 16])?),
        ("0.9 and 1.1", Spectrum::two(1.1 / 0.9)?),
        ("kappa 10", Spectrum::two(10.0)?),
        ("kappa 1000", Spectrum::two(1000.0)?),
        ("1/k^2", Spectrum::power_law(16, 2.0)?),
    ];
    for (name, spectrum) in &cases {
        for (horizon, steps) in [(1.0, 1000), (3.0, 1000), (3.0, 10_000)] {
            let t = Terms::new(spectrum, horizon, steps);
            println!(
                "| {name} | {} | {horizon} | {steps} | {:.2e} | {:.2e} | {:.2e} | {:.2e} | {:.2e} | {:.2e} | {:.2e} |",
                spectrum.dimension(),
                t.kl,
                t.horizon,
                t.theorem_horizon,
                t.step,
                t.step_first_order,
                t.theorem_step,
                t.theorem_step_printed
            );
        }
    }
    let spectrum = Spectrum::two(10.0)?;
    let steps: Vec<usize> = (0..=24)
        .map(|i| (10f64 * 10f64.powf(i as f64 / 8.0)) as usize)
        .collect();
    let curve = |name: &str, g: &dyn Fn(&Terms) -> f64| Curve {
        name: name.into(),
        line: line(!name.starts_with("exact")),
        points: steps
            .iter()
            .map(|&n| (1.5 / n as f64, g(&Terms::new(&spectrum, 1.5, n))))
            .filter(|p| p.1.is_finite() && p.1 < 10.0)
            .collect(),
    };
    Ok(Chart {
        title: "two eigenvalues, kappa = 10, T = 1.5".into(),
        x: Axis::log("delta"),
        y: Axis::log("nats"),
        curves: vec![
            curve("exact KL", &|t| t.kl),
            curve("exact, steps alone", &|t| t.step),
            curve("first order", &|t| t.step_first_order),
            curve("E_delta, exact c", &|t| t.theorem_step),
            curve("E_delta, printed", &|t| t.theorem_step_printed),
            curve("E_T", &|t| t.theorem_horizon),
        ],
        ..Chart::default()
    })
}

/// The steps for each bound on the divergence per dimension; those of one step or none are left out of fits.
fn row(spectrum: &Spectrum, per: f64) -> Result<Vec<Option<Steps>>> {
    let find = |e: &f64| steps_needed(spectrum, e * per, LIMIT);
    BOUNDS.iter().map(find).collect()
}

fn cells(row: &[Option<Steps>]) -> String {
    let cell = |s: &Option<Steps>| s.map_or("-".into(), |s| s.steps.to_string());
    row.iter().map(cell).collect::<Vec<_>>().join(" | ")
}

/// Points (x, N) with more than `least` steps: few steps are no power of anything.
fn beyond(least: usize, points: impl Iterator<Item = (f64, Option<Steps>)>) -> Vec<(f64, f64)> {
    points
        .filter_map(|(x, s)| s.map(|s| (x, s.steps)))
        .filter(|(_, n)| *n > least)
        .map(|(x, n)| (x, n as f64))
        .collect()
}

fn steps_of_kappa() -> Result<Chart> {
    let mut curves = Vec::new();
    for (name, family) in FAMILIES {
        for per_dimension in [false, true] {
            let scope = if per_dimension {
                "per dimension"
            } else {
                "in all"
            };
            println!("\nsteps needed for a divergence of at most epsilon nats {scope}: {name}\n");
            println!(
                "| kappa | d | eps 0.1 | 0.01 | 0.001 | 0.0001 | N ~ eps^ |\n|---|---|---|---|---|---|---|"
            );
            let mut rows = Vec::new();
            for kappa in KAPPAS {
                let spectrum = family(kappa)?;
                let d = spectrum.dimension();
                let row = row(&spectrum, if per_dimension { d } else { 1.0 })?;
                let points = beyond(10, BOUNDS.iter().copied().zip(row.iter().copied()));
                println!(
                    "| {kappa} | {d} | {} | {:.2} |",
                    cells(&row),
                    power_fit(&points)
                );
                rows.push(row);
            }
            let column = |i: usize| beyond(10, KAPPAS.iter().zip(&rows).map(|(k, r)| (*k, r[i])));
            let fits: Vec<String> = (0..BOUNDS.len())
                .map(|i| format!("{:.2}", power_fit(&column(i))))
                .collect();
            println!("| N ~ kappa^ | | {} | |", fits.join(" | "));
            curves.push(Curve {
                name: format!("{name}, {scope}"),
                line: Line::Marked,
                points: column(2),
            });
        }
    }
    // The bound has an unknown constant: drawn through the first point of the first curve.
    let (x0, y0) = curves[0].points[0];
    curves.push(Curve {
        name: "the bound's kappa^3".into(),
        line: Line::Dashed,
        points: [1.0, 4.0, 16.0].map(|r| (x0 * r, y0 * r.powi(3))).into(),
    });
    Ok(Chart {
        title: "steps for a divergence of 0.001 nats".into(),
        x: Axis::log("kappa"),
        y: Axis::log("steps"),
        curves,
        ..Chart::default()
    })
}

fn pictures() -> Result<Chart> {
    let bounds = &BOUNDS[1..3];
    println!("\npictures with spectrum 1/|w|^2: condition numbers\n");
    println!(
        "| size | pixels | low band, 2 levels | details given low, finest to coarsest (Haar) | low band 8 x 8 | details (db2) |"
    );
    println!("|---|---|---|---|---|---|");
    let mut all = Vec::new();
    for size in SIZES {
        let field = Field::power_law(size, 2.0)?;
        let levels = (size / 8).ilog2() as usize;
        let (low, details) = field.pyramid(&HAAR, levels)?;
        let (_, smoother) = field.pyramid(&db2(), levels)?;
        let second = field.pyramid(&HAAR, 2)?.0;
        let kappas = |details: &[score_sde::theory::Details]| {
            let each = details
                .iter()
                .map(|d| format!("{:.1}", d.conditional.condition()));
            each.collect::<Vec<_>>().join(" ")
        };
        println!(
            "| {size} | {:.0} | {:.0} | {} | {:.0} | {} |",
            field.condition(),
            second.condition(),
            kappas(&details),
            low.condition(),
            kappas(&smoother)
        );
        let mut joint = low.spectrum()?;
        for d in &details {
            joint = joint.join(&d.conditional);
        }
        all.push((field.spectrum()?, second.spectrum()?, joint));
    }
    let mut curves = Vec::new();
    for (scope, per_pixel) in [("per pixel", true), ("in all", false)] {
        println!("\nsteps needed for a divergence of at most epsilon nats {scope}\n");
        println!(
            "| size | pixels, {0} | {1} | wavelets, {0} | {1} | low band of 2 levels, {0} | {1} |\n|---|---|---|---|---|---|---|",
            bound(bounds[0], per_pixel),
            bound(bounds[1], per_pixel)
        );
        let mut columns = vec![Vec::new(); 6];
        for (size, (pixels, second, joint)) in SIZES.iter().zip(&all) {
            let mut cells = Vec::new();
            for (k, spectrum) in [pixels, joint, second].into_iter().enumerate() {
                for (j, e) in bounds.iter().enumerate() {
                    let target = if per_pixel {
                        e * spectrum.dimension()
                    } else {
                        1e4 * e
                    };
                    let found = steps_needed(spectrum, target, LIMIT)?;
                    cells.push(found.map_or("-".into(), |s| s.steps.to_string()));
                    columns[2 * k + j].extend(found.map(|s| (*size as f64, s.steps as f64)));
                }
            }
            println!("| {size} | {} |", cells.join(" | "));
        }
        let fits: Vec<String> = columns
            .iter()
            .map(|c| format!("{:.2}", power_fit(c)))
            .collect();
        println!("| N ~ size^ | {} |", fits.join(" | "));
        if per_pixel {
            let names = [
                "pixels",
                "wavelets, same steps in every band",
                "low band of 2 levels",
            ];
            for (k, name) in names.into_iter().enumerate() {
                curves.push(Curve {
                    name: name.into(),
                    line: line(k == 2),
                    points: columns[2 * k + 1].clone(),
                });
            }
        }
    }
    Ok(Chart {
        title: "steps for 0.001 nats per pixel, spectrum 1/|w|^2".into(),
        x: Axis::log("pixels a side"),
        y: Axis::log("steps"),
        curves,
        ..Chart::default()
    })
}

fn bound(e: f64, per_pixel: bool) -> String {
    format!("{}", if per_pixel { e } else { 1e4 * e })
}
