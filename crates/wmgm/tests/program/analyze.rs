//! `wmgm analyze` against numpy (`scripts/analyze.py`), white noise, a known power law; its files, errors and determinism.

use super::common::{contents, fails, names, ok, patterned, wmgm};
use image::Rgb;
use nn_ops::noise;
use rustfft::num_complex::Complex;
use score_sde::theory::Field;
use serde_json::Value;
use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use wmgm::analyze::{AnalyzeOptions, analyze};
use wmgm::picture::RgbImage;

fn cases() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases/analyze")
}

/// The pictures of the script, as files in `in`.
fn write_pictures(at: &Path) {
    fs::create_dir_all(at.join("in")).unwrap();
    let strip = image::open(cases().join("pictures.png"))
        .unwrap()
        .into_rgb8();
    for i in 0..strip.width() / 64 {
        let one = image::imageops::crop_imm(&strip, 64 * i, 0, 64, 64).to_image();
        one.save(at.join(format!("in/{i:02}.png"))).unwrap();
    }
}

fn run(at: &Path, out: &str, args: &[&str]) -> Value {
    let mut command = wmgm(at, ["analyze", "--data", "in", "--out", out]);
    ok({
        command.args(args);
        command
    });
    serde_json::from_slice(&fs::read(at.join(out).join("analysis.json")).unwrap()).unwrap()
}

#[track_caller]
fn near(what: &str, got: &Value, want: &Value, relative: f64, absolute: f64) {
    let pair = (got.as_array(), want.as_array());
    if let (Some(got), Some(want)) = pair {
        assert_eq!(got.len(), want.len(), "{what}");
        let pairs = got.iter().zip(want);
        return pairs.for_each(|(g, w)| near(what, g, w, relative, absolute));
    }
    let (got, want) = (got.as_f64().unwrap(), want.as_f64().unwrap());
    assert!(
        (got - want).abs() <= relative * want.abs() + absolute,
        "{what}: {got} instead of {want}"
    );
}

#[test]
fn the_numbers_are_those_of_numpy() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    write_pictures(at);
    let cases: Vec<Value> =
        serde_json::from_slice(&fs::read(cases().join("numbers.json")).unwrap()).unwrap();
    for (wavelet, levels) in [("haar", "3"), ("db2", "2")] {
        let args = ["--size", "64", "--levels", levels, "--wavelet", wavelet];
        let got = run(at, "out", &args);
        assert_eq!(
            (&got["pictures"], &got["enlarged"]),
            (&12.into(), &0.into())
        );
        let wanted: Vec<&Value> = cases.iter().filter(|c| c["wavelet"] == wavelet).collect();
        let sizes = got["sizes"].as_array().unwrap();
        assert_eq!(sizes.len(), wanted.len());
        for (got, want) in sizes.iter().zip(wanted) {
            let bands = |v: &Value| v["bands"].as_array().unwrap().clone();
            assert_eq!(bands(got).len(), bands(want).len());
            for (got, want) in bands(got).iter().zip(bands(want)) {
                assert_eq!((&got["name"], &got["side"]), (&want["name"], &want["side"]));
                let check = |field: &str, relative, absolute| {
                    let what = format!("{wavelet} {} {field}", want["name"]);
                    near(&what, &got[field], &want[field], relative, absolute);
                };
                check("mean", 1e-5, 1e-6);
                for field in ["std", "kurtosis", "drowns_at"] {
                    check(field, 1e-5, 0.0);
                }
                // The weakest eigenvalues come from f32 bands.
                check("components", 1e-5, 1e-9);
                for field in ["kl_gaussian", "kl_colour", "radial"] {
                    check(field, 1e-4, 1e-7);
                }
                for field in ["condition", "condition_components", "condition_radial"] {
                    check(field, 1e-2, 0.0);
                }
                // The same noise undoes the rounding there; a value at a bin's edge may fall to either side, and energies
                // here are those of bins.
                check("kl_marginal", 1e-3, 5e-4);
                check("near_zero", 0.0, 2e-3);
                check("half_energy", 0.0, 1e-3);
            }
        }
    }
}

/// Pictures of `side` made of planes, as files; `std` in levels of 256.
fn write_planes(at: &Path, side: u32, std: f32, planes: impl Fn(u64) -> [Vec<f32>; 3], count: u64) {
    fs::create_dir_all(at.join("in")).unwrap();
    for i in 0..count {
        let planes = planes(i);
        let picture = RgbImage::from_fn(side, side, |x, y| {
            let k = (y * side + x) as usize;
            Rgb([0, 1, 2].map(|c| (127.5 + std * planes[c][k]).round().clamp(0.0, 255.0) as u8))
        });
        picture.save(at.join(format!("in/{i:03}.png"))).unwrap();
    }
}

fn white(i: u64, channel: u32, len: usize) -> Vec<f32> {
    let mut out = vec![0f32; len];
    noise::fill_normal(3, i, 1, channel, &mut out);
    out
}

/// Nothing to gain from wavelets: every band is N(0, 1), up to the sampling error of 150 pictures.
#[test]
fn white_noise_is_white() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let planes = |i| [0, 1, 2].map(|c| white(i, c, 32 * 32));
    write_planes(at, 32, 30.0, planes, 150);
    let got = run(at, "out", &["--size", "32", "--levels", "2"]);
    for band in got["sizes"][0]["bands"].as_array().unwrap() {
        let number = |name: &str| band[name].as_f64().unwrap();
        let name = &band["name"];
        // 1/4 of the mean square of relative errors is 1/600.
        assert!(
            number("kl_gaussian") < 0.004,
            "{name}: {}",
            number("kl_gaussian")
        );
        assert!(
            number("kl_marginal") < 0.004,
            "{name}: {}",
            number("kl_marginal")
        );
        assert!(number("condition") < 2.2, "{name}: {}", number("condition"));
        // Five standard errors of so many independent values.
        let values = 150.0 * 3.0 * number("side").powi(2);
        let check = |field: &str, want: f64, variance: f64| {
            let (got, error) = (number(field), (variance / values).sqrt());
            assert!((got - want).abs() < 5.0 * error, "{name} {field}: {got}");
        };
        check("kurtosis", 3.0, 24.0);
        check("near_zero", 0.079_656, 0.0733);
        check("half_energy", 0.1241, 0.1087);
        let std = 30.0 / 127.5;
        check("std", std, std * std / 2.0);
    }
    let advice = &got["advice"];
    assert_eq!(advice["levels"], 0);
    assert!(
        advice["reason"].as_str().unwrap().contains("not sparse"),
        "{advice}"
    );
}

/// A plane of Gaussian noise with this power, from white noise.
fn coloured(field: &Field, noise: &[f32]) -> Vec<f32> {
    let n = field.size();
    let mut planner = rustfft::FftPlanner::new();
    let mut x: Vec<Complex<f64>> = noise
        .iter()
        .map(|&v| Complex::new(f64::from(v), 0.0))
        .collect();
    let mut both = |x: &mut Vec<Complex<f64>>, inverse: bool| {
        let plan = match inverse {
            true => planner.plan_fft_inverse(n),
            false => planner.plan_fft_forward(n),
        };
        for _ in 0..2 {
            plan.process(x);
            *x = (0..n * n).map(|k| x[k % n * n + k / n]).collect();
        }
    };
    both(&mut x, false);
    x.iter_mut()
        .zip(field.power())
        .for_each(|(x, p)| *x *= p.sqrt());
    both(&mut x, true);
    x.iter().map(|x| (x.re / (n * n) as f64) as f32).collect()
}

/// A law that is known: 1/w^2 in one channel's worth of colour, its divergence and condition number in closed form.
#[test]
fn a_known_power_law_comes_back() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let field = Field::power_law(32, 2.0).unwrap();
    let count = 400;
    let grey = |i| {
        let plane = coloured(&field, &white(i, 0, 32 * 32));
        [plane.clone(), plane.clone(), plane]
    };
    write_planes(at, 32, 24.0, grey, count);
    let options = AnalyzeOptions {
        size: 32,
        levels: Some(2),
        ..AnalyzeOptions::default()
    };
    let got = analyze(at.join("in"), &options, &|_| ControlFlow::Continue(())).unwrap();
    let report = &got.sizes[0];
    let pixels = report.low(0).unwrap();
    // Three equal channels are one component; rounding adds what it says to every eigenvalue.
    assert_eq!(pixels.components.len(), 1);
    let floor = pixels.rounding_floor;
    assert!(
        (0.0001..0.0002).contains(&(3.0 * floor)) || floor < 1e-3,
        "{floor}"
    );
    let error = 1.0 / (count as f64).sqrt();
    for (r, (got, want)) in pixels.radial[0].iter().zip(field.radial()).enumerate() {
        // An annulus holds at least four frequencies in pairs that are one, but for the corner and 0.
        let spread = if r == 0 || r == 23 { 6.0 } else { 4.0 };
        assert!(
            (got / want - 1.0).abs() < spread * error,
            "{r}: {got} {want}"
        );
    }
    let want = field.condition();
    assert!(
        (0.8..1.4).contains(&(pixels.condition / want)),
        "{} {want}",
        pixels.condition
    );
    let d = (32 * 32) as f64;
    let entropy: f64 = field
        .power()
        .iter()
        .map(|l| 0.5 * (l - 1.0 - l.ln()))
        .sum::<f64>()
        / d;
    assert!(
        (pixels.kl_gaussian - entropy).abs() < 0.02,
        "{} {entropy}",
        pixels.kl_gaussian
    );
    // The bands of the theory: the low band of two levels, and the details, not sparse.
    let (low, details) = field.pyramid(&score_sde::theory::HAAR, 2).unwrap();
    let two = report.low(2).unwrap();
    assert!(
        (0.8..1.3).contains(&(two.condition / low.condition())),
        "{}",
        two.condition
    );
    for (level, details) in details.iter().enumerate() {
        // HL is high along a row, the first of the theory's.
        for (k, want) in [1, 0, 2].into_iter().zip(details.std) {
            let got = report.details(level + 1).nth(k).unwrap();
            assert!(
                (got.kurtosis - 3.0).abs() < 0.2,
                "{} {}",
                got.name,
                got.kurtosis
            );
            let std = got.std / pixels.std;
            assert!(
                (std / want - 1.0).abs() < 0.03,
                "{}: {std} {want}",
                got.name
            );
        }
    }
    assert_eq!(got.advice.levels, 0);
    // Strong bands drown late: the time at which a VP process's noise equals the band.
    assert!(report.low(0).unwrap().drowns_at < report.low(1).unwrap().drowns_at);
}

#[test]
fn neither_threads_nor_copies_change_the_files() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    write_pictures(at);
    let files = |out: &str, threads: &str| {
        let args = ["analyze", "--data", "in", "--size", "64", "--out", out];
        let mut command = wmgm(at, args);
        command.env("RAYON_NUM_THREADS", threads);
        let text = ok(command);
        assert!(
            text.contains("advice    ") && text.contains("pixels     64"),
            "{text}"
        );
        contents(&at.join(out))
    };
    let one = files("one", "1");
    let expected = [
        "analysis.json",
        "details.png",
        "divergence.png",
        "drowning.png",
        "spectra.png",
    ];
    assert_eq!(names(&at.join("one")), expected);
    assert!(one == files("three", "3"));
    // An older analysis is replaced as a whole.
    fs::write(at.join("three/old"), "").unwrap();
    assert!(one == files("three", "2"));
}

#[test]
fn what_cannot_be_measured_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let analyze = |args: &[&str]| {
        let mut command = wmgm(at, ["analyze"]);
        command.args(args);
        command
    };
    fails(analyze(&["--data", "nowhere"]), &["nowhere"]);
    fs::create_dir(at.join("empty")).unwrap();
    fails(analyze(&["--data", "empty"]), &["no pictures in empty"]);
    write_pictures(at);
    for (args, expected) in [
        (&["--wavelet", "cats"][..], "cats"),
        (&["--levels", "0"], "levels is 0"),
        (&["--levels", "6", "--size", "32"], "levels is 6"),
        (&["--levels", "3", "--size", "36"], "levels is 3"),
        (&["--size", "4"], "size is 4"),
        (&["--size", "2048"], "size is 2048"),
        (&["--size", "33"], "size is 33"),
        (&["--out", "missing/out"], "missing"),
        (&["--out", "in"], "will not replace the folder in"),
    ] {
        let mut command = analyze(&["--data", "in"]);
        command.args(args);
        fails(command, &[expected]);
    }
    fs::create_dir(at.join("flat")).unwrap();
    for i in 0..3 {
        RgbImage::from_pixel(32, 32, Rgb([7, 7, 7]))
            .save(at.join(format!("flat/{i}.png")))
            .unwrap();
    }
    fails(
        analyze(&["--data", "flat", "--size", "32"]),
        &["the band pixels", "the same everywhere"],
    );
    fs::create_dir(at.join("single")).unwrap();
    patterned(1, 32, 32).save(at.join("single/a.png")).unwrap();
    fails(
        analyze(&["--data", "single", "--size", "32"]),
        &["at least two"],
    );
    fs::write(at.join("in/broken.png"), "no picture").unwrap();
    fails(
        analyze(&["--data", "in", "--size", "32"]),
        &["1 of 13 pictures", "broken.png"],
    );
    assert_eq!(names(at), ["empty", "flat", "in", "single"]);
}
