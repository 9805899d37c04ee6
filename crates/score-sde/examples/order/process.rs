//! Errors of the samplers of a process in time, by the means of `measure`: exact variances, no random numbers.

use candle_core::{Device, Result, Tensor};
use score_sde::GaussianDiffusion;
use score_sde::diffusion::{LossType, MeanType, VarType};
use score_sde::ode::Rk45;
use score_sde::sampler::{
    Corrector, Ddim, Noise, Predictor, PredictorCorrector, ddim, ddpm, euler_maruyama,
    predictor_corrector, probability_flow,
};
use score_sde::sde::{Reverse, Sde, Ve, Vp};

/// Variances of the data.
const V: [f64; 4] = [0.0625, 0.25, 1.0, 4.0];

/// A sampler of a process with as many scales as it takes steps.
#[derive(Clone, Copy)]
pub enum Kind {
    /// [`euler_maruyama`] on even times; true is the flow.
    EulerMaruyama(bool),
    /// [`predictor_corrector`] on VP.
    Vp(Predictor, Corrector),
    /// The same on VE.
    Ve(Predictor, Corrector),
    /// [`ddpm`] on VP's chain.
    Ddpm,
    /// [`ddim`] there with this eta.
    Ddim(f64),
}

/// All with the order they should show.
pub fn all() -> Vec<(&'static str, Kind, f64)> {
    use Predictor::{AncestralSampling, EulerMaruyama, ReverseDiffusion};
    let none = Corrector::None;
    vec![
        ("euler_maruyama", Kind::EulerMaruyama(false), 1.0),
        ("its flow", Kind::EulerMaruyama(true), 1.0),
        ("vp: euler_maruyama", Kind::Vp(EulerMaruyama, none), 1.0),
        (
            "vp: reverse_diffusion",
            Kind::Vp(ReverseDiffusion, none),
            1.0,
        ),
        (
            "vp: ancestral_sampling",
            Kind::Vp(AncestralSampling, none),
            1.0,
        ),
        (
            "vp: with ald",
            Kind::Vp(ReverseDiffusion, Corrector::Ald),
            1.0,
        ),
        (
            "ve: reverse_diffusion",
            Kind::Ve(ReverseDiffusion, none),
            1.0,
        ),
        (
            "ve: ancestral_sampling",
            Kind::Ve(AncestralSampling, none),
            1.0,
        ),
        (
            "ve: with ald",
            Kind::Ve(ReverseDiffusion, Corrector::Ald),
            1.0,
        ),
        ("ddpm", Kind::Ddpm, 1.0),
        ("ddim", Kind::Ddim(0.0), 1.0),
        ("ddim, eta 0.5", Kind::Ddim(0.5), 1.0),
        ("ddim, eta 1", Kind::Ddim(1.0), 1.0),
    ]
}

/// The error after `steps` steps, the largest of the data's variances V: of the variance relative to that of the data as the
/// process leaves it at the last time, from a start with the exact variance.
///
/// A corrector does not converge by itself, since its steps are as long as `snr` says: here it falls with the square root of
/// the steps, so that they shorten as the predictor's do. Langevin steps whose length follows norms are not linear.
///
/// The loop's steps are as long as the process over its scales, its times stop at `eps`: as in score_sde, this leaves an error
/// of the order of `eps`, which is therefore small here.
pub fn error(kind: Kind, steps: usize) -> Result<f64> {
    let vp = Vp {
        num_scales: steps,
        ..Vp::default()
    };
    let ve = Ve {
        num_scales: steps,
        ..Ve::default()
    };
    match kind {
        Kind::EulerMaruyama(probability_flow) => {
            // Early enough that the last step, which has no noise, costs what the others do.
            let eps = 0.1;
            let times: Vec<f64> = (0..=steps)
                .map(|i| 1.0 + i as f64 / steps as f64 * (eps - 1.0))
                .collect();
            let score = |x: &Tensor, t: &[f64]| score(&vp, x, t);
            let reverse = Reverse {
                sde: &vp,
                score: &score,
                probability_flow,
            };
            by_rows(steps, law(&vp, 1.0), law(&vp, eps), |x, noise| {
                Ok(euler_maruyama(&reverse, x, &times, noise, &mut |_, _| {
                    Ok(())
                })?)
            })
        }
        Kind::Vp(predictor, corrector) => corrected(&vp, predictor, corrector),
        Kind::Ve(predictor, corrector) => corrected(&ve, predictor, corrector),
        Kind::Ddpm => chain(&vp, |d, model, x, noise| {
            Ok(ddpm(d, model, x, false, noise, &mut |_, _| Ok(()))?)
        }),
        Kind::Ddim(eta) => chain(&vp, |d, model, x, noise| {
            let options = Ddim {
                eta,
                ..Ddim::default()
            };
            Ok(ddim(d, model, x, &options, noise, &mut |_, _| Ok(()))?)
        }),
    }
}

/// The error of the probability flow of VP within a tolerance, of the state and relative, and the evaluations.
pub fn flow_error(tolerance: f64) -> Result<(f64, usize)> {
    let (vp, eps) = (Vp::default(), 1e-3);
    let score = |x: &Tensor, t: &[f64]| score(&vp, x, t);
    let ode = Rk45 {
        rtol: tolerance,
        atol: tolerance,
        ..Rk45::default()
    };
    let (from, to) = (law(&vp, 1.0), law(&vp, eps));
    let x = Tensor::new(&[from.map(f64::sqrt)], &Device::Cpu)?;
    let flow = probability_flow(&vp, &score, &x, [1.0, eps], &ode, &mut |_, _| Ok(()))?;
    let got = flow.x.flatten_all()?.to_vec1::<f64>()?;
    let errors = got.iter().zip(to).map(|(x, v)| (x / v.sqrt() - 1.0).abs());
    Ok((errors.fold(0.0, f64::max), flow.evaluations[0]))
}

fn corrected(sde: &dyn Sde, predictor: Predictor, corrector: Corrector) -> Result<f64> {
    let eps = 1e-5;
    let options = PredictorCorrector {
        predictor,
        corrector,
        snr: 2.0 / (sde.scales() as f64).sqrt(),
        eps,
        ..PredictorCorrector::default()
    };
    let draws = match corrector {
        Corrector::None => sde.scales(),
        _ => 2 * sde.scales(),
    };
    let score = |x: &Tensor, t: &[f64]| score(sde, x, t);
    by_rows(draws, law(sde, sde.end()), law(sde, eps), |x, noise| {
        Ok(predictor_corrector(
            sde,
            &score,
            x,
            &options,
            noise,
            &mut |_, _| Ok(()),
        )?)
    })
}

type Network<'a> = &'a dyn Fn(&Tensor, &Tensor) -> Result<Tensor>;

/// A sampler of VP's discrete chain, down to data without noise.
fn chain(
    vp: &Vp,
    run: impl FnOnce(&GaussianDiffusion, Network, Tensor, Noise) -> Result<Tensor>,
) -> Result<f64> {
    let betas = (0..vp.num_scales).map(|i| vp.discrete_beta(i)).collect();
    let (mean, var) = (MeanType::Epsilon, VarType::FixedSmall);
    let d = GaussianDiffusion::new(betas, mean, var, LossType::Mse)?;
    let bars = &d.coefficients().alphas_cumprod;
    let model = |x: &Tensor, t: &Tensor| {
        let bar = bars[t.to_vec1::<f32>()?[0] as usize];
        x.broadcast_mul(&row(V.map(|v| (1.0 - bar).sqrt() / (bar * v + 1.0 - bar)))?)
    };
    let last = bars[vp.num_scales - 1];
    let start = V.map(|v| last * v + 1.0 - last);
    by_rows(vp.num_scales, start, V, |x, noise| {
        run(&d, &model, x, noise)
    })
}

/// The variances at time t.
fn law(sde: &dyn Sde, t: f64) -> [f64; 4] {
    let m = sde.marginal(t);
    V.map(|v| m.signal * m.signal * v + m.std * m.std)
}

/// The score, at one time for all rows.
fn score(sde: &dyn Sde, x: &Tensor, t: &[f64]) -> Result<Tensor> {
    x.broadcast_mul(&row(law(sde, t[0]).map(|v| -1.0 / v))?)
}

fn row(values: [f64; 4]) -> Result<Tensor> {
    Tensor::new(&[values], &Device::Cpu)
}

/// The sampler is linear in its start and its noises: each gets a row in which it alone is not 0, and the squares of the
/// results add up.
fn by_rows(
    draws: usize,
    start: [f64; 4],
    end: [f64; 4],
    run: impl FnOnce(Tensor, Noise) -> Result<Tensor>,
) -> Result<f64> {
    let rows = draws + 1;
    let unit = |k: usize| {
        let column: Vec<f64> = (0..rows).map(|i| f64::from(i == k)).collect();
        Tensor::from_vec(column, (rows, 1), &Device::Cpu)?.broadcast_as((rows, V.len()))
    };
    // Row 0 is the start's, row i + 1 that of draw i.
    let x = unit(0)?.broadcast_mul(&row(start.map(f64::sqrt))?)?;
    let x = run(x, &mut |i, _| unit(i + 1))?;
    let variances = x.sqr()?.sum(0)?.to_vec1::<f64>()?;
    let errors = variances
        .iter()
        .zip(end)
        .map(|(got, want)| (got / want - 1.0).abs());
    Ok(errors.fold(0.0, f64::max))
}
