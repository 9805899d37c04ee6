//! The continuous-time part against numbers computed by score_sde: outputs within 1e-4 of the largest.

mod common;

use candle_core::{DType, Device, Tensor};
use common::{Case, close, close_to, golden, quiet};
use score_sde::control::{colourise, inpaint};
use score_sde::likelihood::{DataRange, Likelihood, Probe, log_likelihood};
use score_sde::ode::Rk45;
use score_sde::sampler::{
    Corrector, Coupling, Predictor, PredictorCorrector, no_noise, predictor_corrector,
    probability_flow, remove_noise,
};
use score_sde::sde::{Labels, NetworkScore, Process, Sde};

fn kinds() -> [(&'static str, Process); 3] {
    [("vp", "vpsde"), ("subvp", "subvpsde"), ("ve", "vesde")].map(|(k, n)| (k, n.parse().unwrap()))
}

fn times(case: &Case) -> Vec<f64> {
    case.get("t")
        .to_dtype(DType::F64)
        .unwrap()
        .to_vec1()
        .unwrap()
}

/// One factor per picture times x.
fn scaled(x: &Tensor, factors: &[f64]) -> Tensor {
    let f = Tensor::new(factors, &Device::Cpu).unwrap();
    let f = f.to_dtype(x.dtype()).unwrap();
    x.broadcast_mul(&f.reshape((factors.len(), 1, 1, 1)).unwrap())
        .unwrap()
}

#[test]
fn processes() {
    for case in golden("score-sde-processes") {
        let (x, t) = (case.get("x"), times(&case));
        for (kind, sde) in kinds() {
            let list = |f: &dyn Fn(f64) -> f64| t.iter().map(|&t| f(t)).collect::<Vec<f64>>();
            let vector = |name: &str, values: Vec<f64>| {
                let got = Tensor::new(values, &Device::Cpu).unwrap();
                close(&case, &format!("{kind}.{name}"), &got, 1e-4);
            };
            let picture = |name: &str, factors: &[f64]| {
                close(&case, &format!("{kind}.{name}"), &scaled(&x, factors), 1e-4);
            };
            picture("drift", &list(&|t| sde.drift(t)));
            vector("diffusion", list(&|t| sde.diffusion(t)));
            picture("mean", &list(&|t| sde.marginal(t).signal));
            vector("std", list(&|t| sde.marginal(t).std));
            picture("disc_f", &list(&|t| sde.discretize(t).drift));
            vector("disc_G", list(&|t| sde.discretize(t).diffusion));
            vector("prior_logp", sde.prior_log_density(&x).unwrap());
        }
    }
}

/// Norms of the whole batch, as there.
fn like_score_sde(case: &Case) -> PredictorCorrector {
    PredictorCorrector {
        snr: case.config["snr"].as_f64().unwrap(),
        eps: case.config["eps"].as_f64().unwrap(),
        coupling: Coupling::Batch,
        ..Default::default()
    }
}

#[test]
fn samplers() {
    for (kind, sde) in kinds() {
        for case in golden(&format!("score-sde-samplers-{kind}")) {
            let sde = sde.with_scales(case.config["N"].as_u64().unwrap() as usize);
            let (mu, var) = (case.get("mu"), case.get("var"));
            let score = |x: &Tensor, t: &[f64]| -> candle_core::Result<Tensor> {
                let m = sde.marginal(t[0]);
                let off = x.broadcast_sub(&(&mu * m.signal)?)?;
                off.broadcast_div(&(&var * (m.signal * m.signal))?.affine(-1.0, -m.std * m.std)?)
            };
            let run = |options: &PredictorCorrector, zs: Option<&Tensor>| {
                let mut noise =
                    |i: usize, x: &Tensor| zs.map_or_else(|| no_noise(i, x), |z| z.get(i));
                let z = case.get("z");
                predictor_corrector(&sde, &score, z, options, &mut noise, &mut quiet)
            };
            let names: Vec<&String> = case
                .tensors
                .keys()
                .filter(|n| n.ends_with(".out"))
                .collect();
            assert!(!names.is_empty());
            for name in names {
                let words: Vec<&str> = name.split('.').collect();
                let mut options = PredictorCorrector {
                    predictor: words[0].parse::<Predictor>().unwrap(),
                    corrector: words[1].parse::<Corrector>().unwrap(),
                    ..like_score_sde(&case)
                };
                let stem = format!("{}.{}", words[0], words[1]);
                let zs = case.get(&format!("{stem}.zs"));
                let last = case
                    .get(name)
                    .max_all()
                    .unwrap()
                    .to_scalar::<f32>()
                    .unwrap();
                if !last.is_finite() {
                    // Twenty scales make VP's last beta 1, where ancestral sampling divides by 0.
                    let e = run(&options, Some(&zs)).unwrap_err().to_string();
                    assert!(e.contains("num_scales is 20"), "{e}");
                    continue;
                }
                options.noise_removal = false;
                close(&case, name, &run(&options, Some(&zs)).unwrap(), 1e-4);
                options.noise_removal = true;
                let mean = run(&options, Some(&zs)).unwrap();
                close(&case, &format!("{stem}.mean"), &mean, 1e-4);
            }
            let flow = PredictorCorrector {
                corrector: Corrector::None,
                probability_flow: true,
                ..like_score_sde(&case)
            };
            let y = run(&flow, None).unwrap();
            close(&case, "probability_flow.reverse_diffusion", &y, 1e-4);
        }
    }
}

/// The networks of `scripts/score_sde.py`.
fn network(kind: &str, x: &Tensor, label: &Tensor) -> candle_core::Result<Tensor> {
    let label = label.reshape(((), 1, 1, 1))?;
    if kind == "ve" {
        let pull = (x + (x.sin()? * 0.3)?)?;
        return pull.broadcast_div(&label.sqr()?.affine(-1.0, -1.0)?);
    }
    x.affine(0.9, 0.3)?
        .tanh()?
        .broadcast_sub(&(label * 0.0002)?)
}

#[test]
fn flows_likelihoods_and_controlled_generation() {
    let file = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/cases/score-sde.safetensors"
    );
    let io = candle_core::safetensors::load(file, &Device::Cpu).unwrap();
    for (kind, sde) in kinds() {
        let sde = sde.with_scales(25);
        let network = |x: &Tensor, label: &Tensor| network(kind, x, label);
        let score = NetworkScore {
            sde: &sde,
            network: &network,
            labels: Labels::Continuous,
        };
        let get = |name: &str| &io[&format!("{kind}.{name}")];
        let number = |name: &str| get(name).to_vec1::<f32>().unwrap()[0] as usize;
        let check =
            |name: &str, got: &Tensor| close_to(&format!("{kind}.{name}"), got, get(name), 1e-4);
        let ode = Rk45 {
            coupling: Coupling::Batch,
            ..Default::default()
        };
        let eps = if kind == "ve" { 1e-5 } else { 1e-3 };
        let prior = (&io["prior"] * sde.prior_std()).unwrap();
        let flow = probability_flow(&sde, &score, &prior, [1.0, eps], &ode, &mut quiet).unwrap();
        check("ode", &remove_noise(&sde, &score, &flow.x, eps).unwrap());
        // The networks' rounding decides a step now and then.
        let near = |a: usize, b: usize| assert!(a.abs_diff(b) <= 12, "{kind}: {a}, {b} there");
        near(flow.evaluations[0], number("ode_nfe"));

        for (name, probe) in [
            ("Rademacher", Probe::Rademacher),
            ("Gaussian", Probe::Gaussian),
        ] {
            let options = Likelihood {
                ode,
                eps: 1e-3,
                probe,
                probes: 1,
            };
            let mut directions = |_: usize, _: &Tensor| match probe {
                Probe::Rademacher => Ok(io["signs"].clone()),
                Probe::Gaussian => io["zs"].get(0),
            };
            let x = &io["x"];
            let got =
                log_likelihood(&sde, &score, x, &options, &mut directions, &mut quiet).unwrap();
            check(&format!("{name}.z"), &got.latent);
            let bits = got.bits_per_dim(DataRange::MinusOneToOne);
            check(
                &format!("{name}.bpd"),
                &Tensor::new(bits, &Device::Cpu).unwrap(),
            );
            near(got.evaluations[0], number(&format!("{name}.nfe")));
        }

        let options = PredictorCorrector {
            predictor: match kind {
                "vp" => Predictor::AncestralSampling,
                "ve" => Predictor::ReverseDiffusion,
                _ => Predictor::EulerMaruyama,
            },
            corrector: match kind {
                "subvp" => Corrector::None,
                _ => Corrector::Langevin,
            },
            eps,
            noise_removal: false,
            coupling: Coupling::Batch,
            ..Default::default()
        };
        let mut zs = |i: usize, _: &Tensor| io["zs"].get(i);
        let (data, mask) = (&io["x"], &io["mask"]);
        let y = inpaint(
            &sde,
            &score,
            data,
            mask,
            prior.clone(),
            &options,
            &mut zs,
            &mut quiet,
        );
        check("inpaint", &y.unwrap());
        let options = PredictorCorrector {
            corrector: Corrector::None,
            ..options
        };
        // There the start has no red.
        let blank = prior.narrow(1, 0, 1).unwrap().zeros_like().unwrap();
        let start = Tensor::cat(&[blank, prior.narrow(1, 1, 2).unwrap()], 1).unwrap();
        let y = colourise(
            &sde,
            &score,
            &io["gray"],
            start,
            &options,
            &mut zs,
            &mut quiet,
        );
        check("colourise", &y.unwrap());
    }
}
