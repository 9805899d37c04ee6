//! Averages of parameters: decays against diffusers and score_sde, power functions against numpy (`cases/ema.py`) and
//! closed forms, mixtures of snapshots against an average that was really taken.

mod common;

use candle_core::{Device, Tensor, Var};
use common::{bits, values, wave32};
use nn_ops::ema::{InverseGamma, Profile, mix, power_gamma, power_sigma_rel, reconstruct};
use nn_ops::{Ema, EmaDecay};
use serde_json::Value;
use std::collections::HashMap;

fn cases() -> Value {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/cases/ema.json");
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn numbers(v: &Value) -> Vec<f64> {
    let list = v.as_array().unwrap().iter();
    list.map(|x| x.as_f64().unwrap()).collect()
}

fn profile(v: &Value) -> Profile {
    let [step, gamma] = numbers(v)[..] else {
        panic!("{v}")
    };
    Profile { step, gamma }
}

/// The average of a scalar that takes the values given, from `first`.
fn average(decay: EmaDecay, first: f64, of: impl IntoIterator<Item = f64>) -> Vec<f64> {
    let var = Var::new(&[first as f32], &Device::Cpu).unwrap();
    let mut ema = Ema::with_decay(vec![("w".into(), var.clone())], decay).unwrap();
    let mut seen = Vec::new();
    for value in of {
        let value = Tensor::new(&[value as f32], &Device::Cpu).unwrap();
        var.set(&value).unwrap();
        ema.update().unwrap();
        seen.push(values(&ema.tensors().unwrap()["w"])[0]);
    }
    seen
}

#[test]
fn decays_are_those_of_diffusers() {
    let cases = cases();
    let steps = numbers(&cases["steps"]);
    for case in cases["diffusers"].as_array().unwrap() {
        let number = |name: &str, or: f64| case[name].as_f64().unwrap_or(or);
        let warmup = case["use_ema_warmup"].as_bool().is_some_and(|on| on);
        let default = InverseGamma::default();
        let decay = EmaDecay::Diffusers {
            max: number("decay", f64::NAN),
            min: number("min_decay", 0.0),
            after: number("update_after_step", 0.0) as u64,
            warmup: warmup.then_some(InverseGamma {
                inv_gamma: number("inv_gamma", default.inv_gamma),
                power: number("power", default.power),
            }),
        };
        decay.check().unwrap();
        for (step, want) in steps.iter().zip(numbers(&case["decays"])) {
            let got = decay.at(*step as u64 - 1);
            assert!((got - want).abs() < 1e-14, "{case} {step}: {got} {want}");
        }
    }
}

#[test]
fn an_average_is_that_of_score_sde() {
    let want = numbers(&cases()["score_sde"]);
    let got = average(
        EmaDecay::ScoreSde(0.75),
        0.7,
        (1..=30).map(|n| f64::from(n).sin()),
    );
    for (a, b) in got.iter().zip(&want) {
        assert!((a - b).abs() < 1e-6, "{a} {b}");
    }
    assert_eq!(got.len(), want.len());
}

#[test]
fn simple_decays_have_their_closed_forms() {
    // A step of height 1 at the first update: 1 - decay^n remain.
    let got = average(EmaDecay::Constant(0.9), 0.0, [1.0; 40]);
    for (n, got) in got.iter().enumerate() {
        let want = 1.0 - 0.9f64.powi(n as i32 + 1);
        assert!((got - want).abs() < 1e-6, "{n}: {got} {want}");
    }
    // Inverse gamma 1 with power 1 and the power function of gamma 0 are plain averages: of what came after the first
    // copy, and of everything.
    let plain = InverseGamma {
        inv_gamma: 1.0,
        power: 1.0,
    };
    let plain = EmaDecay::Diffusers {
        max: 1.0,
        min: 0.0,
        after: 0,
        warmup: Some(plain),
    };
    for decay in [plain, EmaDecay::Power { gamma: 0.0 }] {
        let got = average(decay, 99.0, (1..=50).map(f64::from));
        assert!((got[49] - 25.5).abs() < 1e-4, "{decay:?} {}", got[49]);
    }
}

#[test]
fn the_default_keeps_its_bits() {
    let run = |make: &dyn Fn(Vec<(String, Var)>) -> Ema| {
        let var = Var::from_tensor(&wave32(&[257], 0.3)).unwrap();
        let mut ema = make(vec![("w".into(), var.clone())]);
        let mut shadow = var.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        for step in 0..20u8 {
            let value = wave32(&[257], f64::from(step));
            var.set(&value).unwrap();
            ema.update().unwrap();
            let t = f64::from(step);
            let keep = 0.6f64.min((1.0 + t) / (10.0 + t)) as f32;
            for (s, v) in shadow.iter_mut().zip(value.to_vec1::<f32>().unwrap()) {
                *s = v + (*s - v) * keep;
            }
        }
        assert_eq!(ema.steps(), 20);
        (bits(&ema.tensors().unwrap()["w"]), shadow)
    };
    let (a, by_hand) = run(&|vars| Ema::new(vars, 0.6).unwrap());
    let (b, _) = run(&|vars| Ema::with_decay(vars, EmaDecay::Warmup(0.6)).unwrap());
    assert_eq!(a, b);
    // The kernels may fuse the multiplication and the sum.
    for (a, b) in a.iter().zip(by_hand) {
        assert!((f32::from_bits(*a) - b).abs() < 1e-6);
    }
}

#[test]
fn widths_and_exponents_belong_together() {
    for case in cases()["gammas"].as_array().unwrap() {
        let [sigma, gamma] = numbers(case)[..] else {
            panic!("{case}")
        };
        let got = power_gamma(sigma).unwrap();
        assert!(
            (got - gamma).abs() < 1e-9 * gamma.max(1.0),
            "{sigma}: {got} {gamma}"
        );
        assert!((power_sigma_rel(got) - sigma).abs() < 1e-14);
    }
    assert!(power_gamma(1.0 / 12f64.sqrt()).unwrap() < 1e-6);
    for bad in [0.0, -0.1, 0.3, f64::NAN] {
        assert!(
            power_gamma(bad)
                .unwrap_err()
                .to_string()
                .contains("sigma_rel")
        );
    }
}

#[test]
fn mixtures_are_those_of_least_squares() {
    let case = &cases()["reconstruction"];
    let list = |name: &str| case[name].as_array().unwrap().clone();
    let snapshots: Vec<Profile> = list("snapshots").iter().map(profile).collect();
    for (target, want) in list("targets").iter().zip(list("weights")) {
        let got = reconstruct(&snapshots, &profile(target)).unwrap();
        for (a, b) in got.iter().zip(numbers(&want)) {
            assert!((a - b).abs() < 1e-6, "{target}: {got:?} {want}");
        }
    }
    // One that is there is itself.
    let own = reconstruct(&snapshots, &snapshots[5]).unwrap();
    for (i, w) in own.iter().enumerate() {
        assert!((w - f64::from(u8::from(i == 5))).abs() < 1e-9, "{own:?}");
    }
    let twice = [snapshots[0], snapshots[0]];
    let e = reconstruct(&twice, &snapshots[1]).unwrap_err().to_string();
    assert!(e.contains("alike"), "{e}");
    assert!(reconstruct(&[], &snapshots[0]).is_err());
    let bad = Profile {
        step: 0.0,
        gamma: 1.0,
    };
    assert!(reconstruct(&[bad], &snapshots[0]).is_err());
}

#[test]
fn a_mixture_is_close_to_the_average_it_stands_for() {
    let path = |s: usize| (s as f64 / 700.0).sqrt() + 0.3 * (s as f64 / 150.0).sin();
    let take = |gamma: f64| average(EmaDecay::Power { gamma }, 0.0, (1..=4000).map(path));
    let gammas = [power_gamma(0.05).unwrap(), power_gamma(0.1).unwrap()];
    let taken = gammas.map(take);
    let (mut profiles, mut sets) = (Vec::new(), Vec::new());
    for step in (500..=4000).step_by(500) {
        for (gamma, values) in gammas.iter().zip(&taken) {
            profiles.push(Profile {
                step: step as f64,
                gamma: *gamma,
            });
            let value = Tensor::new(&[values[step - 1] as f32], &Device::Cpu).unwrap();
            sets.push(HashMap::from([("w".to_string(), value)]));
        }
    }
    for sigma in [0.06, 0.08, 0.13] {
        let gamma = power_gamma(sigma).unwrap();
        let target = Profile {
            step: 4000.0,
            gamma,
        };
        let weights = reconstruct(&profiles, &target).unwrap();
        let sum: f64 = weights.iter().sum();
        assert!((sum - 1.0).abs() < 0.01, "{sigma}: {sum}");
        let mixed = values(&mix(&sets, &weights).unwrap()["w"])[0];
        let real = take(gamma)[3999];
        assert!((mixed - real).abs() < 5e-3, "{sigma}: {mixed} {real}");
    }
    assert!(mix(&sets, &[1.0]).is_err() && mix(&[], &[]).is_err());
    let other = HashMap::from([("v".to_string(), sets[0]["w"].clone())]);
    let e = mix(&[sets[0].clone(), other], &[0.5, 0.5]).unwrap_err();
    assert!(e.to_string().contains("w is missing"), "{e}");
}

#[test]
fn bad_decays_are_told() {
    let vars = || vec![("w".to_string(), Var::new(&[0f32], &Device::Cpu).unwrap())];
    let bad = [
        (EmaDecay::Constant(1.5), "1.5"),
        (EmaDecay::ScoreSde(f64::NAN), "NaN"),
        (EmaDecay::Power { gamma: -0.5 }, "-0.5"),
    ];
    for (decay, says) in bad {
        let e = Ema::with_decay(vars(), decay).unwrap_err().to_string();
        assert!(e.contains(says), "{e}");
    }
    let backwards = EmaDecay::Diffusers {
        max: 0.5,
        min: 0.9,
        after: 0,
        warmup: None,
    };
    assert!(Ema::with_decay(vars(), backwards).is_err());
    assert!(Ema::new(vars(), 1.5).is_err() && Ema::new(vars(), f64::NAN).is_err());
}
