//! Whole trajectories against diffusers' schedulers of the same name and options, on formulas in place of networks.
//! `scripts/diffusers_schedulers.py` made the numbers.
//!
//! diffusers keeps betas, their products and noise levels in f32, and most of its schedulers the state as well; here all
//! is f64. That is what the differences below 1e-4 consist of.

use candle_core::{Device, Result, Tensor};
use score_sde::diffusion::{
    BetaSchedule, EndVariance, GaussianDiffusion, LossType, MeanType, SigmaDenoiser, VarType,
    strided_bars,
};
use score_sde::grid::{GridConfig, NoiseTable, SigmaSpacing, TimeGrid, TimeRounding, exponential};
use score_sde::prediction::Prediction;
use score_sde::sampler::{
    Clipped, Ddim, Denoiser, KeptNoise, NetworkDenoiser, Path, SamplerName, SolverConfig,
    Thresholded, ddim, ddpm,
};
use score_sde::{Edm, sampler};
use serde::Deserialize;
use std::cell::RefCell;
use std::collections::HashMap;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    model: String,
    #[serde(default)]
    prediction: Prediction,
    #[serde(default)]
    spread: f64,
    #[serde(default)]
    betas: BetaSchedule,
    #[serde(default)]
    ve: bool,
    #[serde(default)]
    path: Path,
    start: f64,
    solver: SolverConfig,
    grid: GridConfig,
    threshold: Option<(f64, f64)>,
    clip: Option<f64>,
    variance: Option<String>,
    #[serde(default)]
    kept: KeptNoise,
    #[serde(default = "yes")]
    end_at_one: bool,
    #[serde(default)]
    process_alone: bool,
    schedule: Option<String>,
    #[serde(default)]
    v: bool,
    #[serde(default)]
    sigma_min_end: bool,
}

fn yes() -> bool {
    true
}

struct Data(HashMap<String, Tensor>);

impl Data {
    fn load() -> Self {
        let path = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/tests/cases/schedulers.safetensors"
        );
        Self(candle_core::safetensors::load(path, &Device::Cpu).unwrap())
    }

    fn cases(&self) -> Vec<Case> {
        let text = self.0["cases"].to_vec1::<u8>().unwrap();
        serde_json::from_slice(&text).unwrap()
    }

    fn vec(&self, name: &str) -> Vec<f64> {
        self.0[name].to_vec1().unwrap()
    }

    fn noise(&self, i: usize) -> Result<Tensor> {
        self.0["noises"].get(i)
    }
}

/// The exact prediction for data at -spread and spread, each with variance 0.04.
fn toy(kind: &str, prediction: Prediction, spread: f64, x: &Tensor, t: f64) -> Result<Tensor> {
    let u = (t + 1.0) / 1000.0;
    let (a, s) = if kind == "flow" {
        let s = u.min(0.9999);
        (1.0 - s, s)
    } else {
        let bar = match kind {
            "cosine" => ((u.min(0.999) + 0.008) / 1.008 * std::f64::consts::FRAC_PI_2)
                .cos()
                .powi(2),
            _ => (-(0.1 * u + 9.95 * u * u)).exp(),
        };
        (bar.sqrt(), (1.0 - bar).sqrt())
    };
    let w = 0.04 * a * a + s * s;
    let side = ((x * (a * spread / w))?.tanh()? * (spread * s * s / w))?;
    let clean = ((x * (0.04 * a / w))? + side)?;
    let eps = ((x - (&clean * a)?)? / s)?;
    match prediction {
        Prediction::Sample => Ok(clean),
        Prediction::Epsilon => Ok(eps),
        Prediction::V => (eps * a)? - (clean * s)?,
        _ => eps - clean,
    }
}

/// The largest difference of any state from diffusers', relative to its largest value or 1.
fn worst(got: &[Tensor], want: &Tensor) -> f64 {
    assert_eq!(got.len(), want.dim(0).unwrap());
    let max = |t: &Tensor| -> f64 {
        let all = t.abs().unwrap().flatten_all().unwrap().max(0).unwrap();
        all.to_scalar().unwrap()
    };
    let each = got.iter().enumerate().map(|(i, got)| {
        let want = want.get(i).unwrap();
        let off = max(&(got - &want).unwrap()) / max(&want).max(1.0);
        // A NaN must not hide behind a maximum.
        if off.is_nan() { f64::INFINITY } else { off }
    });
    each.fold(0.0, f64::max)
}

fn grid_of(case: &Case, data: &Data) -> TimeGrid {
    let table = NoiseTable::from_betas(&case.betas.betas(1000).unwrap()).unwrap();
    let mut grid = case.grid.build(&table).unwrap();
    let times = data.vec(&format!("{}.times", case.name));
    assert_eq!(grid.times.len(), times.len(), "{}", case.name);
    let off = grid.times.iter().zip(&times).map(|(a, b)| (a - b).abs());
    let off = off.fold(0.0, f64::max);
    // Where diffusers rounds down, f32 decides which side of a step the ends of the process are on. Its times between
    // steps come from f32 levels, of which the smallest are off by some 1e-4.
    let bound = match case.grid.rounding {
        TimeRounding::Down => 1.0,
        TimeRounding::Nearest => 0.0,
        TimeRounding::None => 1e-2,
    };
    assert!(off <= bound, "{}: times {off}", case.name);
    if case.grid.rounding == TimeRounding::Down {
        grid.times = times;
    }
    let sigmas = data.vec(&format!("{}.sigmas", case.name));
    // f32 has 1 - alpha_bar to 6e-8, absolutely: for the cosine schedule, whose first is 4e-5, that is 1e-3 of the smallest
    // level, and Karras' grid hands it on to all others.
    let rough = case.model == "cosine" && case.grid.sigmas == SigmaSpacing::Karras;
    for (i, want) in sigmas.iter().enumerate() {
        let want = match case.path {
            Path::Flow => want / (1.0 - want),
            _ => *want,
        };
        let off = (grid.sigmas[i] - want).abs() / want.max(0.01);
        // Of a flow's time near 1, f32 leaves 1 - t to 6e-8.
        let near_one = case.path == Path::Flow && want > 1e5;
        let bound = match (rough, near_one) {
            (true, _) => 1e-3,
            (_, true) => 0.1,
            _ => 1e-4,
        };
        assert!(
            off < bound,
            "{}: sigma {i}: {} {want}",
            case.name,
            grid.sigmas[i]
        );
    }
    if rough {
        grid.sigmas = sigmas;
    }
    grid
}

/// The states after every step, in diffusers' coordinates.
fn states(case: &Case, data: &Data) -> Vec<Tensor> {
    let start = &data.0["start"];
    let mut noise = |i: usize, _: &Tensor| data.noise(i);
    let mut seen: Vec<Tensor> = Vec::new();
    let mut run = |d: &dyn Denoiser, x: Tensor, sigmas: &[f64], alpha: &dyn Fn(f64) -> f64| {
        let mut keep = |i: usize, x: &Tensor| {
            seen.push((x * alpha(sigmas[i + 1]))?);
            Ok(())
        };
        case.solver
            .sample(d, x, sigmas, &mut noise, &mut keep)
            .unwrap();
    };
    let plain = |_: f64| 1.0;
    match case.model.as_str() {
        "edm" => {
            let edm = Edm {
                sigma_data: 0.5,
                ..Edm::default()
            };
            let sign = if case.v { -1.0 } else { 1.0 };
            let d = |x: &Tensor, s: f64| {
                edm.denoise(x, s, |x, c| {
                    (((x * 0.8)? + 0.1 * c)?.tanh()? - (x * 0.2)?)? * sign
                })
            };
            let mut sigmas = edm.sigmas(case.grid.steps);
            if case.schedule.as_deref() == Some("exponential") {
                sigmas[..case.grid.steps].copy_from_slice(&exponential(
                    case.grid.steps,
                    80.0,
                    0.002,
                ));
            }
            if case.sigma_min_end {
                sigmas[case.grid.steps] = 0.002;
            }
            run(&d, (start * case.start).unwrap(), &sigmas, &plain);
        }
        "churn" => {
            let d = |x: &Tensor, s: f64| {
                let total = 0.04 + s * s;
                (x * (0.04 / total))? + ((x * (0.6 / total))?.tanh()? * (0.6 * s * s / total))?
            };
            // KarrasVeScheduler takes the squares of its geometric levels for levels.
            let mut sigmas = exponential(case.grid.steps, 25.0, 0.01);
            sigmas.push(0.0);
            run(&d, (start * case.start).unwrap(), &sigmas, &plain);
        }
        kind => {
            let grid = grid_of(case, data);
            let network = |x: &Tensor, t: f64| toy(kind, case.prediction, case.spread, x, t);
            let time = |s: f64| grid.time(s);
            let d = NetworkDenoiser {
                network: &network,
                prediction: case.prediction,
                path: case.path,
                time: &time,
            };
            let alpha = |s: f64| if case.ve { 1.0 } else { case.path.alpha(s) };
            let x = (start * (case.start / alpha(grid.sigmas[0]))).unwrap();
            match (case.clip, case.threshold) {
                (Some(range), _) => run(&Clipped::new(&d, range).unwrap(), x, &grid.sigmas, &alpha),
                (_, Some((ratio, max))) => {
                    run(
                        &Thresholded::new(&d, ratio, max).unwrap(),
                        x,
                        &grid.sigmas,
                        &alpha,
                    );
                }
                _ => run(&d, x, &grid.sigmas, &alpha),
            }
        }
    }
    seen
}

/// The same by the samplers of a discrete process: DDPM with its kinds of variance, or DDIM.
fn discrete_states(case: &Case, data: &Data) -> Vec<Tensor> {
    let times = data.vec(&format!("{}.times", case.name));
    let steps: Vec<usize> = times.iter().rev().map(|t| *t as usize).collect();
    let mean = match case.prediction {
        Prediction::Sample => MeanType::XStart,
        Prediction::V => MeanType::V,
        _ => MeanType::Epsilon,
    };
    let learned = case.variance.as_deref() == Some("learned_range");
    let var = match case.variance.as_deref() {
        Some("fixed_large") => VarType::FixedLarge,
        Some("learned_range") => VarType::LearnedRange,
        _ => VarType::FixedSmall,
    };
    let betas = case.betas.betas(1000).unwrap();
    let whole = GaussianDiffusion::new(betas, mean, var, LossType::Mse).unwrap();
    let model = |x: &Tensor, t: &Tensor| {
        let t = f64::from(t.to_vec1::<f32>()?[0]);
        let y = toy(&case.model, case.prediction, case.spread, x, t)?;
        match learned {
            true => Tensor::cat(&[&y, &((x * 0.5)? - 0.2)?.tanh()?], 1),
            false => Ok(y),
        }
    };
    let bars = whole.coefficients().alphas_cumprod.clone();
    let process = whole.respaced(&steps).unwrap();
    let process = process.end_variance(EndVariance::Own);
    let process = match (case.clip, case.threshold) {
        (Some(range), _) => process.clip_within(vec![(-range, range)]).unwrap(),
        (_, Some((ratio, max))) => process.clip_by_threshold(ratio, max).unwrap(),
        _ => process,
    };
    let mut seen = Vec::new();
    let mut keep = |_: usize, x: &Tensor| {
        seen.push(x.clone());
        Ok(())
    };
    let mut noise = |i: usize, _: &Tensor| data.noise(i);
    let x = data.0["start"].clone();
    let clip = case.clip.is_some() || case.threshold.is_some();
    match case.solver.sampler {
        SamplerName::Ddim => {
            let end = if case.end_at_one { 1.0 } else { bars[0] };
            let after = strided_bars(&bars, &steps, 1000 / case.grid.steps, end).unwrap();
            let options = Ddim {
                eta: case.solver.eta,
                clip,
                kept: case.kept,
                bars_after: Some(after),
            };
            ddim(&process, &model, x, &options, &mut noise, &mut keep)
        }
        _ => ddpm(&process, &model, x, clip, &mut noise, &mut keep),
    }
    .unwrap();
    seen
}

#[test]
fn trajectories_are_those_of_diffusers() {
    let data = Data::load();
    let mut failed = Vec::new();
    let (mut count, mut largest) = (0, 0.0f64);
    for case in data.cases() {
        let want = &data.0[&format!("{}.states", case.name)];
        let mut check = |how: &str, got: Vec<Tensor>| {
            let off = worst(&got, want);
            (count, largest) = (count + 1, largest.max(off));
            println!("{:<28} {how:<8} {off:.1e}", case.name);
            if off > 1e-4 {
                failed.push(format!("{} {how}: {off:e}", case.name));
            }
        };
        let ddpm = case.name.starts_with("ddpm");
        if !ddpm && !case.process_alone {
            check("", states(&case, &data));
        }
        // DDPM by the process itself; the sampler in sigma has the posterior's variance.
        if ddpm || case.name.starts_with("ddim") {
            check("process", discrete_states(&case, &data));
        }
        let small = case
            .variance
            .as_deref()
            .is_some_and(|v| v.starts_with("fixed_small"));
        if ddpm && small && !case.name.starts_with("ddpm-noisy-list") {
            check("sigma", states(&case, &data));
        }
    }
    println!("{count} trajectories, largest difference {largest:.1e}");
    assert!(failed.is_empty(), "{}", failed.join("\n"));
    assert!(count > 170, "{count}");
}

#[test]
fn betas_are_those_of_diffusers() {
    let data = Data::load();
    for name in [
        "linear",
        "scaled_linear",
        "squaredcos_cap_v2",
        "sigmoid",
        "laplace",
        "zero_snr",
    ] {
        let zero = name == "zero_snr";
        let curve = if zero { "linear" } else { name };
        let schedule = BetaSchedule {
            schedule: serde_json::from_value(curve.into()).unwrap(),
            beta_start: 0.002,
            beta_end: 0.3,
            zero_terminal_snr: zero,
        };
        let got = schedule.betas(50).unwrap();
        for (i, (a, b)) in got
            .iter()
            .zip(data.vec(&format!("betas.{name}")))
            .enumerate()
        {
            // f32, after a product of all of them for the rescaled ones.
            let bound = if zero { 3e-6 } else { 2e-7 };
            assert!((a - b).abs() < bound, "{name} {i}: {a} {b}");
        }
    }
}

#[test]
fn a_process_shows_the_times_that_diffusers_interpolates() {
    let data = Data::load();
    let betas = BetaSchedule::default().betas(1000).unwrap();
    let process =
        GaussianDiffusion::new(betas, MeanType::Epsilon, VarType::FixedSmall, LossType::Mse)
            .unwrap();
    let shown = RefCell::new(Vec::new());
    let model = |x: &Tensor, t: &Tensor| {
        shown.borrow_mut().push(f64::from(t.to_vec1::<f32>()?[0]));
        x.zeros_like()
    };
    let d = SigmaDenoiser::new(&process, &model, false).unwrap();
    let x = Tensor::new(&[[1f64]], &Device::Cpu).unwrap();
    for name in ["euler-karras", "euler-exponential"] {
        let sigmas = data.vec(&format!("{name}.sigmas"));
        sampler::euler(&d, x.clone(), &sigmas, &mut |_, _| Ok(())).unwrap();
        let want = data.vec(&format!("{name}.times"));
        assert!(
            want.iter().filter(|t| t.fract() != 0.0).count() >= 6,
            "{want:?}"
        );
        for (got, want) in shown.take().iter().zip(want) {
            assert!((got - want).abs() < 2e-3, "{name}: {got} {want}");
        }
    }
}
