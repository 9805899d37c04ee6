//! Against exact densities.

use super::*;
use crate::pictures::scale;
use crate::sampler::{Coupling, addressed_noise, no_noise, probability_flow};
use crate::sde::Process;
use candle_core::{Device, Result as CandleResult};

fn quiet(_: usize, _: &Tensor) -> CandleResult<()> {
    Ok(())
}

fn fine() -> Likelihood {
    Likelihood {
        ode: Rk45 {
            rtol: 1e-8,
            atol: 1e-8,
            coupling: Coupling::PerPicture,
        },
        ..Default::default()
    }
}

fn points() -> Tensor {
    Tensor::new(&[[0.3f64, -0.4], [1.5, 0.2], [-2.0, 1.0]], &Device::Cpu).unwrap()
}

/// ln N(x; 0, v) over all values.
fn normal(x: &[f64], v: f64) -> f64 {
    let one = |x: &f64| -0.5 * ((std::f64::consts::TAU * v).ln() + x * x / v);
    x.iter().map(one).sum()
}

#[test]
fn normal_data_have_their_density() {
    for name in ["vpsde", "subvpsde", "vesde"] {
        let sde: Process = name.parse().unwrap();
        // Variance at each time of data N(0, 0.3).
        let variance = |t: f64| {
            let m = sde.marginal(t);
            0.3 * m.signal * m.signal + m.std * m.std
        };
        let score = |x: &Tensor, t: &[f64]| Ok(scale(x, t, |t| -1.0 / variance(t))?);
        let x = points();
        // Signs are exact for a score that scales, whatever they are.
        let mut noise = addressed_noise(5, &[0, 1, 2], 0);
        let got = log_likelihood(&sde, &score, &x, &fine(), &mut noise, &mut quiet).unwrap();
        let (from, to) = (variance(1e-5), variance(1.0));
        for (i, x) in pictures(&x).unwrap().iter().enumerate() {
            let latent = &pictures(&got.latent).unwrap()[i];
            assert!(
                (latent[0] - x[0] * (to / from).sqrt()).abs() < 1e-5,
                "{name}"
            );
            // The prior is not the distribution at the end, which has variance `to`: that much is off by design.
            let prior = normal(latent, sde.prior_std().powi(2)) - normal(latent, to);
            let want = normal(x, from) + prior;
            assert!(
                (got.nats[i] - want).abs() < 1e-5,
                "{name}: {} {want}",
                got.nats[i]
            );
            assert!(prior.abs() < 1e-3);
        }
        // And back.
        let options = fine();
        let back = probability_flow(
            &sde,
            &score,
            &got.latent,
            [1.0, 1e-5],
            &options.ode,
            &mut quiet,
        );
        let back = pictures(&back.unwrap().x).unwrap().concat();
        for (a, b) in back.iter().zip(pictures(&x).unwrap().concat()) {
            assert!((a - b).abs() < 1e-5, "{name}: {a} {b}");
        }
    }
}

#[test]
fn bits_follow_from_nats() {
    let density = LogDensity {
        nats: vec![2.0 * std::f64::consts::LN_2],
        latent: Tensor::zeros((1, 2), candle_core::DType::F32, &Device::Cpu).unwrap(),
        evaluations: vec![8],
    };
    assert_eq!(density.bits_per_dim(DataRange::MinusOneToOne), [6.0]);
    assert_eq!(density.bits_per_dim(DataRange::ZeroToOne), [7.0]);
}

/// Half N(m, 0.2), half N(-m, 0.2) in two dimensions: the score and ln p of x_t.
const CENTRE: [f64; 2] = [1.0, 0.5];

fn mixture_score(sde: Process) -> impl Fn(&Tensor, &[f64]) -> CandleResult<Tensor> {
    move |x, t| {
        let v = |t: f64| {
            let m = sde.marginal(t);
            0.2 * m.signal * m.signal + m.std * m.std
        };
        // -(x - s m tanh(s m . x / v)) / v
        let m = Tensor::new(&[CENTRE], &Device::Cpu)?;
        let along = x.broadcast_mul(&m)?.sum_keepdim(1)?;
        let side = scale(&along, t, |t| sde.marginal(t).signal / v(t))?.tanh()?;
        let centre = scale(&side.broadcast_mul(&m)?, t, |t| sde.marginal(t).signal)?;
        Ok(scale(&(centre - x)?, t, |t| 1.0 / v(t))?)
    }
}

fn mixture_density(sde: Process, x: &[f64], t: f64) -> f64 {
    let m = sde.marginal(t);
    let v = 0.2 * m.signal * m.signal + m.std * m.std;
    let part = |sign: f64| {
        let off = [0, 1].map(|k| x[k] - sign * m.signal * CENTRE[k]);
        normal(&off, v).exp() / 2.0
    };
    (part(1.0) + part(-1.0)).ln()
}

#[test]
fn a_mixture_has_its_density() {
    for name in ["vpsde", "subvpsde"] {
        let sde: Process = name.parse().unwrap();
        let (score, x) = (mixture_score(sde), points());
        // The two directions (1, 1) and (1, -1) together give the exact trace.
        let mut both = |i: usize, x: &Tensor| {
            let row = [1.0, if i == 0 { 1.0 } else { -1.0 }];
            Tensor::new(vec![row.to_vec(); x.dim(0)?], &Device::Cpu)
        };
        let options = Likelihood {
            probes: 2,
            ..fine()
        };
        let got = log_likelihood(&sde, &score, &x, &options, &mut both, &mut quiet).unwrap();
        for (x, nats) in pictures(&x).unwrap().iter().zip(&got.nats) {
            let want = mixture_density(sde, x, options.eps);
            assert!((nats - want).abs() < 1e-3, "{name}: {nats} {want}");
        }
    }
}

/// Hutchinson's estimator is unbiased for both kinds of direction: the mean over many pictures, all the same point.
#[test]
fn random_directions_are_unbiased() {
    let sde: Process = "vpsde".parse().unwrap();
    let score = mixture_score(sde);
    let n = 1500;
    let x = Tensor::new(vec![vec![0.7f64, -0.2]; n], &Device::Cpu).unwrap();
    let indices: Vec<u64> = (0..n as u64).collect();
    let want = mixture_density(sde, &[0.7, -0.2], 1e-3);
    for probe in [Probe::Rademacher, Probe::Gaussian] {
        let options = Likelihood {
            probe,
            eps: 1e-3,
            ..Default::default()
        };
        let mut noise = addressed_noise(1, &indices, 0);
        let mut f64s = |i: usize, x: &Tensor| noise(i, x);
        let got = log_likelihood(&sde, &score, &x, &options, &mut f64s, &mut quiet).unwrap();
        let mean = got.nats.iter().sum::<f64>() / n as f64;
        let spread = got.nats.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (n - 1) as f64;
        let error = (spread / n as f64).sqrt();
        assert!(
            (mean - want).abs() < 4.0 * error + 1e-3 && error < 0.1,
            "{probe:?}: {mean} +- {error}, {want}"
        );
        // A picture's estimate is its own.
        let alone = x.narrow(0, 7, 1).unwrap();
        let mut noise = addressed_noise(1, &[7], 0);
        let alone = log_likelihood(&sde, &score, &alone, &options, &mut noise, &mut quiet).unwrap();
        assert_eq!(alone.nats[0], got.nats[7]);
        assert_eq!(alone.evaluations[0], got.evaluations[7]);
    }
}

#[test]
fn bad_options_are_told() {
    let sde: Process = "vpsde".parse().unwrap();
    let score = mixture_score(sde);
    let ask = |options: Likelihood| {
        let e = log_likelihood(&sde, &score, &points(), &options, &mut no_noise, &mut quiet);
        e.unwrap_err().to_string()
    };
    let none = ask(Likelihood {
        probes: 0,
        ..fine()
    });
    assert!(none.contains("probes is 0"), "{none}");
    let late = ask(Likelihood { eps: 1.0, ..fine() });
    assert!(late.contains("eps is 1"), "{late}");
    let e = "Cauchy".parse::<Probe>().unwrap_err().to_string();
    assert!(e.contains("Rademacher, Gaussian"));
    let mut stop = |_: usize, _: &Tensor| candle_core::bail!("enough");
    let e = log_likelihood(&sde, &score, &points(), &fine(), &mut no_noise, &mut stop);
    assert!(e.unwrap_err().to_string().contains("enough"));
}
