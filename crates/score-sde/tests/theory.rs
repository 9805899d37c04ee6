//! The theory module against dense matrices in numpy (`scripts/theory.py`), closed forms and the sampler's own code.

mod common;

use candle_core::{Device, Result, Tensor};
use score_sde::sampler::{addressed_noise, euler_maruyama};
use score_sde::sde::{Reverse, Sde, Vp};
use score_sde::theory::*;
use serde_json::Value;

fn cases(kind: &str) -> Vec<Value> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/cases/theory.json");
    let all: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    all[kind].as_array().unwrap().clone()
}

fn near(what: &str, got: f64, want: f64, tolerance: f64) {
    let scale = want.abs();
    assert!(
        (got - want).abs() <= tolerance * scale,
        "{what}: {got} instead of {want}"
    );
}

/// Daubechies' filter of two vanishing moments.
fn db2() -> Vec<f64> {
    let r = 3f64.sqrt();
    let h = [1.0 + r, 3.0 + r, 3.0 - r, 1.0 - r];
    h.map(|h| h / 32f64.sqrt()).to_vec()
}

#[test]
fn pixels_and_bands_are_those_of_dense_matrices() {
    for case in cases("pixels") {
        let number = |name: &str| case[name].as_f64().unwrap();
        let field = Field::power_law(number("size") as usize, number("exponent")).unwrap();
        near("condition", field.condition(), number("condition"), 1e-10);
        let exact = Spectrum::new(field.power()).unwrap();
        let steps = number("steps") as usize;
        near(
            "kl",
            kl(&exact, number("horizon"), steps),
            number("kl"),
            1e-9,
        );
        let grouped = kl(&field.spectrum().unwrap(), number("horizon"), steps);
        near("grouped kl", grouped, number("kl"), 1e-3);
    }
    for case in cases("details") {
        let number = |name: &str| case[name].as_f64().unwrap();
        let list = |name: &str| -> Vec<f64> {
            let values = case[name].as_array().unwrap().iter();
            values.map(|v| v.as_f64().unwrap()).collect()
        };
        let field = Field::power_law(number("size") as usize, number("exponent")).unwrap();
        let filter = if case["wavelet"] == "haar" {
            HAAR.to_vec()
        } else {
            db2()
        };
        let (low, details) = field.split(&filter).unwrap();
        near("low", low.power().iter().sum(), number("low_trace"), 1e-9);
        for (got, want) in details.std.iter().zip(list("std")) {
            near("std", *got, want, 1e-9);
        }
        for (name, spectrum) in [
            ("conditional", &details.conditional),
            ("marginal", &details.marginal),
        ] {
            let want = list(name);
            let (least, most) = spectrum.range();
            // Eigenvalues are grouped by 2 %, their sum is kept.
            near(name, least, want[0], 0.02);
            near(name, most, want[1], 0.02);
            near(name, spectrum.trace(|l| l), want[2], 1e-9);
        }
        let got = kl(
            &details.conditional,
            number("horizon"),
            number("steps") as usize,
        );
        near("kl", got, number("kl"), 1e-3);
    }
}

#[test]
fn the_chain_rule_of_densities_holds_down_a_pyramid() {
    // W is orthonormal: ln det of the pixels is that of the low band and of the details given it, scaled back.
    let field = Field::power_law(32, 2.0).unwrap();
    let whole: f64 = field.power().iter().map(|p| p.ln()).sum();
    let (low, details) = field.split(&db2()).unwrap();
    let (low, coarser) = low.split(&HAAR).unwrap();
    let mut parts: f64 = low.power().iter().map(|p| p.ln()).sum();
    for d in [&details, &coarser] {
        let band = d.conditional.dimension() / 3.0;
        parts += d.conditional.trace(f64::ln);
        parts += d.std.iter().map(|s| 2.0 * band * s.ln()).sum::<f64>();
    }
    assert!((whole - parts).abs() < 1e-4 * 1024.0, "{whole} {parts}");
}

#[test]
fn white_pictures_have_white_bands() {
    let (low, details) = Field::power_law(16, 0.0).unwrap().split(&HAAR).unwrap();
    near("low", low.condition(), 1.0, 1e-12);
    for spectrum in [&details.conditional, &details.marginal] {
        near("details", spectrum.condition(), 1.0, 1e-12);
        near("details", spectrum.trace(|l| l), 192.0, 1e-12);
    }
    assert!(
        details
            .conditional
            .modes()
            .iter()
            .all(|m| m.mean_square < 1e-20)
    );
}

#[test]
fn the_first_order_is_that_of_the_recursion_and_the_printed_one_is_not() {
    for l in [0.02, 0.1, 0.5, 0.999_999, 1.0, 1.000_02, 2.0, 10.0, 100.0] {
        let spectrum = Spectrum::new(&[l]).unwrap();
        let slope = |n: usize| {
            let v = outcome(&spectrum, 12.0, n)[0].variance;
            (v / l - 1.0) / (12.0 / n as f64)
        };
        let measured = 2.0 * slope(40_000) - slope(20_000);
        let c = first_order(l);
        assert!(
            (measured - c).abs() < 1e-3 * c.abs().max(1.0),
            "{l}: {measured} {c}"
        );
        let off = printed_order(l) - measured;
        assert!(
            (off - (1.0 - 1.0 / l) / 3.0).abs() < 0.02 * off.abs() + 1e-3,
            "{l}: {off}"
        );
    }
    near("c(1)", first_order(1.0), 0.5, 1e-15);
}

#[test]
fn the_step_s_divergence_has_its_first_order() {
    for kappa in [3.0, 30.0] {
        let t = Terms::new(&Spectrum::two(kappa).unwrap(), 8.0, 100_000);
        near("step", t.step, t.step_first_order, 0.02);
        near("kl", t.kl, t.step, 1e-3);
    }
}

#[test]
fn the_horizon_s_divergence_is_exact_and_e_t_its_form_for_one_eigenvalue() {
    let spectrum = Spectrum::two(4.0).unwrap();
    let exact = horizon_kl(&spectrum, 0.7);
    near("many steps", kl(&spectrum, 0.7, 400_000), exact, 2e-3);
    // One eigenvalue in d directions: d / 2 f(a) of e^(-4T) l (l - 1) = a, where E_T is f(d a).
    for (l, d) in [(3.0, 1.0), (0.3, 1.0), (3.0, 4.0)] {
        let mode = Mode {
            variance: l,
            mean_square: 0.0,
            count: d,
        };
        let t = Terms::new(&Spectrum::of_modes(vec![mode]).unwrap(), 3.0, 10);
        near("E_T", t.theorem_horizon / t.horizon, 2.0 * d, 0.02);
    }
    // Many eigenvalues: E_T sums them before f. Far from white it is far above; near white, where they cancel, below.
    let far = Terms::new(&Spectrum::two(1000.0).unwrap(), 3.0, 10);
    assert!(far.theorem_horizon > far.horizon);
    let close = Terms::new(&Spectrum::two(1.1 / 0.9).unwrap(), 3.0, 10);
    assert!(close.theorem_horizon < 0.1 * close.horizon);
}

#[test]
fn white_data_cost_only_their_steps() {
    let white = Spectrum::new(&[1.0; 8]).unwrap();
    let t = Terms::new(&white, 2.0, 1000);
    assert_eq!((t.horizon, t.theorem_horizon), (0.0, 0.0));
    // v (1 - delta / 2) = 1 in the limit: the divergence is d delta^2 / 16.
    near(
        "steps",
        kl(&white, 6.0, 3000),
        8.0 * 0.002f64.powi(2) / 16.0,
        0.01,
    );
    assert!(kl(&white, 6.0, 30_000) < 1e-2 * kl(&white, 6.0, 2900));
}

#[test]
fn more_steps_and_better_conditioning_help() {
    let spectrum = Spectrum::power_law(12, 2.0).unwrap();
    let best: Vec<Steps> = [4, 8, 16, 64, 256]
        .map(|n| best_horizon(&spectrum, n))
        .to_vec();
    assert!(
        best.windows(2)
            .all(|w| w[0].kl > w[1].kl && w[0].horizon < w[1].horizon),
        "{best:?}"
    );
    let fixed = [1.5, 3.0, 10.0, 30.0, 100.0].map(|k| kl(&Spectrum::two(k).unwrap(), 1.0, 2000));
    assert!(fixed.windows(2).all(|w| w[0] < w[1]), "{fixed:?}");
    // Steps of 100: the variance leaves f64, the divergence is not NaN. A tiny eigenvalue alone does no harm: the last score
    // is taken at delta, where the variance is 2 delta already.
    assert_eq!(kl(&spectrum, 1e5, 1000), f64::INFINITY);
    // No steps: what white noise is from the data, whatever the horizon.
    let none = Terms::new(&spectrum, 2.0, 0);
    assert!(none.kl.is_finite() && none.kl == kl(&spectrum, 5.0, 0));
    assert!(none.step_first_order == f64::INFINITY && none.theorem_step == f64::INFINITY);
    let thin = kl(&Spectrum::two(1e9).unwrap(), 20.0, 1500);
    assert!(thin > 5.0 && thin < 10.0, "{thin}");
}

#[test]
fn the_steps_found_are_the_fewest() {
    let spectrum = Spectrum::two(10.0).unwrap();
    let found = steps_needed(&spectrum, 1e-3, 1000).unwrap().unwrap();
    assert!(
        found.kl <= 1e-3 && (kl(&spectrum, found.horizon, found.steps) - found.kl).abs() < 1e-15
    );
    assert!(best_horizon(&spectrum, found.steps - 1).kl > 1e-3);
    // Against a plain scan of horizons.
    let scanned = |n: usize| {
        let horizons = (1..400).map(|i| 0.01 * f64::from(i));
        horizons
            .map(|t| kl(&spectrum, t, n))
            .fold(f64::INFINITY, f64::min)
    };
    near("scan", scanned(found.steps), found.kl, 1e-3);
    assert!(
        steps_needed(&spectrum, 1e-3, found.steps - 1)
            .unwrap()
            .is_none()
    );
    assert!(
        steps_needed(&spectrum, 1e-3, found.steps)
            .unwrap()
            .is_some()
    );
    assert!(steps_needed(&spectrum, f64::NAN, 10).is_err());
}

/// The paper bounds the steps by C kappa^3 / epsilon^2; they grow much less.
#[test]
fn exponents_for_two_eigenvalues_and_a_power_law() {
    let steps = |s: &Spectrum, e: f64| steps_needed(s, e, 100_000).unwrap().unwrap().steps as f64;
    let two = |kappa: f64, e: f64| steps(&Spectrum::two(kappa).unwrap(), e);
    let kappas = [64.0, 128.0, 256.0, 512.0];
    let of_kappa = power_fit(&kappas.map(|k| (k, two(k, 1e-2))));
    assert!((of_kappa - 1.0).abs() < 0.03, "{of_kappa}");
    let bounds = [1e-1, 1e-2, 1e-3, 1e-4];
    let of_bound = power_fit(&bounds.map(|e| (e, two(10.0, e))));
    assert!((of_bound + 0.7).abs() < 0.07, "{of_bound}");
    let of_small = power_fit(&[1e-5, 1e-6].map(|e| (e, two(10.0, e))));
    assert!((of_small + 0.57).abs() < 0.04, "towards -1/2: {of_small}");
    // 1/k^2 in one dimension, per dimension: about sqrt(kappa).
    let power = |count: usize| {
        let s = Spectrum::power_law(count, 2.0).unwrap();
        ((count * count) as f64, steps(&s, 1e-2 * count as f64))
    };
    let of_power = power_fit(&[8, 16, 32, 64].map(power));
    assert!((of_power - 0.6).abs() < 0.05, "{of_power}");
}

#[test]
fn wavelets_need_the_same_steps_at_every_size_and_pixels_more() {
    let (mut pixels, mut wavelets) = (Vec::new(), Vec::new());
    for size in [32usize, 128, 1024] {
        let field = Field::power_law(size, 2.0).unwrap();
        near("kappa", field.condition(), (size * size) as f64 / 2.0, 1e-9);
        let levels = (size / 8).ilog2() as usize;
        let (low, details) = field.pyramid(&HAAR, levels).unwrap();
        assert!(details.iter().all(|d| d.conditional.condition() < 6.0));
        let mut joint = low.spectrum().unwrap();
        for d in &details {
            joint = joint.join(&d.conditional);
        }
        assert_eq!(joint.dimension(), (size * size) as f64);
        for (spectrum, found) in [
            (field.spectrum().unwrap(), &mut pixels),
            (joint, &mut wavelets),
        ] {
            let bound = 1e-3 * spectrum.dimension();
            found.push(
                steps_needed(&spectrum, bound, 10_000)
                    .unwrap()
                    .unwrap()
                    .steps,
            );
        }
    }
    assert!(pixels[1] as f64 > 1.5 * pixels[0] as f64 && pixels[2] as f64 > 1.5 * pixels[1] as f64);
    assert!(
        wavelets[0] < 45 && wavelets[2] <= wavelets[0],
        "{wavelets:?}"
    );
}

/// dx = -x dt + sqrt(2) dw to horizon T is the VP process of beta = 2 T in units of T: its reverse, drawn by the sampler.
#[test]
fn samples_of_the_reverse_process_have_the_recursion_s_variance() {
    const N: usize = 12;
    let (l, horizon, count) = (0.3, 1.2, 40_000);
    let sde = Vp {
        beta_min: 2.0 * horizon,
        beta_max: 2.0 * horizon,
        num_scales: N,
    };
    let score = |x: &Tensor, t: &[f64]| -> Result<Tensor> {
        let m = sde.marginal(t[0]);
        x * (-1.0 / (m.signal * m.signal * l + m.std * m.std))
    };
    let reverse = Reverse {
        sde: &sde,
        score: &score,
        probability_flow: false,
    };
    let start = nn_ops::noise::normal_tensor(3, &[0], 1, 0, &[count], &Device::Cpu).unwrap();
    let times: Vec<f64> = (0..=N).map(|k| 1.0 - k as f64 / N as f64).collect();
    let mut fresh = addressed_noise(3, &[0], 0);
    let x = euler_maruyama(&reverse, start, &times, &mut fresh, &mut |_, _| Ok(())).unwrap();
    let square = x
        .sqr()
        .unwrap()
        .mean_all()
        .unwrap()
        .to_scalar::<f32>()
        .unwrap();
    let made = outcome(&Spectrum::new(&[l]).unwrap(), horizon, N)[0].variance;
    // The sampler adds no noise in its last step. The spread of a variance estimated from so many samples is 0.7 %.
    let want = made - 2.0 * horizon / N as f64;
    near("variance", f64::from(square), want, 0.025);
    // Without the steps' error it would be l - 0.2 = 0.1.
    assert!(made > 1.2 * l, "{made}");
}

#[test]
fn bad_arguments_are_told() {
    assert!(Spectrum::new(&[]).is_err() && Spectrum::new(&[1.0, -1.0]).is_err());
    assert!(Spectrum::two(f64::NAN).is_err() && Spectrum::power_law(0, 2.0).is_err());
    assert!(Field::power_law(7, 2.0).is_err() && Field::power_law(1 << 20, 2.0).is_err());
    let field = Field::power_law(2, 2.0).unwrap();
    let e = field.split(&[1.0, 1.0]).unwrap_err().to_string();
    assert!(e.contains("orthonormal"), "{e}");
    // A high-pass filter is orthonormal, too.
    let r = HAAR[0];
    assert!(Field::power_law(8, 2.0).unwrap().split(&[r, -r]).is_err());
    let (one, _) = field.split(&HAAR).unwrap();
    assert!(one.split(&HAAR).unwrap_err().to_string().contains("even"));
}

#[test]
fn a_measured_spectrum_is_a_field() {
    let law = Field::power_law(16, 2.0).unwrap();
    let scaled = law.power().iter().map(|p| 3.0 * p).collect();
    let field = Field::of_power(16, scaled).unwrap();
    near("condition", field.condition(), law.condition(), 1e-12);
    near("power", field.power()[5], 3.0 * law.power()[5], 1e-12);
    let again = field.standardised();
    near("standardised", again.power()[5], law.power()[5], 1e-12);
    // From 0 to the corner (8, 8); along the axes the law itself, up to what its annulus mixes.
    let radial = law.radial();
    assert_eq!(radial.len(), 12);
    near("at 0", radial[0], law.power()[0], 1e-12);
    for (got, want) in radial.iter().zip(law.power()).take(9).skip(1) {
        near("radial", *got, *want, 0.4);
    }
    let total: f64 = law.power().iter().sum();
    near("trace", total, 256.0, 1e-12);
    for (size, power, words) in [
        (0, vec![], "(0, 0)"),
        (2, vec![1.0; 3], "(2, 3)"),
        (1, vec![-1.0], "power"),
        (1, vec![f64::NAN], "power"),
    ] {
        let error = Field::of_power(size, power).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
}
