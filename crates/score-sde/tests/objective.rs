//! Objectives against score_sde's own losses (`scripts/objectives.py`), closed forms on Gaussians and finite differences.

mod common;

use candle_core::{DType, Device, Result, Tensor, Var};
use common::close_to;
use score_sde::Edm;
use score_sde::diffusion::{GaussianDiffusion, LossType, MeanType, Model, VarType};
use score_sde::objective::*;
use score_sde::prediction::Prediction;
use score_sde::sde::{Process, Sde, Ve, Vp};
use std::collections::HashMap;
use std::path::Path;

fn golden() -> HashMap<String, Tensor> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases/objectives.safetensors");
    candle_core::safetensors::load(path, &Device::Cpu).unwrap()
}

fn list(t: &Tensor) -> Vec<f64> {
    let t = t.to_dtype(DType::F64).unwrap().flatten_all().unwrap();
    t.to_vec1().unwrap()
}

fn kinds() -> [(&'static str, Process); 3] {
    [("vp", "vpsde"), ("subvp", "subvpsde"), ("ve", "vesde")].map(|(k, n)| (k, n.parse().unwrap()))
}

/// The network of objectives.py, its parameters and labels in the dtype of x.
fn toy(a: &Tensor, b: &Tensor, x: &Tensor, t: &Tensor) -> Result<Tensor> {
    let t = (t.to_dtype(x.dtype())?.reshape(((), 1, 1, 1))? * 0.001)?;
    let first = (x.broadcast_mul(a)? + 0.3)?.tanh()?;
    first.broadcast_sub(&t.broadcast_mul(b)?)
}

/// Losses and the gradients of their sum in the toy's parameters.
fn run<O: Objective>(o: &O, x0: &Tensor, t: &[O::Time], noise: &Tensor) -> (Tensor, Tensor) {
    let var = |v: f64| {
        let v = Tensor::new(v, &Device::Cpu).unwrap();
        Var::from_tensor(&v.to_dtype(x0.dtype()).unwrap()).unwrap()
    };
    let (a, b) = (var(0.9), var(0.5));
    let model = |x: &Tensor, t: &Tensor| toy(&a, &b, x, t);
    let losses = o.losses(&model, x0, t, noise).unwrap();
    let grads = losses.sum_all().unwrap().backward().unwrap();
    let grad = |v: &Var| grads.get(v).unwrap().clone();
    let grads = Tensor::stack(&[grad(&a), grad(&b)], 0).unwrap();
    (losses, grads)
}

#[test]
fn losses_are_those_of_score_sde() {
    let io = golden();
    let check = |name: &str, (losses, grads): (Tensor, Tensor)| {
        close_to(name, &losses, &io[&format!("{name}.losses")], 1e-4);
        close_to(name, &grads, &io[&format!("{name}.grads")], 1e-3);
    };
    let (x0, noise) = (&io["x0"], &io["noise"]);
    let labels: Vec<usize> = list(&io["labels"]).iter().map(|l| *l as usize).collect();
    for (mean, reduction) in [("mean", Reduction::Mean), ("sum", Reduction::HalfSum)] {
        for (kind, sde) in kinds() {
            let times = UniformTimes::new(1e-5, sde.end()).unwrap();
            let (t, factors) = times.sample(&list(&io["u"]));
            assert_eq!(factors, [1.0; 3]);
            for (name, weighting) in [
                ("variance", Weighting::Variance),
                ("likelihood", Weighting::Likelihood),
            ] {
                let objective = ScoreMatching {
                    weighting,
                    reduction,
                    ..ScoreMatching::new(sde)
                };
                let got = run(&objective, x0, &t, noise);
                check(&format!("{kind}.{name}.{mean}"), got);
            }
        }
        let smld = PredictionLoss::smld(&Ve::default(), reduction).unwrap();
        check(&format!("smld.{mean}"), run(&smld, x0, &labels, noise));
        let ddpm = PredictionLoss::ddpm(&Vp::default(), reduction).unwrap();
        check(&format!("ddpm.{mean}"), run(&ddpm, x0, &labels, noise));
    }
}

#[test]
fn l_simple_is_one_loss_under_all_its_names() {
    let io = golden();
    let (x0, noise, t) = (&io["x0"], &io["noise"], [0, 417, 999]);
    let ddpm = PredictionLoss::ddpm(&Vp::default(), Reduction::Mean).unwrap();
    let chain = ddpm.forward.clone();
    let (a, b) = (run(&ddpm, x0, &t, noise), run(&chain, x0, &t, noise));
    close_to("losses", &a.0, &b.0, 1e-6);
    close_to("grads", &a.1, &b.1, 1e-6);
    // score_sde's continuous loss of VP is the error of the noise, too.
    let vp = Vp::default();
    let (t, _) = UniformTimes::new(1e-5, 1.0)
        .unwrap()
        .sample(&[0.1, 0.5, 0.9]);
    let a = run(&ScoreMatching::new(vp), x0, &t, noise);
    let b = run(&PredictionLoss::new(vp, Prediction::Epsilon), x0, &t, noise);
    close_to("losses", &a.0, &b.0, 1e-5);
    close_to("grads", &a.1, &b.1, 1e-5);
}

/// Clean values and noise of four pictures, as many as make second moments exact: E x0^2 = v, E z^2 = 1, E x0 z = 0.
fn moments(v: f64) -> (Tensor, Tensor) {
    let (r, s) = ((2.0 * v).sqrt(), 2f64.sqrt());
    let tensor = |d: [f64; 4]| {
        Tensor::new(&d, &Device::Cpu)
            .unwrap()
            .reshape((4, 1))
            .unwrap()
    };
    (tensor([r, -r, 0.0, 0.0]), tensor([0.0, 0.0, s, -s]))
}

/// Mean loss and its slope in the network's factor, where the network is factor * `best`.
fn at<O: Objective>(
    o: &O,
    best: &dyn Fn(&Tensor) -> Result<Tensor>,
    factor: f64,
    v: f64,
    t: O::Time,
) -> (f64, f64) {
    let var = Var::new(factor, &Device::Cpu).unwrap();
    let model = |x: &Tensor, _: &Tensor| best(x)?.broadcast_mul(&var);
    let (x0, noise) = moments(v);
    let mean = o
        .losses(&model, &x0, &[t; 4], &noise)
        .unwrap()
        .mean_all()
        .unwrap();
    let grads = mean.backward().unwrap();
    (list(&mean)[0], list(grads.get(&var).unwrap())[0])
}

#[test]
fn the_minimiser_on_a_gaussian_is_the_true_score() {
    let v = 0.3;
    for (kind, sde) in kinds() {
        for t in [0.01, 0.3, 0.9] {
            let m = sde.marginal(t);
            let variance = m.signal * m.signal * v + m.std * m.std;
            // The score is -x / variance; a network of VP and sub-VP predicts noise, -std times it.
            let per_x = if kind == "ve" {
                -1.0 / variance
            } else {
                m.std / variance
            };
            let best = |x: &Tensor| -> Result<Tensor> { x * per_x };
            for weighting in [Weighting::Variance, Weighting::Likelihood] {
                let o = ScoreMatching {
                    weighting,
                    ..ScoreMatching::new(sde)
                };
                let (loss, slope) = at(&o, &best, 1.0, v, t);
                // What no network can learn: signal^2 v / variance of the noise.
                let weight = match weighting {
                    Weighting::Variance => 1.0,
                    Weighting::Likelihood => (sde.diffusion(t) / m.std).powi(2),
                };
                let want = weight * m.signal * m.signal * v / variance;
                assert!(
                    (loss - want).abs() < 1e-9 * want,
                    "{kind} {t}: {loss} {want}"
                );
                assert!(slope.abs() < 1e-9 * weight, "{kind} {t}: {slope}");
                let (more, up) = at(&o, &best, 1.1, v, t);
                assert!(more > loss && up > 0.0, "{kind} {t}");
            }
        }
    }
}

#[test]
fn every_target_has_its_conditional_mean_as_minimiser_and_weights_agree() {
    let (v, t, sde) = (0.3, 0.2, Vp::default());
    let m = sde.marginal(t);
    let variance = m.signal * m.signal * v + m.std * m.std;
    let (x0, epsilon) = (m.signal * v / variance, m.std / variance);
    let weights = [
        Weight::One,
        Weight::MinSnr { gamma: 5.0 },
        Weight::MinSnr { gamma: 0.5 },
        Weight::P2 { k: 1.0, gamma: 0.5 },
    ];
    for weight in weights {
        let mut losses = Vec::new();
        for (target, per_x) in [
            (Prediction::Epsilon, epsilon),
            (Prediction::Sample, x0),
            (Prediction::V, m.signal * epsilon - m.std * x0),
            (Prediction::Score, -1.0 / variance),
            (Prediction::Flow, epsilon - x0),
        ] {
            let o = PredictionLoss {
                weight,
                ..PredictionLoss::new(sde, target)
            };
            let best = |x: &Tensor| -> Result<Tensor> { x * per_x };
            let (loss, slope) = at(&o, &best, 1.0, v, t);
            assert!(slope.abs() < 1e-9, "{target:?} {weight:?}: {slope}");
            losses.push(loss);
        }
        if weight != Weight::One {
            // The same error of x_0, whatever is predicted: its variance given x_t is v std^2 / variance.
            let snr = (m.signal / m.std).powi(2);
            let want = weight.of(Prediction::Sample, snr) * v * m.std * m.std / variance;
            for loss in losses {
                assert!(
                    (loss - want).abs() < 1e-9 * want,
                    "{weight:?}: {loss} {want}"
                );
            }
        }
    }
    assert_eq!(
        Weight::MinSnr { gamma: 5.0 }.of(Prediction::Epsilon, 20.0),
        0.25
    );
    assert_eq!(Weight::MinSnr { gamma: 5.0 }.of(Prediction::V, 4.0), 0.8);
    // Without signal: the limits for noise, nothing to learn of x_0.
    let at_zero = |weight: Weight, target| weight.of(target, 0.0);
    assert_eq!(at_zero(weights[1], Prediction::Epsilon), 1.0);
    assert_eq!(
        at_zero(Weight::P2 { k: 4.0, gamma: 0.5 }, Prediction::Score),
        0.5
    );
    assert_eq!(at_zero(weights[1], Prediction::V), 0.0);
    assert_eq!(
        Weight::P2 { k: 1.0, gamma: 1.0 }.of(Prediction::Epsilon, 3.0),
        0.25
    );
}

#[test]
fn the_edm_loss_is_that_of_its_examples() {
    let edm = Edm {
        sigma_data: 0.5,
        ..Edm::default()
    };
    let io = golden();
    let sigmas = [0.02, 0.7, 30.0];
    let (losses, _) = run(&edm, &io["x0"], &sigmas, &io["noise"]);
    let (a, b) = (
        Tensor::new(0.9f32, &Device::Cpu).unwrap(),
        Tensor::new(0.5f32, &Device::Cpu).unwrap(),
    );
    for (i, sigma) in sigmas.into_iter().enumerate() {
        let row = |name: &str| {
            io[name]
                .get(i)
                .unwrap()
                .flatten_all()
                .unwrap()
                .to_vec1::<f32>()
                .unwrap()
        };
        let (mut x, mut target) = (row("x0"), vec![0f32; 18]);
        edm.example(sigma, &row("noise"), &mut x, &mut target)
            .unwrap();
        let x = Tensor::from_vec(x, (1, 2, 3, 3), &Device::Cpu).unwrap();
        let label = Tensor::new(&[edm.scaling(sigma).noise as f32], &Device::Cpu).unwrap();
        let output = list(&toy(&a, &b, &x, &label).unwrap());
        let want = output
            .iter()
            .zip(&target)
            .map(|(o, t)| (o - f64::from(*t)).powi(2))
            .sum::<f64>()
            / 18.0;
        let got = list(&losses)[i];
        assert!(
            (got - want).abs() < 1e-5 * want.max(1.0),
            "{sigma}: {got} {want}"
        );
    }
    // The best denoiser of N(0, sigma_data^2) is c_skip x: the network that returns 0, its loss 1 at every noise level.
    let (x0, noise) = moments(0.25);
    let silent = |x: &Tensor, _: &Tensor| x.zeros_like();
    let losses = edm
        .losses(&silent, &x0, &[0.02, 0.02, 0.02, 0.02], &noise)
        .unwrap();
    assert!((list(&losses.mean_all().unwrap())[0] - 1.0).abs() < 1e-9);
}

/// Even numbers of [0, 1): midpoints.
fn even(n: usize) -> Vec<f64> {
    (0..n).map(|i| (i as f64 + 0.5) / n as f64).collect()
}

#[test]
fn importance_sampling_keeps_the_expected_loss() {
    for (kind, sde) in kinds() {
        let (from, v) = (1e-3, 0.3);
        let likelihood = ScoreMatching {
            weighting: Weighting::Likelihood,
            ..ScoreMatching::new(sde)
        };
        // A network that is wrong: it says 0.
        let (x0, noise) = moments(v);
        let loss = |t: f64| {
            let silent = |x: &Tensor, _: &Tensor| x.zeros_like();
            let losses = likelihood.losses(&silent, &x0, &[t; 4], &noise).unwrap();
            list(&losses.mean_all().unwrap())[0]
        };
        let mean = |(t, w): (Vec<f64>, Vec<f64>)| {
            let n = t.len() as f64;
            let each: Vec<f64> = t.iter().zip(w).map(|(t, w)| w * loss(*t)).collect();
            let mean = each.iter().sum::<f64>() / n;
            let spread = each.iter().map(|l| (l - mean).powi(2)).sum::<f64>() / n;
            (mean, spread.sqrt())
        };
        let plain = mean(UniformTimes::new(from, 1.0).unwrap().sample(&even(20_000)));
        let important = LikelihoodTimes::new(sde, from).unwrap();
        let few = mean(important.sample(&even(50)));
        assert!(
            (few.0 / plain.0 - 1.0).abs() < 5e-3,
            "{kind}: {few:?} {plain:?}"
        );
        // The silent network's loss is the weight itself: with importance sampling it is the same at every time.
        assert!(
            few.1 < 1e-6 * few.0 && (plain.1 > plain.0 || kind == "ve"),
            "{kind}: {few:?} {plain:?}"
        );
        // The factors' mean is 1 over the density; the times cover the interval.
        let (t, w) = important.sample(&even(20_000));
        let total = w.iter().sum::<f64>() / 20_000.0;
        assert!((total - 1.0).abs() < 2e-3, "{kind}: {total}");
        assert!(t.windows(2).all(|w| w[0] < w[1]) && t[0] > from && t[19_999] < 1.0);
        // The density is what it says: as many times below t as the integral of g^2 / std^2.
        let share = t.iter().filter(|t| **t < 0.25).count() as f64 / 20_000.0;
        let (low, high, here) = (sde.sigma(from), sde.sigma(1.0), sde.sigma(0.25));
        assert!(
            (share - (here / low).ln() / (high / low).ln()).abs() < 1e-3,
            "{kind}"
        );
    }
    let edm = Edm::default();
    let (sigmas, w) = LogNormalSigmas(edm).sample(&even(20_000));
    let n = sigmas.len() as f64;
    let mean = sigmas.iter().map(|s| s.ln()).sum::<f64>() / n;
    let std = (sigmas.iter().map(|s| (s.ln() - mean).powi(2)).sum::<f64>() / n).sqrt();
    assert!((mean - edm.p_mean).abs() < 1e-9 && (std - edm.p_std).abs() < 1e-3);
    assert!(w.iter().all(|w| *w == 1.0));
}

#[test]
fn gradients_are_those_of_finite_differences() {
    let io = golden();
    let f64s = |name: &str| io[name].to_dtype(DType::F64).unwrap();
    let (x0, noise) = (f64s("x0"), f64s("noise"));
    let sum = |o: &dyn Fn(Model) -> Tensor, a: f64, b: f64| {
        let (a, b) = (
            Tensor::new(a, &Device::Cpu).unwrap(),
            Tensor::new(b, &Device::Cpu).unwrap(),
        );
        let model = |x: &Tensor, t: &Tensor| toy(&a, &b, x, t);
        list(&o(&model)).iter().sum::<f64>()
    };
    let compare = |name: &str, o: &dyn Fn(Model) -> Tensor, grads: Tensor| {
        let h = 1e-5;
        let slopes = [
            (sum(o, 0.9 + h, 0.5) - sum(o, 0.9 - h, 0.5)) / (2.0 * h),
            (sum(o, 0.9, 0.5 + h) - sum(o, 0.9, 0.5 - h)) / (2.0 * h),
        ];
        for (got, want) in list(&grads).iter().zip(slopes) {
            assert!(
                (got - want).abs() < 1e-6 * want.abs().max(1.0),
                "{name}: {got} {want}"
            );
        }
    };
    let t = [0.05, 0.4, 0.95];
    for (kind, sde) in kinds() {
        let o = ScoreMatching {
            weighting: Weighting::Likelihood,
            reduction: Reduction::HalfSum,
            ..ScoreMatching::new(sde)
        };
        let (_, grads) = run(&o, &x0, &t, &noise);
        compare(kind, &|m| o.losses(m, &x0, &t, &noise).unwrap(), grads);
    }
    for target in [
        Prediction::Epsilon,
        Prediction::Sample,
        Prediction::V,
        Prediction::Score,
    ] {
        let o = PredictionLoss {
            weight: Weight::MinSnr { gamma: 5.0 },
            ..PredictionLoss::new(Vp::default(), target)
        };
        let (_, grads) = run(&o, &x0, &t, &noise);
        compare(
            &format!("{target:?}"),
            &|m| o.losses(m, &x0, &t, &noise).unwrap(),
            grads,
        );
    }
    let edm = Edm::default();
    let (_, grads) = run(&edm, &x0, &t, &noise);
    compare("edm", &|m| edm.losses(m, &x0, &t, &noise).unwrap(), grads);
}

#[test]
fn a_picture_s_loss_does_not_depend_on_its_batch() {
    let io = golden();
    let t = [0.05, 0.4, 0.95];
    let o = PredictionLoss::new(Vp::default(), Prediction::V);
    let (all, _) = run(&o, &io["x0"], &t, &io["noise"]);
    for (i, time) in t.into_iter().enumerate() {
        let row = |name: &str| io[name].narrow(0, i, 1).unwrap();
        let (one, _) = run(&o, &row("x0"), &[time], &row("noise"));
        let bits = |t: &Tensor| {
            t.to_vec1::<f32>()
                .unwrap()
                .iter()
                .map(|v| v.to_bits())
                .collect::<Vec<_>>()
        };
        assert_eq!(bits(&all)[i], bits(&one)[0]);
    }
}

#[test]
fn bad_arguments_are_told() {
    let io = golden();
    let (x0, noise) = (&io["x0"], &io["noise"]);
    let zero = |x: &Tensor, _: &Tensor| x.zeros_like();
    let says = |r: score_sde::error::Result<Tensor>, words: &str| {
        let e = r.unwrap_err().to_string();
        assert!(e.contains(words), "{e}");
    };
    let o = ScoreMatching::new(Vp::default());
    says(o.losses(&zero, x0, &[0.1, 0.2], noise), "(2, C, ...)");
    says(o.losses(&zero, x0, &[0.1, 0.0, 0.2], noise), "t is 0");
    says(
        o.losses(&zero, x0, &[0.1, f64::NAN, 0.2], noise),
        "t is NaN",
    );
    says(
        o.losses(&zero, x0, &[0.1; 3], &noise.narrow(1, 0, 1).unwrap()),
        "noise",
    );
    let narrow = |x: &Tensor, _: &Tensor| x.narrow(1, 0, 1);
    says(o.losses(&narrow, x0, &[0.1; 3], noise), "score");
    let v = PredictionLoss::new(Ve::default(), Prediction::V);
    says(
        v.losses(&zero, x0, &[0.1; 3], noise),
        "does not keep the variance",
    );
    let bad = PredictionLoss {
        weight: Weight::MinSnr { gamma: 0.0 },
        ..PredictionLoss::new(Vp::default(), Prediction::Sample)
    };
    says(bad.losses(&zero, x0, &[0.1; 3], noise), "gamma: 0.0");
    let clean = PredictionLoss {
        weight: Weight::P2 { k: 1.0, gamma: 1.0 },
        ..PredictionLoss::new(Vp::default(), Prediction::Epsilon)
    };
    says(
        clean.losses(&zero, x0, &[0.0; 3], noise),
        "finite signal-to-noise",
    );
    let smld = PredictionLoss::smld(&Ve::default(), Reduction::Mean).unwrap();
    says(smld.losses(&zero, x0, &[1000, 0, 0], noise), "t is 1000");
    let chain = GaussianDiffusion::new(
        vec![0.1; 4],
        MeanType::Epsilon,
        VarType::FixedSmall,
        LossType::Mse,
    );
    let chain = PredictionLoss::new(chain.unwrap(), Prediction::Sample);
    says(chain.losses(&zero, x0, &[4, 0, 0], noise), "t is 4");
    says(
        Edm::default().losses(&zero, x0, &[-1.0, 1.0, 1.0], noise),
        "sigma is -1",
    );
    assert!(UniformTimes::new(0.5, 0.5).is_err());
    assert!(LikelihoodTimes::new(Vp::default(), 0.0).is_err());
    assert!(LikelihoodTimes::new(Ve::default(), 1.0).is_err());
}
