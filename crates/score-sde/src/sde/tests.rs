use super::*;
use crate::error::Error;
use crate::pictures::scale;
use crate::sampler::Denoiser;
use candle_core::Device;

fn all() -> [Process; 3] {
    ["vpsde", "subvpsde", "vesde"].map(|s| s.parse().unwrap())
}

/// The marginal solves the moments' equations: s' = f s and (std^2)' = 2 f std^2 + g^2.
#[test]
fn marginals_follow_from_drift_and_diffusion() {
    for sde in all() {
        for t in [0.05, 0.3, 0.9] {
            let h = 1e-5;
            let at = |t: f64| sde.marginal(t);
            let slope = |f: &dyn Fn(Marginal) -> f64| (f(at(t + h)) - f(at(t - h))) / (2.0 * h);
            let (m, f, g) = (at(t), sde.drift(t), sde.diffusion(t));
            let signal = slope(&|m| m.signal);
            assert!((signal - f * m.signal).abs() < 1e-7, "{sde:?} {t}");
            let variance = slope(&|m| m.std * m.std);
            let want = 2.0 * f * m.std * m.std + g * g;
            assert!(
                (variance - want).abs() < 1e-6 * want.max(1.0),
                "{sde:?} {t}"
            );
        }
    }
}

#[test]
fn time_is_the_inverse_of_sigma() {
    for sde in all() {
        for t in [1e-5, 0.01, 0.4, 1.0] {
            let back = sde.time(sde.sigma(t));
            assert!((back - t).abs() < 1e-9, "{sde:?} {t} {back}");
        }
        assert_eq!((sde.time(0.0), sde.time(1e9)), (0.0, 1.0), "{sde:?}");
    }
    let flat = Vp {
        beta_min: 2.0,
        beta_max: 2.0,
        ..Default::default()
    };
    assert!((flat.time(flat.sigma(0.7)) - 0.7).abs() < 1e-12);
}

/// The score of data N(0, v) at each time.
fn gaussian(sde: Process, v: f64) -> impl Fn(&Tensor, &[f64]) -> candle_core::Result<Tensor> {
    move |x, t| {
        let factor = |t| {
            let m = sde.marginal(t);
            -1.0 / (m.signal * m.signal * v + m.std * m.std)
        };
        Ok(scale(x, t, factor)?)
    }
}

#[test]
fn scores_and_denoisers_convert_both_ways() {
    let x = Tensor::new(&[[0.4f64, -1.0], [2.0, 0.3], [1.0, 1.0]], &Device::Cpu).unwrap();
    for sde in all() {
        let score = gaussian(sde, 0.3);
        let denoiser = ScoreDenoiser {
            sde: &sde,
            score: &score,
        };
        for sigma in [0.05, 3.0] {
            let got = pictures(&denoiser.denoise(&x, sigma).unwrap()).unwrap();
            let want = 0.3 / (0.3 + sigma * sigma);
            assert!((got[1][0] - 2.0 * want).abs() < 1e-9, "{sde:?} {sigma}");
        }
        let back = DenoiserScore {
            sde: &sde,
            denoiser: &denoiser,
        };
        let t = [0.2, 0.2, 0.9];
        let (a, b) = (back.score(&x, &t).unwrap(), score(&x, &t).unwrap());
        let (a, b) = (pictures(&a).unwrap(), pictures(&b).unwrap());
        for (a, b) in a.iter().flatten().zip(b.iter().flatten()) {
            assert!((a - b).abs() < 1e-9 * b.abs().max(1.0), "{sde:?}: {a} {b}");
        }
    }
}

#[test]
fn networks_see_score_sde_s_labels() {
    let x = Tensor::new(&[[1.0f32], [1.0]], &Device::Cpu).unwrap();
    // It returns its label.
    let network = |x: &Tensor, t: &Tensor| t.reshape(x.shape());
    let ask = |sde: Process, labels| {
        let score = NetworkScore {
            sde: &sde,
            network: &network,
            labels,
        };
        pictures(&score.score(&x, &[0.5, 0.25]).unwrap()).unwrap()
    };
    let [vp, subvp, ve] = all();
    let near = |a: f64, b: f64| assert!((a - b).abs() < 1e-5 * b.abs(), "{a} {b}");
    near(
        ask(vp, Labels::Continuous)[1][0],
        -249.75 / vp.marginal(0.25).std,
    );
    near(
        ask(subvp, Labels::Discrete)[0][0],
        -499.5 / subvp.marginal(0.5).std,
    );
    near(ask(ve, Labels::Continuous)[0][0], ve.marginal(0.5).std);
    // Label 499.5 belongs to step 499 of DDPM's chain; torch rounds 499.5 to 500 and 749.25 to 749.
    let betas = (0..=499).map(|i| 1e-4 + (0.02 - 1e-4) * i as f64 / 999.0);
    let bar: f64 = betas.map(|b| 1.0 - b).product();
    near(ask(vp, Labels::Discrete)[0][0], -499.5 / (1.0 - bar).sqrt());
    assert_eq!(ask(ve, Labels::Discrete), [[500.0], [749.0]]);
}

#[test]
fn bad_parameters_and_names_are_told() {
    let message = |e: Error| e.to_string();
    let e = Vp {
        beta_min: -1.0,
        ..Default::default()
    };
    assert!(message(e.check().unwrap_err()).contains("beta_min is -1"));
    let e = Ve {
        sigma_max: 0.001,
        ..Default::default()
    };
    assert!(message(e.check().unwrap_err()).contains("sigma_max is 0.001"));
    let e = Process::SubVp(SubVp::default()).with_scales(0);
    assert!(message(e.check().unwrap_err()).contains("num_scales is 0"));
    let e = "vp".parse::<Process>().unwrap_err();
    assert!(message(e).contains("vpsde, subvpsde, vesde"));
    let x = Tensor::new(&[[1.0f32]], &Device::Cpu).unwrap();
    let e = Reverse {
        sde: &Vp::default(),
        score: &gaussian(all()[0], 1.0),
        probability_flow: false,
    };
    assert!(message(e.drift(&x, &[0.1, 0.2]).unwrap_err()).contains("(2, ...)"));
}

#[test]
fn processes_are_read_and_written() {
    let text = r#"{"sde":"vesde","sigma_max":380.0}"#;
    let sde: Process = serde_json::from_str(text).unwrap();
    let want = Ve {
        sigma_max: 380.0,
        ..Default::default()
    };
    assert_eq!(sde, Process::Ve(want));
    let written = serde_json::to_string(&sde).unwrap();
    assert_eq!(serde_json::from_str::<Process>(&written).unwrap(), sde);
    assert!(serde_json::from_str::<Process>(r#"{"sde":"vpsde","sigma_max":1.0}"#).is_err());
}
