//! The charts of an analysis.

use super::report::{Analysis, BandReport, SizeReport};
use charts::{Axis, Chart, ChartError, Curve, Legend, Line, png};
use std::f64::consts::TAU;

/// Every page: its file's name and its bytes.
pub(super) fn draw(analysis: &Analysis) -> Result<Vec<(&'static str, Vec<u8>)>, ChartError> {
    let Some(report) = analysis.sizes.first() else {
        return Err(ChartError::Empty("analysis".into()));
    };
    let spectra = [
        low_spectra(report),
        detail_spectra(report),
        components(report),
        conditions(report),
    ];
    let divergence = [
        by_level(
            analysis,
            "as Gaussians: KL per dimension from N(0, 1)",
            |b| b.kl_gaussian,
        ),
        by_level(
            analysis,
            "single values: KL of their histogram from N(0, 1)",
            |b| b.kl_marginal,
        ),
    ];
    let details = [densities(report), sparsity(report)];
    Ok(vec![
        ("spectra.png", png(&spectra, 2)?),
        ("divergence.png", png(&divergence, 2)?),
        ("details.png", png(&details, 2)?),
        ("drowning.png", png(&[drowning(analysis)], 1)?),
    ])
}

fn curve(name: impl Into<String>, line: Line, points: Vec<(f64, f64)>) -> Curve {
    Curve {
        name: name.into(),
        line,
        points,
    }
}

/// Mean over the components at 1, 2 ... cycles a side, with the frequency 0 left out.
fn radial(band: &BandReport) -> Vec<(f64, f64)> {
    let count = band.radial.len().max(1) as f64;
    let mean = |r: usize| band.radial.iter().filter_map(|c| c.get(r)).sum::<f64>() / count;
    let length = band.radial.first().map_or(0, Vec::len);
    (1..length).map(|r| (r as f64, mean(r))).collect()
}

/// The power law through the third point of a curve.
fn inverse_square(points: &[(f64, f64)]) -> Curve {
    let anchor = points.get(2).or(points.first());
    let law = |&(x0, y0): &(f64, f64)| {
        let line = points.iter().map(move |&(x, _)| (x, y0 * (x0 / x).powi(2)));
        line.collect()
    };
    curve("1/w^2", Line::Dashed, anchor.map(law).unwrap_or_default())
}

fn spectrum(title: String, curves: Vec<Curve>, legend: Legend) -> Chart {
    Chart {
        title,
        x: Axis::log("cycles a side"),
        y: Axis::log("eigenvalue, mean 1"),
        curves,
        legend,
    }
}

fn low_spectra(report: &SizeReport) -> Chart {
    let lows = || report.bands.iter().filter(|b| b.is_low());
    let mut curves: Vec<Curve> = lows()
        .map(|b| curve(&b.name, Line::Plain, radial(b)))
        .collect();
    curves.extend(lows().next().map(|b| inverse_square(&radial(b))));
    let title = format!(
        "low bands of {0} x {0}: mean power by frequency",
        report.size
    );
    spectrum(title, curves, Legend::LowerLeft)
}

fn detail_spectra(report: &SizeReport) -> Chart {
    let level = |level: usize| {
        let bands: Vec<_> = report.details(level).map(radial).collect();
        let length = bands.first().map_or(0, Vec::len);
        let mean = |r: usize| {
            let sum: f64 = bands.iter().map(|b| b[r].1).sum();
            ((r + 1) as f64, sum / bands.len() as f64)
        };
        let points = (0..length).map(mean).collect();
        curve(format!("details of level {level}"), Line::Plain, points)
    };
    spectrum(
        "details, each band standardised: mean power by frequency".into(),
        (1..=report.levels).map(level).collect(),
        Legend::UpperRight,
    )
}

fn components(report: &SizeReport) -> Chart {
    let one = |(i, powers): (usize, &Vec<f64>)| {
        let points = powers.iter().enumerate().skip(1);
        let points = points.map(|(r, &p)| (r as f64, p)).collect();
        curve(format!("component {}", i + 1), Line::Plain, points)
    };
    let pixels = report
        .low(0)
        .map(|b| b.radial.as_slice())
        .unwrap_or_default();
    let mut curves: Vec<Curve> = pixels.iter().enumerate().map(one).collect();
    if let (Some(first), Some(band)) = (curves.first(), report.low(0)) {
        let line = |&(x, _): &(f64, f64)| (x, band.rounding_floor);
        let floor = first.points.iter().map(line).collect();
        curves.push(curve("rounding to 8 bits", Line::Dashed, floor));
    }
    spectrum(
        "pixels: principal components of the channels".into(),
        curves,
        Legend::UpperRight,
    )
}

fn conditions(report: &SizeReport) -> Chart {
    let lows = report.bands.iter().filter(|b| b.is_low());
    let mut curves = vec![
        curve(
            "low band",
            Line::Marked,
            lows.clone()
                .map(|b| (b.level as f64, b.condition))
                .collect(),
        ),
        curve(
            "low band, means over annuli",
            Line::Dashed,
            lows.map(|b| (b.level as f64, b.condition_radial)).collect(),
        ),
    ];
    for name in ["LH", "HL", "HH"] {
        let bands = report.bands.iter().filter(|b| b.name.starts_with(name));
        curves.push(curve(
            name,
            Line::Marked,
            bands.map(|b| (b.level as f64, b.condition)).collect(),
        ));
    }
    Chart {
        title: "condition numbers".into(),
        x: Axis::whole("level (0: the pixels)"),
        y: Axis::log("kappa"),
        curves,
        legend: Legend::UpperRight,
    }
}

fn by_level(analysis: &Analysis, title: &str, value: fn(&BandReport) -> f64) -> Chart {
    let curves = analysis.sizes.iter().map(|size| {
        let lows = size.bands.iter().filter(|b| b.is_low());
        let points = lows.map(|b| (b.level as f64, value(b))).collect();
        curve(
            format!("pictures of {0} x {0}", size.size),
            Line::Marked,
            points,
        )
    });
    Chart {
        title: title.into(),
        x: Axis::whole("level of the low band (0: the pixels)"),
        y: Axis::linear("nats per dimension"),
        curves: curves.collect(),
        legend: Legend::UpperRight,
    }
}

fn densities(report: &SizeReport) -> Chart {
    // The orientation in the middle stands for its level.
    let of = |name: String, band: &BandReport| curve(name, Line::Plain, band.density.clone());
    let mut curves: Vec<Curve> = (1..=report.levels)
        .filter_map(|l| report.details(l).nth(1).map(|b| of(b.name.clone(), b)))
        .collect();
    let deepest = report.low(report.levels);
    curves.extend(deepest.map(|b| of(b.name.clone(), b)));
    let gaussian = (-160..=160).map(|i| {
        let x = f64::from(i) / 16.0;
        (x, (-x * x / 2.0).exp() / TAU.sqrt())
    });
    curves.push(curve("Gaussian", Line::Dashed, gaussian.collect()));
    Chart {
        title: "how values are distributed".into(),
        x: Axis::linear("value in standard deviations").within(-10.0, 10.0),
        y: Axis::log("density").within(1e-5, 10.0),
        curves,
        legend: Legend::UpperLeft,
    }
}

fn sparsity(report: &SizeReport) -> Chart {
    let of = |name: &str, value: fn(&BandReport) -> f64| -> Vec<(f64, f64)> {
        let bands = report.bands.iter().filter(|b| b.name.starts_with(name));
        bands.map(|b| (b.level as f64, value(b))).collect()
    };
    let mut curves: Vec<Curve> = ["LL", "LH", "HL", "HH"]
        .map(|name| curve(name, Line::Marked, of(name, |b| b.kurtosis)))
        .into();
    let levels = (1..=report.levels).map(|l| (l as f64, 3.0));
    curves.push(curve("Gaussian", Line::Dashed, levels.collect()));
    Chart {
        title: "kurtosis".into(),
        x: Axis::whole("level"),
        y: Axis::linear("fourth standardised moment"),
        curves,
        legend: Legend::UpperRight,
    }
}

fn drowning(analysis: &Analysis) -> Chart {
    let d = &analysis.diffusion;
    let levels = analysis.sizes.first().map_or(0, |s| s.levels);
    let line = |name: &str, line: Line| {
        let found = d.bands.iter().find(|b| b.name == name);
        found.map(|b| {
            let points = d.times.iter().copied().zip(b.snr.iter().copied());
            curve(name, line, points.collect())
        })
    };
    let mut curves: Vec<Curve> = line(&format!("LL{levels}"), Line::Plain)
        .into_iter()
        .collect();
    for level in (1..=levels).rev() {
        curves.extend(line(&format!("HL{level}"), Line::Plain));
    }
    curves.extend(line("HH1", Line::Plain));
    let equal = d.times.iter().map(|&t| (t, 1.0)).collect();
    curves.push(curve("signal as strong as noise", Line::Dashed, equal));
    Chart {
        title: "how bands drown: a VP diffusion of the pixels, beta 0.1 to 20".into(),
        x: Axis::linear("time"),
        y: Axis::log("signal over noise").within(1e-6, 1e5),
        curves,
        legend: Legend::UpperRight,
    }
}
