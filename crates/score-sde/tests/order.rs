//! Every sampler converges at its order; `examples/order` prints the numbers.

#[path = "../examples/order/measure.rs"]
mod measure;
#[path = "../examples/order/process.rs"]
mod process;

#[test]
fn samplers_converge_at_their_orders() {
    let mut wrong = Vec::new();
    for (name, config, expected) in measure::all() {
        let error = |steps| measure::error(&config, steps).unwrap();
        let (coarse, error) = (error(192), error(384));
        let order = (coarse / error).log2();
        println!("{name:<24} {order:.2} {expected} {error:.1e}");
        if (order - expected).abs() > 0.35 || error > 0.2 {
            wrong.push(format!(
                "{name}: order {order:.2} instead of {expected}, error {error:e}"
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn samplers_in_time_converge_at_their_orders() {
    let mut wrong = Vec::new();
    for (name, kind, expected) in process::all() {
        let error = |steps| process::error(kind, steps).unwrap();
        let (coarse, error) = (error(192), error(384));
        let order = (coarse / error).log2();
        println!("{name:<24} {order:.2} {expected} {error:.1e}");
        if (order - expected).abs() > 0.35 || error > 0.3 {
            wrong.push(format!(
                "{name}: order {order:.2} instead of {expected}, error {error:e}"
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_adaptive_flow_keeps_to_its_tolerance() {
    let mut before = (f64::INFINITY, 0);
    for tolerance in [1e-4, 1e-6, 1e-8] {
        let (error, evaluations) = process::flow_error(tolerance).unwrap();
        println!("{tolerance:e}: {error:.1e} {evaluations}");
        assert!(error < 100.0 * tolerance && error < 0.1 * before.0);
        assert!(evaluations > before.1);
        before = (error, evaluations);
    }
}
