//! Optimiser and average against PyTorch's numbers (`cases/make.py`), and their state through a file, to the bit.

mod common;

use candle_core::{DType, Device, Tensor, Var};
use common::{bits, close, wave32};
use nn_ops::{AdamW, AdamWConfig, Ema, clip_grad_norm};
use std::collections::HashMap;

fn case() -> HashMap<String, Tensor> {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/cases/optimiser.safetensors"
    );
    candle_core::safetensors::load(path, &Device::Cpu).unwrap()
}

/// A store of given gradients: those of sum(value * gradient).
fn store(gradients: &[(&Var, Tensor)]) -> candle_core::backprop::GradStore {
    let mut loss = Tensor::zeros((), DType::F32, &Device::Cpu).unwrap();
    for (var, g) in gradients {
        loss = (loss + (var.as_tensor() * g).unwrap().sum_all().unwrap()).unwrap();
    }
    loss.backward().unwrap()
}

const CONFIG: AdamWConfig = AdamWConfig {
    lr: 2e-3,
    beta1: 0.85,
    beta2: 0.97,
    eps: 1e-7,
    weight_decay: 0.3,
};

#[test]
fn adamw_takes_torchs_steps() {
    let case = case();
    let vars = ["a", "b"].map(|n| {
        (
            n.to_string(),
            Var::from_tensor(&case[&format!("start.{n}")]).unwrap(),
        )
    });
    let mut adam = AdamW::new(vars.to_vec(), CONFIG).unwrap();
    for step in 0..8 {
        if step == 4 {
            adam.config.lr = 5e-2;
        }
        let present = vars
            .iter()
            .filter_map(|(n, v)| Some((v, case.get(&format!("grad.{step}.{n}"))?.clone())));
        adam.step(&store(&present.collect::<Vec<_>>())).unwrap();
        for (n, v) in &vars {
            close(
                &format!("{n} after step {step}"),
                v,
                &case[&format!("value.{step}.{n}")],
                5e-7,
            );
        }
    }
    let state = adam.state().unwrap();
    for n in ["exp_avg.a", "exp_avg.b", "exp_avg_sq.a", "exp_avg_sq.b"] {
        close(n, &state[n], &case[n], 5e-7);
    }
    assert_eq!(state["step.b"].to_vec1::<i64>().unwrap(), [6]);
}

#[test]
fn clipping_is_torchs() {
    let case = case();
    let vars: Vec<(String, Var)> = (0..2)
        .map(|i| {
            (
                i.to_string(),
                Var::from_tensor(&case[&format!("clip.grad.{i}")].zeros_like().unwrap()).unwrap(),
            )
        })
        .collect();
    let given: Vec<_> = vars
        .iter()
        .map(|(n, v)| (v, case[&format!("clip.grad.{n}")].clone()))
        .collect();
    let mut grads = store(&given);
    let norm = clip_grad_norm(&mut grads, &vars, 0.7).unwrap();
    assert!(
        (norm - case["clip.norm"].to_vec1::<f32>().unwrap()[0] as f64).abs() < 1e-5,
        "{norm}"
    );
    for (n, v) in &vars {
        close(
            "clipped",
            grads.get(v).unwrap(),
            &case[&format!("clip.clipped.{n}")],
            1e-7,
        );
    }
    // A norm below the bound changes nothing.
    let before = bits(grads.get(&vars[0].1).unwrap());
    clip_grad_norm(&mut grads, &vars, 100.0).unwrap();
    assert_eq!(bits(grads.get(&vars[0].1).unwrap()), before);
}

/// Writes a state to a file and reads it back.
fn through_a_file(name: &str, state: &HashMap<String, Tensor>) -> HashMap<String, Tensor> {
    let path =
        std::env::temp_dir().join(format!("nn-ops-{name}-{}.safetensors", std::process::id()));
    candle_core::safetensors::save(state, &path).unwrap();
    let back = candle_core::safetensors::load(&path, &Device::Cpu).unwrap();
    std::fs::remove_file(path).unwrap();
    back
}

/// A variable, its optimiser and its average, trained on gradients that depend on the step.
struct Training {
    vars: Vec<(String, Var)>,
    adam: AdamW,
    ema: Ema,
}

impl Training {
    fn new(value: &Tensor) -> Self {
        let vars = vec![("w".to_string(), Var::from_tensor(value).unwrap())];
        Self {
            adam: AdamW::new(vars.clone(), CONFIG).unwrap(),
            ema: Ema::new(vars.clone(), 0.999).unwrap(),
            vars,
        }
    }

    fn steps(&mut self, range: std::ops::Range<usize>) {
        for step in range {
            self.adam
                .step(&store(&[(&self.vars[0].1, wave32(&[3, 37], step as f64))]))
                .unwrap();
            self.ema.update().unwrap();
        }
    }

    fn result(&self) -> [Vec<u32>; 2] {
        [
            bits(&self.vars[0].1),
            bits(&self.ema.tensors().unwrap()["w"]),
        ]
    }
}

#[test]
fn a_resumed_run_ends_with_the_same_bits() {
    let mut whole = Training::new(&wave32(&[3, 37], 0.5));
    whole.steps(0..20);

    let mut first = Training::new(&wave32(&[3, 37], 0.5));
    first.steps(0..7);
    let mut second = Training::new(&first.vars[0].1.as_tensor().copy().unwrap());
    second
        .adam
        .load_state(&through_a_file("adam", &first.adam.state().unwrap()))
        .unwrap();
    second
        .ema
        .load_state(&through_a_file("ema", &first.ema.state().unwrap()))
        .unwrap();
    assert_eq!(first.result(), second.result());
    second.steps(7..20);
    assert_eq!(whole.result(), second.result());
}

#[test]
fn a_state_that_does_not_fit_is_refused_and_changes_nothing() {
    let mut run = Training::new(&wave32(&[3, 37], 0.5));
    run.steps(0..3);
    let before = (bits(&run.adam.state().unwrap()["exp_avg.w"]), run.result());
    let mut state = run.adam.state().unwrap();
    state.insert("exp_avg_sq.w".into(), wave32(&[37], 0.0));
    let message = run.adam.load_state(&state).unwrap_err().to_string();
    assert!(
        message.contains("exp_avg_sq.w") && message.contains("[37]"),
        "{message}"
    );
    state.remove("exp_avg_sq.w");
    assert!(
        run.adam
            .load_state(&state)
            .unwrap_err()
            .to_string()
            .contains("missing")
    );
    let mut state = run.ema.state().unwrap();
    state.remove("ema.steps");
    assert!(
        run.ema
            .load_state(&state)
            .unwrap_err()
            .to_string()
            .contains("ema.steps")
    );
    assert_eq!(
        before,
        (bits(&run.adam.state().unwrap()["exp_avg.w"]), run.result())
    );
}

#[test]
fn the_average_follows_its_formula() {
    let var = Var::from_tensor(&wave32(&[5], 0.1)).unwrap();
    let mut ema = Ema::new(vec![("w".into(), var.clone())], 0.2).unwrap();
    let mut want = common::values(&var);
    for step in 0..6 {
        var.set(&wave32(&[5], step as f64)).unwrap();
        ema.update().unwrap();
        let decay = 0.2f64.min((1.0 + step as f64) / (10.0 + step as f64));
        for (w, v) in want.iter_mut().zip(common::values(&var)) {
            *w = decay * *w + (1.0 - decay) * v;
        }
    }
    let want = Tensor::from_vec(want, 5, &Device::Cpu).unwrap();
    close("average", &ema.tensors().unwrap()["w"], &want, 1e-6);
}
