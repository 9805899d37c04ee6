//! Against normal data, where the conditional distribution is known exactly.

use super::*;
use crate::ode::Rk45;
use crate::pictures::pictures;
use crate::sampler::{Corrector, Noise, PredictorCorrector, no_noise};
use crate::sde::{Sde, Vp};
use candle_core::{Device, Result, Tensor};

/// Two values, N(MEAN, COVARIANCE), of which the first is known.
const MEAN: [f64; 2] = [0.5, -0.3];
const COVARIANCE: [[f64; 2]; 2] = [[1.0, 0.8], [0.8, 1.5]];
const KNOWN: f64 = 1.7;

/// The inverse of a 2 x 2 matrix s^2 COVARIANCE + std^2.
fn precision(sde: &Vp, t: f64) -> [[f64; 2]; 2] {
    let m = sde.marginal(t);
    let (s, d) = (m.signal * m.signal, m.std * m.std);
    let c = COVARIANCE;
    let (a, b, e) = (s * c[0][0] + d, s * c[0][1], s * c[1][1] + d);
    let det = a * e - b * b;
    [[e / det, -b / det], [-b / det, a / det]]
}

fn score(sde: Vp) -> impl Fn(&Tensor, &[f64]) -> Result<Tensor> {
    move |x, t| {
        let (signal, p) = (sde.marginal(t[0]).signal, precision(&sde, t[0]));
        let mean = Tensor::new(&[MEAN.map(|m| m * signal)], &Device::Cpu)?;
        x.broadcast_sub(&mean)?
            .matmul(&Tensor::new(&p, &Device::Cpu)?)?
            .neg()
    }
}

fn fill(sde: &Vp, options: &PredictorCorrector, start: Tensor, noise: Noise) -> Vec<Vec<f64>> {
    let n = start.dims()[0];
    let row = |v: [f64; 2]| Tensor::new(vec![v.to_vec(); n], &Device::Cpu).unwrap();
    let (data, mask) = (row([KNOWN, 0.0]), row([1.0, 0.0]));
    let score = score(*sde);
    let mut quiet = |_: usize, _: &Tensor| Ok(());
    let y = inpaint(sde, &score, &data, &mask, start, options, noise, &mut quiet).unwrap();
    pictures(&y).unwrap()
}

fn options() -> PredictorCorrector {
    PredictorCorrector {
        corrector: Corrector::Ald,
        snr: 0.5,
        ..Default::default()
    }
}

fn process(num_scales: usize) -> Vp {
    Vp {
        num_scales,
        ..Default::default()
    }
}

#[test]
fn inpainting_nears_the_conditional_mean() {
    // The bias of replacement falls with the number of corrections.
    let exact = MEAN[1] + COVARIANCE[0][1] / COVARIANCE[0][0] * (KNOWN - MEAN[0]);
    let start = || Tensor::new(&[[0.3f64, 0.1]], &Device::Cpu).unwrap();
    let error = |n: usize| {
        let sde = process(n);
        let y = fill(&sde, &options(), start(), &mut no_noise);
        let known = KNOWN * sde.marginal(1e-3).signal;
        assert!((y[0][0] - known).abs() < 1e-9, "{y:?}");
        (y[0][1] - exact).abs()
    };
    let errors = [100, 400, 1600].map(error);
    assert!(
        errors[0] > 1.7 * errors[1] && errors[1] > 1.7 * errors[2],
        "{errors:?}"
    );
    assert!(errors[2] < 0.05, "{errors:?}");
}

/// The mean and the variance of the unknown value, by a recursion of its own.
fn moments(sde: &Vp, options: &PredictorCorrector) -> (f64, f64) {
    let n = sde.num_scales;
    let (mut m, mut c) = ([KNOWN, 0.0], [[0.0, 0.0], [0.0, 1.0]]);
    let mut clean = 0.0;
    for i in 0..n {
        let t = 1.0 + i as f64 / (n - 1) as f64 * (options.eps - 1.0);
        let at = sde.marginal(t);
        let k = (t as f32 * (n - 1) as f32) as usize;
        let beta = (0.1 + 19.9 * k as f64 / (n - 1) as f64) / n as f64;
        let p = precision(sde, t);
        let size = 2.0 * (1.0 - beta) * (options.snr * at.std).powi(2);
        // First the corrector, then the predictor: x -> keep x + pull score + noise.
        let steps = [
            (1.0, size, 2.0 * size),
            (2.0 - (1.0 - beta).sqrt(), beta, beta),
        ];
        for (keep, pull, noise) in steps {
            let a = |i: usize, j: usize| keep * f64::from(u8::from(i == j)) - pull * p[i][j];
            let lift = |i: usize| pull * at.signal * (p[i][0] * MEAN[0] + p[i][1] * MEAN[1]);
            let next = a(1, 0) * m[0] + a(1, 1) * m[1] + lift(1);
            let spread: f64 = (0..4)
                .map(|q| a(1, q / 2) * a(1, q % 2) * c[q / 2][q % 2])
                .sum();
            clean = spread;
            m = [at.signal * KNOWN, next];
            c = [[at.std * at.std, 0.0], [0.0, spread + noise]];
        }
    }
    (m[1], clean)
}

#[test]
fn inpainting_has_exactly_the_moments_of_its_recursion() {
    let sde = process(30);
    let (mean, variance) = moments(&sde, &options());
    // Linear in the start's unknown value and in each of the draws: each is 1 in one picture alone, none in the last.
    let draws = 4 * 30;
    let count = 1 + 2 * draws + 1;
    let unit = |which: [usize; 2]| {
        let row = |k: usize| which.map(|w| f64::from(u8::from(w == k))).to_vec();
        Tensor::new((0..count).map(row).collect::<Vec<_>>(), &Device::Cpu)
    };
    let mut noise = |i: usize, _: &Tensor| unit([1 + 2 * i, 2 + 2 * i]);
    let start = unit([usize::MAX, 0]).unwrap();
    let y = fill(&sde, &options(), start, &mut noise);
    let base = y[count - 1][1];
    let got: f64 = y.iter().map(|y| (y[1] - base).powi(2)).sum();
    assert!((base - mean).abs() < 1e-9, "{base} {mean}");
    assert!((got - variance).abs() < 1e-9, "{got} {variance}");
}

#[test]
fn colours_have_the_conditional_mean_given_grey() {
    let x = Tensor::new(&[0.4f64, -1.0, 0.7], &Device::Cpu).unwrap();
    let x = x.reshape((1, 3, 1, 1)).unwrap();
    let y = to_colour_basis(&x).unwrap();
    let length = |x: &Tensor| {
        x.sqr()
            .unwrap()
            .sum_all()
            .unwrap()
            .to_scalar::<f64>()
            .unwrap()
    };
    assert!((length(&x) - length(&y)).abs() < 1e-12);
    let values = pictures(&y).unwrap();
    assert!(
        (values[0][0] - 0.1 / 3f64.sqrt()).abs() < 1e-12,
        "{values:?}"
    );
    let back = pictures(&from_colour_basis(&y).unwrap()).unwrap();
    for (a, b) in back[0].iter().zip([0.4, -1.0, 0.7]) {
        assert!((a - b).abs() < 1e-12);
    }

    // In the basis, grey and the first colour are the two values of above, the second colour is N(0, 1).
    let sde = process(1600);
    let plain = score(sde);
    let in_basis = |x: &Tensor, t: &[f64]| -> Result<Tensor> {
        let y = to_colour_basis(x)?.reshape((x.dim(0)?, 3))?;
        let pair = plain(&y.narrow(1, 0, 2)?.contiguous()?, t)?;
        let scores = Tensor::cat(&[pair, y.narrow(1, 2, 1)?.neg()?], 1)?;
        Ok(from_colour_basis(&scores.reshape(x.shape())?)?)
    };
    let gray = (x.ones_like().unwrap() * (KNOWN / 3f64.sqrt())).unwrap();
    let mut quiet = |_: usize, _: &Tensor| Ok(());
    let y = colourise(
        &sde,
        &in_basis,
        &gray,
        x,
        &options(),
        &mut no_noise,
        &mut quiet,
    )
    .unwrap();
    let y = pictures(&to_colour_basis(&y).unwrap()).unwrap();
    let exact = MEAN[1] + COVARIANCE[0][1] * (KNOWN - MEAN[0]);
    assert!((y[0][0] - KNOWN).abs() < 1e-3, "{y:?}");
    assert!(
        (y[0][1] - exact).abs() < 0.05 && y[0][2].abs() < 0.05,
        "{y:?}"
    );
}

#[test]
fn interpolation_follows_the_great_circle_of_latents() {
    let sde = process(1000);
    // Data N(0, 0.3): the flow scales, so that pictures interpolate as latents do.
    let score = |x: &Tensor, t: &[f64]| {
        let m = sde.marginal(t[0]);
        let own = t.iter().map(|&t| {
            let m = sde.marginal(t);
            -1.0 / (0.3 * m.signal * m.signal + m.std * m.std)
        });
        let own = Tensor::new(own.collect::<Vec<f64>>(), &Device::Cpu)?;
        assert!(m.std > 0.0);
        x.broadcast_mul(&own.reshape((t.len(), 1))?)
    };
    let a = Tensor::new(&[[0.5f64, 0.0], [1.0, 1.0]], &Device::Cpu).unwrap();
    let b = Tensor::new(&[[0.0f64, 0.5], [2.0, 2.0]], &Device::Cpu).unwrap();
    let mut calls = 0;
    let mut count = |_: usize, _: &Tensor| {
        calls += 1;
        Ok(())
    };
    let ode = Rk45::default();
    let weights = [0.0, 0.5, 1.0];
    let y = interpolate(&sde, &score, &a, &b, &weights, 1e-3, &ode, &mut count).unwrap();
    let half = 0.5 * 0.5f64.sqrt();
    let want = [
        [[0.5, 0.0], [1.0, 1.0]],
        // The second pair is parallel: a line.
        [[half, half], [1.5, 1.5]],
        [[0.0, 0.5], [2.0, 2.0]],
    ];
    for (y, want) in y.iter().zip(want) {
        for (a, b) in pictures(y).unwrap().concat().iter().zip(want.concat()) {
            assert!((a - b).abs() < 1e-3, "{a} instead of {b}");
        }
    }
    assert!(calls > 20);
    let mut quiet = |_: usize, _: &Tensor| Ok(());
    let e = interpolate(&sde, &score, &a, &b, &[1.5], 1e-3, &ode, &mut quiet).unwrap_err();
    assert!(e.to_string().contains("weights"));
}

#[test]
fn what_is_unknown_is_not_looked_at_and_a_mask_is_0_or_1() {
    let sde = process(50);
    let score = score(sde);
    let tensor = |v: [f64; 2]| Tensor::new(&[v], &Device::Cpu).unwrap();
    let run = |data: [f64; 2], mask: [f64; 2]| {
        let mut quiet = |_: usize, _: &Tensor| Ok(());
        let (x, o) = (tensor([0.3, -0.2]), options());
        inpaint(
            &sde,
            &score,
            &tensor(data),
            &tensor(mask),
            x,
            &o,
            &mut no_noise,
            &mut quiet,
        )
    };
    let want = pictures(&run([KNOWN, 0.0], [1.0, 0.0]).unwrap()).unwrap();
    let got = pictures(&run([KNOWN, f64::NAN], [1.0, 0.0]).unwrap()).unwrap();
    assert_eq!(got, want);
    for bad in [0.5, f64::NAN, 2.0] {
        let e = run([KNOWN, 0.0], [1.0, bad]).unwrap_err().to_string();
        assert!(e.contains("mask is") && e.contains("0 or 1"), "{e}");
    }
}
