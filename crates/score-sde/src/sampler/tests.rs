//! Samplers against normal data N(0, v), where everything is known exactly.

use super::*;
use crate::diffusion::{GaussianDiffusion, LossType, MeanType, Schedule, VarType};
use crate::error::Error;
use candle_core::Device;

const V: f64 = 0.7;

type Run<'a> = &'a dyn Fn(&dyn Denoiser, Tensor, &[f64], OnStep) -> crate::error::Result<Tensor>;

/// D(x; s) = x v / (v + s^2); the exact flow scales x by sqrt((v + s1^2) / (v + s0^2)).
fn error_of(sampler: Run, steps: usize) -> f64 {
    let edm = crate::Edm {
        sigma_max: 10.0,
        sigma_min: 0.01,
        ..Default::default()
    };
    let x = Tensor::new(&[3.0f64, -7.0], &Device::Cpu).unwrap();
    let d = |x: &Tensor, s: f64| x * (V / (V + s * s));
    let y = sampler(&d, x, &edm.sigmas(steps), &mut |_, _| Ok(())).unwrap();
    // Every sampler's last step, from sigma_min to 0, is the denoiser's answer: that is no matter of order.
    let s2 = edm.sigma_min * edm.sigma_min;
    let exact = 3.0 * ((V + s2) / (V + 100.0)).sqrt() * V / (V + s2);
    (y.to_vec1::<f64>().unwrap()[0] - exact).abs() / exact
}

fn order_of(error: impl Fn(usize) -> f64) -> (f64, f64) {
    let (coarse, fine) = (error(100), error(400));
    ((coarse / fine).log2() / 2.0, fine)
}

#[test]
fn each_sampler_converges_at_its_order() {
    let ddim: Run = &|d, x, s, on| ddim_sigma(d, x, s, 0.0, &mut no_noise, on);
    let heun: Run = &|d, x, s, on| heun(d, x, s, on);
    let euler: Run = &|d, x, s, on| euler(d, x, s, on);
    let dpmpp: Run = &|d, x, s, on| dpmpp_2m(d, x, s, on);
    for (name, sampler, order) in [
        ("heun", heun, 2.0),
        ("euler", euler, 1.0),
        ("ddim_sigma", ddim, 1.0),
        ("dpmpp_2m", dpmpp, 2.0),
    ] {
        let (measured, fine) = order_of(|n| error_of(sampler, n));
        assert!(
            fine < 0.02 && (measured - order).abs() < 0.35,
            "{name}: {fine:e}, order {measured}"
        );
    }
}

/// The process and the exact network for N(0, v), which sees step numbers.
fn gaussian(
    steps: usize,
    var: VarType,
    v: f64,
) -> (
    GaussianDiffusion,
    impl Fn(&Tensor, &Tensor) -> Result<Tensor>,
) {
    let betas = Schedule::Linear.betas(steps).unwrap();
    let d = GaussianDiffusion::new(betas, MeanType::Epsilon, var, LossType::Mse).unwrap();
    let bars = d.coefficients().alphas_cumprod.clone();
    let model = move |x: &Tensor, t: &Tensor| {
        let bar = bars[t.to_vec1::<f32>()?[0] as usize];
        x * ((1.0 - bar).sqrt() / (bar * v + 1.0 - bar))
    };
    (d, model)
}

/// The sampler's variance: it is linear in its start and in its T noises, so each gets a picture of its own in which
/// it alone is 1, and the squares of the results add up.
fn variance_of(steps: usize, run: impl Fn(Tensor, Noise) -> Tensor) -> f64 {
    let unit = |k: usize| {
        let v: Vec<f64> = (0..=steps).map(|i| f64::from(i == k)).collect();
        Tensor::from_vec(v, (steps + 1, 1), &Device::Cpu)
    };
    let y = run(unit(steps).unwrap(), &mut |i, _| unit(i));
    y.flatten_all()
        .unwrap()
        .to_vec1::<f64>()
        .unwrap()
        .iter()
        .map(|v| v * v)
        .sum()
}

fn eta(eta: f64) -> Ddim {
    Ddim {
        eta,
        ..Ddim::default()
    }
}

fn quiet(_: usize, _: &Tensor) -> Result<()> {
    Ok(())
}

#[test]
fn ddpm_has_exactly_the_variance_of_its_recursion() {
    for (var, v) in [
        (VarType::FixedSmall, 0.4),
        (VarType::FixedLarge, 0.4),
        (VarType::FixedLarge, 1.0),
    ] {
        let (d, model) = gaussian(30, var, v);
        let got = variance_of(30, |x, noise| {
            ddpm(&d, &model, x, false, noise, &mut quiet).unwrap()
        });
        let c = d.coefficients();
        let mut want = 1.0;
        for t in (0..30).rev() {
            // E[x_{t-1} | x_t] / x_t by conditioning the joint normal distribution, not by the posterior's coefficients.
            let (bar, prev) = (c.alphas_cumprod[t], c.alphas_cumprod_prev[t]);
            let slope = (bar / prev).sqrt() * (prev * v + 1.0 - prev) / (bar * v + 1.0 - bar);
            let fresh = match (t, var) {
                (0, _) => 0.0,
                (_, VarType::FixedLarge) => c.betas[t],
                _ => c.posterior_variance[t],
            };
            want = slope * slope * want + fresh;
        }
        assert!(
            (got - want).abs() < 1e-6 * want,
            "{var:?} {v}: {got} {want}"
        );
        if v == 1.0 {
            // Beta is the exact variance here: N(0, 1) stays until the last step, which adds no noise.
            assert!((got - (1.0 - c.betas[0])).abs() < 1e-6, "{got}");
        }
    }
}

#[test]
fn ddpm_is_exact_for_data_in_one_point_and_ddim_with_eta_1_equals_it() {
    let (d, _) = gaussian(30, VarType::FixedSmall, 0.0);
    let model = |x: &Tensor, t: &Tensor| {
        let bar = d.coefficients().alphas_cumprod[t.to_vec1::<f32>()?[0] as usize];
        (x - 0.25 * bar.sqrt())? / (1.0 - bar).sqrt()
    };
    let x = Tensor::new(&[[0.3f64, -2.0]], &Device::Cpu).unwrap();
    let mut noise = |i: usize, x: &Tensor| x.ones_like()? * (i as f64 * 0.7).sin();
    let a = ddpm(&d, &model, x.clone(), false, &mut noise, &mut quiet).unwrap();
    let b = ddim(&d, &model, x, &eta(1.0), &mut noise, &mut quiet).unwrap();
    for (a, b) in a.to_vec2::<f64>().unwrap()[0]
        .iter()
        .zip(&b.to_vec2::<f64>().unwrap()[0])
    {
        assert!((a - 0.25).abs() < 1e-9 && (a - b).abs() < 1e-9, "{a} {b}");
    }
}

#[test]
fn ddim_converges_at_order_one() {
    let (measured, fine) = order_of(|steps| {
        let (d, model) = gaussian(steps, VarType::FixedSmall, V);
        let x = Tensor::new(&[[1.5f64]], &Device::Cpu).unwrap();
        let y = ddim(&d, &model, x, &eta(0.0), &mut no_noise, &mut quiet).unwrap();
        let bar = d.coefficients().alphas_cumprod[steps - 1];
        let exact = 1.5 * (V / (bar * V + 1.0 - bar)).sqrt();
        (y.to_vec2::<f64>().unwrap()[0][0] - exact).abs() / exact
    });
    assert!(
        fine < 0.05 && (measured - 1.0).abs() < 0.35,
        "{fine:e}, order {measured}"
    );
}

#[test]
fn noisy_ddim_reaches_the_data_s_variance() {
    let sigmas = crate::Edm {
        sigma_max: 50.0,
        sigma_min: 0.01,
        ..Default::default()
    }
    .sigmas(100);
    let d = |x: &Tensor, s: f64| x * (V / (V + s * s));
    let mut last = f64::INFINITY;
    for eta in [0.0, 0.5, 1.0] {
        let v = variance_of(100, |x, noise| {
            // The start is 50 times its noise.
            ddim_sigma(&d, (x * 50.0).unwrap(), &sigmas, eta, noise, &mut quiet).unwrap()
        });
        assert!((v - V).abs() < 0.1 * V && v != last, "eta {eta}: {v}");
        last = v;
    }
}

#[test]
fn a_picture_does_not_depend_on_its_batch() {
    let (d, model) = gaussian(30, VarType::FixedLarge, V);
    let run = |indices: &[u64]| {
        let x = nn_ops::noise::normal_tensor(7, indices, 1, 0, &[2, 2, 2], &Device::Cpu).unwrap();
        let y = ddpm(
            &d,
            &model,
            x,
            true,
            &mut addressed_noise(7, indices, 2),
            &mut quiet,
        )
        .unwrap();
        let last = y.get(indices.len() - 1).unwrap();
        last.flatten_all().unwrap().to_vec1::<f32>().unwrap()
    };
    assert_eq!(run(&[5, 1, 9]), run(&[9]));
}

#[test]
fn an_error_of_the_callback_ends_the_run() {
    let (d, model) = gaussian(30, VarType::FixedSmall, V);
    let x = Tensor::new(&[[1.0f64]], &Device::Cpu).unwrap();
    let mut calls = 0;
    let mut stop = |i: usize, _: &Tensor| {
        calls += 1;
        if i == 2 {
            candle_core::bail!("enough")
        } else {
            Ok(())
        }
    };
    let e = ddpm(&d, &model, x.clone(), false, &mut no_noise, &mut stop).unwrap_err();
    assert!(e.to_string().contains("enough") && calls == 3);
    let e = ddim(&d, &model, x, &eta(1.5), &mut no_noise, &mut quiet).unwrap_err();
    assert!(e.to_string().contains("eta is 1.5"));
}

/// D of two points at -1 and 1: not linear.
fn two_points(x: &Tensor, s: f64) -> Result<Tensor> {
    (x / (s * s).max(0.05))?.tanh()
}

#[test]
fn every_named_sampler_keeps_pictures_apart_and_stops_when_told() {
    let sigmas = crate::grid::karras(9, 20.0, 0.1, 7.0);
    for name in SamplerName::ALL {
        let config = SolverConfig {
            order: 3,
            eta: 0.5,
            churn: Churn {
                s_churn: 3.0,
                ..Default::default()
            },
            ..name.name().parse().unwrap()
        };
        let limited = |x: &Tensor, s: f64| Thresholded::new(&two_points, 0.9, 2.0)?.denoise(x, s);
        let run = |indices: &[u64], on: OnStep| {
            let x = nn_ops::noise::normal_tensor(7, indices, 1, 0, &[2, 2, 3], &Device::Cpu)?;
            let mut noise = addressed_noise(7, indices, 2);
            let x = config.sample(&limited, (x * sigmas[0])?, &sigmas, &mut noise, on)?;
            x.get(indices.len() - 1)?.flatten_all()?.to_vec1::<f32>()
        };
        let alone = run(&[9], &mut quiet).unwrap();
        assert_eq!(run(&[5, 1, 9], &mut quiet).unwrap(), alone, "{name}");
        assert!(alone.iter().all(|v| v.abs() < 2.0), "{name}: {alone:?}");
        let mut calls = 0;
        let mut stop = |i: usize, _: &Tensor| {
            calls += 1;
            if i == 3 {
                candle_core::bail!("enough")
            } else {
                Ok(())
            }
        };
        let e = run(&[9], &mut stop).unwrap_err().to_string();
        assert!(e.contains("enough") && calls == 4, "{name}: {calls} {e}");
    }
}

#[test]
fn dpmpp_2m_has_the_bits_it_always_had() {
    let sigmas = crate::Edm::default().sigmas(12);
    let start = nn_ops::noise::normal_tensor(3, &[0, 1], 0, 0, &[5], &Device::Cpu).unwrap();
    let start = (start * sigmas[0]).unwrap();
    // The arithmetic of the first release, spelled out.
    let (mut x, mut last) = (start.clone(), None::<(Tensor, f64)>);
    for w in sigmas.windows(2) {
        let (s, next) = (w[0], w[1]);
        let clean = two_points(&x, s).unwrap();
        let guess = match &last {
            Some((old, before)) if next > 0.0 => {
                let half = 1.0 / (2.0 * ((before.ln() - s.ln()) / (s.ln() - next.ln())));
                ((&clean * (1.0 + half)).unwrap() - (old * half).unwrap()).unwrap()
            }
            _ => clean.clone(),
        };
        let kept = (&x * (next / s)).unwrap();
        x = (kept + (guess * (1.0 - next / s)).unwrap()).unwrap();
        last = Some((clean, s));
    }
    let got = dpmpp_2m(&two_points, start, &sigmas, &mut quiet).unwrap();
    assert_eq!(got.to_vec2::<f32>().unwrap(), x.to_vec2::<f32>().unwrap());
}

#[test]
fn every_sampler_refuses_a_grid_that_does_not_fall() {
    let x = Tensor::new(&[[1.0f64]], &Device::Cpu).unwrap();
    for sigmas in [
        &[][..],
        &[1.0],
        &[1.0, 2.0],
        &[2.0, f64::NAN, 0.0],
        &[2.0, 0.0, 0.0],
    ] {
        let churn = Churn::default();
        let one = |_: usize, x: &Tensor| x.ones_like();
        let refused = [
            euler(&two_points, x.clone(), sigmas, &mut quiet),
            heun(&two_points, x.clone(), sigmas, &mut quiet),
            edm(
                &two_points,
                x.clone(),
                sigmas,
                &churn,
                &mut { one },
                &mut quiet,
            ),
            ddim_sigma(
                &two_points,
                x.clone(),
                sigmas,
                1.0,
                &mut { one },
                &mut quiet,
            ),
            dpmpp_2m(&two_points, x.clone(), sigmas, &mut quiet),
        ];
        for result in refused {
            assert!(matches!(result, Err(Error::Argument { .. })), "{sigmas:?}");
        }
    }
}

#[test]
fn errors_of_networks_and_callbacks_keep_their_kind() {
    let x = || Tensor::new(&[[1.0f64]], &Device::Cpu).unwrap();
    let bad = |_: &Tensor, _: f64| -> Result<Tensor> {
        let level = crate::prediction::Prediction::V.to_clean(0.0, 0.0);
        Err(level.unwrap_err().into())
    };
    let e = unipc(&bad, x(), &[2.0, 1.0], &UniPc::default(), &mut quiet).unwrap_err();
    assert!(matches!(e, Error::Argument { .. }), "{e}");
    let mut stop = |_: usize, _: &Tensor| -> Result<()> {
        Err(crate::error::Error::Unknown {
            what: "step",
            name: "first".into(),
            known: "none",
        }
        .into())
    };
    let e = euler(&two_points, x(), &[2.0, 1.0], &mut stop).unwrap_err();
    assert!(matches!(e, Error::Unknown { .. }), "{e}");
}

#[test]
fn a_process_without_terminal_signal_trains_and_samples() {
    let schedule = crate::diffusion::BetaSchedule {
        zero_terminal_snr: true,
        ..Default::default()
    };
    let steps = 400;
    let of = |mean| {
        let betas = schedule.betas(steps).unwrap();
        GaussianDiffusion::new(betas, mean, VarType::FixedSmall, LossType::Mse)
    };
    let e = of(MeanType::Epsilon).unwrap_err().to_string();
    assert!(e.contains("last beta of 1"), "{e}");
    let start = Tensor::new(&[[1.5f64]], &Device::Cpu).unwrap();
    let mut ends = Vec::new();
    for mean in [MeanType::XStart, MeanType::V] {
        let d = of(mean).unwrap();
        let bars = d.coefficients().alphas_cumprod.clone();
        assert_eq!(bars[steps - 1], 0.0);
        // Conditional means of x_0 and v given x_t for data N(0, V).
        let factor = move |bar: f64| {
            let (a, s) = (bar.sqrt(), (1.0 - bar).sqrt());
            let part = if mean == MeanType::V {
                a * s * (1.0 - V)
            } else {
                a * V
            };
            part / (bar * V + 1.0 - bar)
        };
        let model = |x: &Tensor, t: &Tensor| x * factor(bars[t.to_vec1::<f32>()?[0] as usize]);
        let y = ddim(
            &d,
            &model,
            start.clone(),
            &eta(0.0),
            &mut no_noise,
            &mut quiet,
        )
        .unwrap();
        ends.push(y.to_vec2::<f64>().unwrap()[0][0]);
        let v = variance_of(steps, |x, noise| {
            ddpm(&d, &model, x, false, noise, &mut quiet).unwrap()
        });
        assert!((v - V).abs() < 0.02 * V, "{mean:?}: {v}");
        // At the last step all of x_t is noise, and v is -x_0.
        let (x0, noise) = ((&start * 0.3).unwrap(), start.clone());
        let zero = |x: &Tensor, _: &Tensor| x.zeros_like();
        let losses = d.training_losses(&zero, &x0, &[steps - 1], &noise).unwrap();
        let loss = losses.loss.to_vec1::<f64>().unwrap()[0];
        assert!((loss - 0.45f64.powi(2)).abs() < 1e-12, "{mean:?}: {loss}");
        let bound = d.calc_bpd_loop(&model, &x0, &mut |_, x| x.ones_like(), false);
        let bound = bound.unwrap().total.to_vec1::<f64>().unwrap()[0];
        assert!(bound.is_finite());
        let s = crate::diffusion::SigmaDenoiser::new(&d, &model, false).unwrap();
        let sigmas = s.sigmas();
        let x = (&start * sigmas[0]).unwrap();
        let y = euler(&s, x, &sigmas, &mut quiet).unwrap();
        ends.push(y.to_vec2::<f64>().unwrap()[0][0]);
    }
    // The flow from N(0, 1) to N(0, V).
    let exact = 1.5 * V.sqrt();
    for end in &ends {
        assert!((end - exact).abs() < 0.02 * exact, "{ends:?}, {exact}");
    }
    assert!((ends[0] - ends[2]).abs() < 1e-9, "{ends:?}");
}
