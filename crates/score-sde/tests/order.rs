//! Every sampler converges at its order; `examples/order` prints the numbers.

#[path = "../examples/order/measure.rs"]
mod measure;

#[test]
fn samplers_converge_at_their_orders() {
    let mut wrong = Vec::new();
    for (name, config, expected) in measure::all() {
        let error = |steps| measure::error(&config, steps).unwrap();
        let (coarse, error) = (error(96), error(192));
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
