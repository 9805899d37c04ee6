use super::*;
use crate::error::Error;
use serde_json::Value;

fn run(
    ode: Rk45,
    mu: &[f64],
    y: Vec<Vec<f64>>,
    times: [f64; 2],
    on_round: OnRound,
) -> Result<Solution> {
    let mut slope = |t: &[f64], y: &[Vec<f64>]| {
        let one = |((y, t), mu): ((&Vec<f64>, &f64), &f64)| {
            let force = 0.3 * (5.0 * t).sin();
            vec![
                y[1] + 0.1 * t,
                mu * (1.0 - y[0] * y[0]) * y[1] - y[0] + force,
            ]
        };
        Ok(y.iter().zip(t).zip(mu).map(one).collect())
    };
    ode.solve(&mut slope, y, times, on_round)
}

/// The toy problem of `scripts/rk45.py`.
#[test]
fn the_same_steps_as_scipy() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/cases/rk45.json");
    let json: Value = serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
    let read = |v: &Value| serde_json::from_value::<Vec<f64>>(v.clone()).unwrap();
    let mu = read(&json["mu"]);
    let start: Vec<Vec<f64>> = serde_json::from_value(json["start"].clone()).unwrap();
    for case in json["cases"].as_array().unwrap() {
        let times = read(&case["times"]);
        let times = [times[0], times[1]];
        let with = |coupling| Rk45 {
            rtol: case["rtol"].as_f64().unwrap(),
            atol: case["atol"].as_f64().unwrap(),
            coupling,
        };
        let check = |what: &str, got: &[f64], evaluations: usize, want: &Value| {
            assert_eq!(want["evaluations"], evaluations, "{what} {case}");
            for (a, b) in got.iter().zip(read(&want["y"])) {
                assert!((a - b).abs() < 1e-9, "{what}: {a} instead of {b}");
            }
        };
        let mut quiet = |_: usize, _: &[Vec<f64>]| Ok(());
        let all = with(Coupling::Batch);
        let all = run(all, &mu, start.clone(), times, &mut quiet).unwrap();
        check("batch", &all.y.concat(), all.evaluations[0], &case["batch"]);
        let own = with(Coupling::PerPicture);
        let own = run(own, &mu, start.clone(), times, &mut quiet).unwrap();
        for i in 0..3 {
            check("alone", &own.y[i], own.evaluations[i], &case["alone"][i]);
        }
        // A picture alone has the bits it has in the batch.
        let one = with(Coupling::PerPicture);
        let one = run(one, &mu[1..2], start[1..2].to_vec(), times, &mut quiet).unwrap();
        assert_eq!(one.y[0], own.y[1]);
    }
}

#[test]
fn what_cannot_be_integrated_is_told() {
    let ode = Rk45::default();
    let mut quiet = |_: usize, _: &[Vec<f64>]| Ok(());
    // 1 / (1 - t) has no value at 1.
    let mut pole = |_: &[f64], y: &[Vec<f64>]| Ok(y.iter().map(|y| vec![y[0] * y[0]]).collect());
    let e = ode.solve(
        &mut pole,
        vec![vec![0.1], vec![1.0]],
        [0.0, 2.0],
        &mut quiet,
    );
    let e = e.unwrap_err();
    assert!(
        matches!(e, Error::Stalled { picture: 1, time, .. } if (time - 1.0).abs() < 1e-3),
        "{e}"
    );
    let mut nan = |_: &[f64], y: &[Vec<f64>]| Ok(vec![vec![f64::NAN]; y.len()]);
    let e = ode.solve(&mut nan, vec![vec![0.1]], [0.0, 2.0], &mut quiet);
    assert!(matches!(e.unwrap_err(), Error::Stalled { .. }));
    let mut short = |_: &[f64], _: &[Vec<f64>]| Ok(vec![]);
    let e = ode.solve(&mut short, vec![vec![0.1]], [0.0, 2.0], &mut quiet);
    assert!(e.unwrap_err().to_string().contains("slope"));
    let start = vec![vec![0.1, 0.0]];
    let strict = Rk45 { atol: 0.0, ..ode };
    let e = run(strict, &[1.0], start.clone(), [0.0, 1.0], &mut quiet);
    assert!(e.unwrap_err().to_string().contains("atol is 0"));
    let mut stop = |i: usize, _: &[Vec<f64>]| match i {
        2 => Err(candle_core::Error::Msg("enough".into()).into()),
        _ => Ok(()),
    };
    let e = run(ode, &[1.0], start, [0.0, 1.0], &mut stop);
    assert!(e.unwrap_err().to_string().contains("enough"));
}
