//! Errors of samplers on normal data, where everything is known: shared by the example and its test.

use candle_core::{Device, Result, Tensor};
use score_sde::grid::exponential;
use score_sde::sampler::{Bh, Churn, Form, SamplerName as S, SolverConfig, Third};

/// Variances of the data. Several, for the error of one may pass through 0.
const V: [f64; 4] = [0.0625, 0.25, 1.0, 4.0];
/// Where sampling starts. High, for a multistep sampler's first steps are of lower order, and their error, which falls
/// with V / FROM^2, must not hide that of the others.
const FROM: f64 = 1000.0;
/// Where it ends: not at 0, since the last step to 0 is the denoiser's answer whatever the order, and not far below sqrt(V)
/// either, since from there on the errors of a normal flow cancel those before.
const TO: f64 = 0.5;

/// The error after `steps` equal steps in ln sigma, the largest of the data's variances V.
///
/// Deterministic samplers: of the state, relative to the exact flow, which scales it by the ratio of standard deviations.
/// Stochastic ones: of the variance, relative to V + TO^2, from a start with the exact variance V + FROM^2. It is computed
/// without any random number: the sampler is linear in its start and its noises, so each gets a row of its own, in which it
/// alone is not 0, and the squares of the results add up.
pub fn error(config: &SolverConfig, steps: usize) -> Result<f64> {
    let row = |f: &dyn Fn(f64) -> f64| Tensor::new(&V.map(f), &Device::Cpu)?.unsqueeze(0);
    let d = |x: &Tensor, sigma: f64| x.broadcast_mul(&row(&|v| v / (v + sigma * sigma))?);
    let sigmas = exponential(steps + 1, FROM, TO);
    let rows = if config.is_stochastic() { steps + 1 } else { 1 };
    let unit = |k: usize| {
        let column: Vec<f64> = (0..rows).map(|i| f64::from(i == k)).collect();
        Tensor::from_vec(column, (rows, 1), &Device::Cpu)?.broadcast_as((rows, V.len()))
    };
    // Row 0 is the start's, row i + 1 that of step i.
    let mut noise = |i: usize, _: &Tensor| unit(i + 1);
    let x = unit(0)?.broadcast_mul(&row(&|v| (v + FROM * FROM).sqrt())?)?;
    let x = config.sample(&d, x, &sigmas, &mut noise, &mut |_, _| Ok(()))?;
    let variances = x.sqr()?.sum(0)?.to_vec1::<f64>()?;
    let errors = variances.iter().zip(V).map(|(variance, v)| {
        let ratio = variance / (v + TO * TO);
        let ratio = if config.is_stochastic() {
            ratio
        } else {
            ratio.sqrt()
        };
        (ratio - 1.0).abs()
    });
    Ok(errors.fold(0.0, f64::max))
}

/// Every sampler at every order, with the order it should show.
pub fn all() -> Vec<(String, SolverConfig, f64)> {
    let of = |sampler, order| SolverConfig {
        sampler,
        order,
        lower_order_final: false,
        ..SolverConfig::default()
    };
    let mut all = vec![
        ("euler".into(), of(S::Euler, 1), 1.0),
        ("euler_ancestral".into(), of(S::EulerAncestral, 1), 1.0),
        (
            "ddim, eta 0.5".into(),
            SolverConfig {
                eta: 0.5,
                ..of(S::Ddim, 1)
            },
            1.0,
        ),
        ("heun".into(), of(S::Heun, 1), 2.0),
    ];
    let churn = Churn {
        s_churn: 4.0,
        ..Churn::default()
    };
    all.push((
        "edm, churn 4".into(),
        SolverConfig {
            churn,
            ..of(S::Edm, 1)
        },
        2.0,
    ));
    for (k, expected) in [(1, 1.0f64), (2, 2.0), (3, 3.0)] {
        all.push((format!("dpmpp_{k}m"), of(S::DpmppMultistep, k), expected));
        all.push((format!("dpmpp_{k}s"), of(S::DpmppSinglestep, k), expected));
        // Two at most: the polynomial does not see the noise inside a step. One in groups, whose values are seen through
        // noise that has nothing to do with that of the step (see its documentation).
        let (sde, groups) = (of(S::DpmppMultistepSde, k), of(S::DpmppSinglestepSde, k));
        all.push((format!("dpmpp_{k}m_sde"), sde, expected.min(2.0)));
        all.push((format!("dpmpp_{k}s_sde"), groups, 1.0));
        all.push((format!("deis_{k}"), of(S::Deis, k), expected));
        for bh in [Bh::Bh1, Bh::Bh2] {
            let name = format!("unipc_{k}, {bh:?}").to_lowercase();
            all.push((
                name,
                SolverConfig {
                    bh,
                    ..of(S::UniPc, k)
                },
                expected + 1.0,
            ));
        }
    }
    for k in [2, 3] {
        for (name, sampler) in [("m", S::DpmppMultistep), ("s", S::DpmppSinglestep)] {
            let heun = SolverConfig {
                form: Form::Heun,
                ..of(sampler, k)
            };
            all.push((format!("dpmpp_{k}{name}, heun"), heun, k as f64));
        }
    }
    for (name, sampler, expected) in [
        ("dpmpp_3m, published", S::DpmppMultistep, 2.0),
        ("dpmpp_3m_sde, published", S::DpmppMultistepSde, 1.0),
    ] {
        let third = Third::Published;
        all.push((
            name.into(),
            SolverConfig {
                third,
                ..of(sampler, 3)
            },
            expected,
        ));
    }
    all
}
