//! Samplers in time against normal data, where everything is known exactly.

mod common;

use candle_core::{Device, Result, Tensor};
use common::quiet;
use score_sde::ode::Rk45;
use score_sde::sampler::{
    Corrector, Coupling, Noise, Predictor, PredictorCorrector, addressed_noise, euler_maruyama,
    heun, no_noise, predictor_corrector, probability_flow,
};
use score_sde::sde::{Process, Reverse, Score, ScoreDenoiser, Sde};
use score_sde::{Edm, Error};

const V: f64 = 0.3;

fn all() -> [Process; 3] {
    ["vpsde", "subvpsde", "vesde"].map(|s| s.parse().unwrap())
}

/// Variance at time t of data N(0, V).
fn variance(sde: &dyn Sde, t: f64) -> f64 {
    let m = sde.marginal(t);
    V * m.signal * m.signal + m.std * m.std
}

fn score(sde: Process) -> impl Fn(&Tensor, &[f64]) -> Result<Tensor> {
    move |x, t| {
        let factors: Vec<f64> = t.iter().map(|&t| -1.0 / variance(&sde, t)).collect();
        let mut shape = vec![1; x.rank()];
        shape[0] = t.len();
        let factors = Tensor::from_vec(factors, shape, &Device::Cpu)?;
        x.broadcast_mul(&factors.to_dtype(x.dtype())?)
    }
}

fn one(x: f64) -> Tensor {
    Tensor::new(&[[x]], &Device::Cpu).unwrap()
}

fn first(x: &Tensor) -> f64 {
    x.flatten_all().unwrap().to_vec1::<f64>().unwrap()[0]
}

#[test]
fn the_flow_scales_and_is_reversible() {
    for sde in all() {
        let ode = Rk45 {
            rtol: 1e-9,
            atol: 1e-9,
            ..Default::default()
        };
        let score = score(sde);
        let run = |x: f64, times| {
            let flow = probability_flow(&sde, &score, &one(x), times, &ode, &mut quiet).unwrap();
            first(&flow.x)
        };
        let ratio = (variance(&sde, 1e-3) / variance(&sde, 1.0)).sqrt();
        let y = run(1.3, [1.0, 1e-3]);
        assert!((y - 1.3 * ratio).abs() < 1e-6, "{sde:?}: {y}");
        let back = run(y, [1e-3, 1.0]);
        assert!((back - 1.3).abs() < 1e-5, "{sde:?}: {back}");

        // Euler's method on the same flow, of order 1.
        let reverse = Reverse {
            sde: &sde,
            score: &score,
            probability_flow: true,
        };
        let error = |n: usize| {
            let times: Vec<f64> = (0..=n).map(|i| 1.0 - 0.9 * i as f64 / n as f64).collect();
            let y = euler_maruyama(&reverse, one(1.3), &times, &mut no_noise, &mut quiet).unwrap();
            let ratio = (variance(&sde, 0.1) / variance(&sde, 1.0)).sqrt();
            (first(&y) / (1.3 * ratio) - 1.0).abs()
        };
        let order = (error(400) / error(1600)).log2() / 2.0;
        assert!((order - 1.0).abs() < 0.1, "{sde:?}: {order}");
    }
}

#[test]
fn samplers_in_sigma_run_on_a_process() {
    for sde in all() {
        let score = score(sde);
        let denoiser = ScoreDenoiser {
            sde: &sde,
            score: &score,
        };
        let edm = Edm {
            sigma_max: sde.sigma(0.8),
            sigma_min: 0.02,
            ..Default::default()
        };
        let start = edm.sigma_max;
        let y = first(&heun(&denoiser, one(start), &edm.sigmas(100), &mut quiet).unwrap());
        // Down to sigma_min along the flow, then the denoiser's answer.
        let v = |s: f64| V + s * s;
        let exact = start * (v(0.02) / v(start)).sqrt() * V / v(0.02);
        assert!((y / exact - 1.0).abs() < 2e-3, "{sde:?}: {y} {exact}");
    }
}

/// The variance of a sampler that is linear in its start and in its noises: each is 1 in a picture of its own.
fn variance_of(draws: usize, start: f64, run: &dyn Fn(Tensor, Noise) -> Tensor) -> f64 {
    let unit = |k: usize, size: f64| {
        let row = (0..=draws).map(|i| if i == k { size } else { 0.0 });
        Tensor::from_vec(row.collect::<Vec<f64>>(), (draws + 1, 1), &Device::Cpu)
    };
    let y = run(unit(draws, start).unwrap(), &mut |i, _| unit(i, 1.0));
    let y = y.flatten_all().unwrap().to_vec1::<f64>().unwrap();
    y.iter().map(|v| v * v).sum()
}

#[test]
fn noisy_samplers_reach_the_variance_of_the_data() {
    use {Corrector as C, Predictor as P};
    for sde in all() {
        let sde = sde.with_scales(150);
        let score = score(sde);
        let mut cases = vec![
            (P::EulerMaruyama, C::None),
            (P::ReverseDiffusion, C::None),
            (P::ReverseDiffusion, C::Ald),
        ];
        if sde.name() != "sub-vp" {
            cases.push((P::AncestralSampling, C::None));
            cases.push((P::AncestralSampling, C::Ald));
        }
        for (predictor, corrector) in cases {
            let options = PredictorCorrector {
                predictor,
                corrector,
                ..Default::default()
            };
            let got = variance_of(300, sde.prior_std(), &|x, noise| {
                predictor_corrector(&sde, &score, x, &options, noise, &mut quiet).unwrap()
            });
            let what = format!("{} {predictor:?} {corrector:?}: {got}", sde.name());
            // Euler and Maruyama's step at the data's end of VE is long beside the noise left.
            assert!((got / V - 1.0).abs() < 0.15, "{what}");
        }
        // On a grid of one's own, finer towards the data.
        let reverse = Reverse {
            sde: &sde,
            score: &score,
            probability_flow: false,
        };
        let times: Vec<f64> = (0..=300).map(|i| 1.0 - 0.999 * i as f64 / 300.0).collect();
        let got = variance_of(300, sde.prior_std(), &|x, noise| {
            euler_maruyama(&reverse, x, &times, noise, &mut quiet).unwrap()
        });
        assert!((got / V - 1.0).abs() < 0.1, "{}: {got}", sde.name());
    }
}

#[test]
fn a_picture_depends_on_its_batch_only_where_that_is_asked_for() {
    let sde = Process::with_scales(all()[0], 25);
    let score = score(sde);
    let run = |indices: &[u64], coupling| {
        let item = [2, 4, 4];
        let x = nn_ops::noise::normal_tensor(7, indices, 1, 0, &item, &Device::Cpu).unwrap();
        let options = PredictorCorrector {
            coupling,
            ..Default::default()
        };
        let mut noise = addressed_noise(7, indices, 2);
        let y = predictor_corrector(&sde, &score, x, &options, &mut noise, &mut quiet).unwrap();
        let ode = Rk45 {
            coupling,
            ..Default::default()
        };
        let y = probability_flow(&sde, &score, &y, [1e-3, 1.0], &ode, &mut quiet).unwrap();
        let last = y.x.get(indices.len() - 1).unwrap();
        last.flatten_all().unwrap().to_vec1::<f32>().unwrap()
    };
    let own = Coupling::PerPicture;
    assert_eq!(run(&[5, 1, 9], own), run(&[9], own));
    assert_ne!(run(&[5, 1, 9], Coupling::Batch), run(&[9], own));
    assert_eq!(run(&[9], Coupling::Batch), run(&[9], own));
}

#[test]
fn a_score_of_zero_moves_nothing() {
    let sde = all()[0];
    let flat = |x: &Tensor, _: &[f64]| x.zeros_like();
    let options = PredictorCorrector {
        predictor: Predictor::None,
        ..Default::default()
    };
    let ones = &mut |_: usize, x: &Tensor| x.ones_like();
    let y = predictor_corrector(&sde, &flat, one(0.4), &options, ones, &mut quiet).unwrap();
    assert_eq!(first(&y), 0.4);
}

#[test]
fn bad_options_say_what_would_fit() {
    let [vp, subvp, _] = all();
    let good = PredictorCorrector::default();
    let ask = |sde: Process, options: PredictorCorrector| {
        let (score, mut noise) = (score(sde), no_noise);
        predictor_corrector(&sde, &score, one(1.0), &options, &mut noise, &mut quiet).unwrap_err()
    };
    let ancestral = PredictorCorrector {
        predictor: Predictor::AncestralSampling,
        ..good
    };
    let e = ask(subvp, ancestral);
    assert!(matches!(e, Error::Unfit { sde: "sub-vp", .. }));
    assert!(
        e.to_string()
            .contains("reverse_diffusion and euler_maruyama fit"),
        "{e}"
    );
    for (sde, options, part) in [
        (vp, PredictorCorrector { snr: 0.0, ..good }, "snr is 0"),
        (
            vp,
            PredictorCorrector {
                snr: f64::NAN,
                ..good
            },
            "snr is NaN",
        ),
        (
            vp,
            PredictorCorrector {
                n_steps_each: 0,
                ..good
            },
            "n_steps_each is 0",
        ),
        (vp, PredictorCorrector { eps: 0.0, ..good }, "eps is 0"),
        (vp, PredictorCorrector { eps: 1.5, ..good }, "eps is 1.5"),
        (
            vp,
            PredictorCorrector {
                probability_flow: true,
                ..ancestral
            },
            "probability_flow is true",
        ),
        (vp.with_scales(0), good, "num_scales is 0"),
        (vp.with_scales(1), good, "num_scales is 1"),
        (vp.with_scales(10), good, "num_scales is 10"),
    ] {
        let e = ask(sde, options).to_string();
        assert!(e.contains(part), "{e}");
    }
    let e = "heun".parse::<Predictor>().unwrap_err().to_string();
    assert!(e.contains("euler_maruyama, reverse_diffusion"), "{e}");
    let e = "lmc".parse::<Corrector>().unwrap_err().to_string();
    assert!(e.contains("langevin, ald, none"), "{e}");
    let score = score(vp);
    let reverse = Reverse {
        sde: &vp,
        score: &score,
        probability_flow: false,
    };
    for times in [vec![1.0], vec![0.1, 0.5], vec![1.5, 0.5], vec![0.5, -0.1]] {
        let e = euler_maruyama(&reverse, one(1.0), &times, &mut no_noise, &mut quiet);
        assert!(e.unwrap_err().to_string().contains("times"));
    }
    let ode = Rk45::default();
    let e = probability_flow(&vp, &score, &one(1.0), [1.0, -0.5], &ode, &mut quiet);
    assert!(e.unwrap_err().to_string().contains("times is -0.5"));
}

#[test]
fn an_error_of_the_callback_ends_the_run() {
    let sde = all()[2];
    let mut calls = 0;
    let mut stop = |i: usize, _: &Tensor| {
        calls += 1;
        if i == 2 {
            candle_core::bail!("enough")
        }
        Ok(())
    };
    let (score, options) = (score(sde), PredictorCorrector::default());
    let ones = &mut |_: usize, x: &Tensor| x.ones_like();
    let score: &dyn Score = &score;
    let e = predictor_corrector(&sde, score, one(1.0), &options, ones, &mut stop).unwrap_err();
    let ode = Rk45::default();
    let f = probability_flow(&sde, score, &one(1.0), [1.0, 1e-3], &ode, &mut stop).unwrap_err();
    assert!(e.to_string().contains("enough") && f.to_string().contains("enough"));
    assert_eq!(calls, 6);
}
