//! What the layers keep and refuse: running statistics, masks, errors that name the shapes.

mod common;

use candle_core::{DType, Device, Module, ModuleT, Tensor, Var};
use common::{bits, close, values, wave32};
use nn_ops::{
    BatchNorm, BatchNormConfig, Dropout, Params, Pool2x, Upsample2x, avg_pool2x, batch_norm_train,
    dropout, max_pool2x, softmax, upsample_bilinear2x, upsample_nearest2x,
};

fn norm(params: &Params, c: usize) -> BatchNorm {
    BatchNorm::new(
        c,
        BatchNormConfig::default(),
        params.builder(&Device::Cpu).pp("bn"),
    )
    .unwrap()
}

#[test]
fn running_statistics_move_as_torchs() {
    let params = Params::new(0);
    let layer = norm(&params, 1);
    let x = Tensor::new(&[[[[1f32, 2.0], [3.0, 6.0]]]], &Device::Cpu).unwrap();
    let y = layer.forward_t(&x, true).unwrap();
    // Mean 3, biased variance 3.5; the running variance takes the unbiased 14 / 3.
    let want: Vec<f64> = [1.0, 2.0, 3.0, 6.0]
        .iter()
        .map(|v| (v - 3.0) / 3.50001f64.sqrt())
        .collect();
    close(
        "y",
        &y,
        &Tensor::from_vec(want, (1, 1, 2, 2), &Device::Cpu).unwrap(),
        1e-6,
    );
    assert!((values(layer.running_mean())[0] - 0.3).abs() < 1e-6);
    assert!((values(layer.running_var())[0] - (0.9 + 1.4 / 3.0)).abs() < 1e-6);
    // They are variables of the set, so that checkpoints hold them.
    assert_eq!(
        bits(&params.tensors()["bn.running_mean"]),
        bits(layer.running_mean())
    );
    // A pass that is not training uses them and leaves them.
    let before = bits(layer.running_var());
    let y = layer.forward_t(&x, false).unwrap();
    let want = (1.0 - 0.3) / (0.9 + 1.4 / 3.0 + 1e-5f64).sqrt();
    assert!((values(&y)[0] - want).abs() < 1e-6);
    assert_eq!(before, bits(layer.running_var()));
}

#[test]
fn running_statistics_get_no_gradient() {
    for train in [false, true] {
        for dtype in [DType::F32, DType::F64] {
            let params = Params::new(0);
            let layer = BatchNorm::new(
                2,
                BatchNormConfig::default(),
                params.builder(&Device::Cpu).set_dtype(dtype),
            )
            .unwrap();
            let x = Var::from_tensor(&wave32(&[2, 2, 3, 3], 0.1).to_dtype(dtype).unwrap()).unwrap();
            let y = layer.forward_t(&x, train).unwrap();
            let grads = y.sqr().unwrap().sum_all().unwrap().backward().unwrap();
            for (name, var) in params.named() {
                let learned = !name.starts_with("running");
                assert_eq!(
                    grads.get(&var).is_some(),
                    learned,
                    "{name} {train} {dtype:?}"
                );
            }
        }
    }
}

#[test]
fn batches_far_from_zero_keep_their_variance() {
    let x = (wave32(&[4, 3, 9, 7], 0.1) + 1000.0).unwrap();
    let one = Tensor::ones(3, DType::F32, &Device::Cpu).unwrap();
    let (y, batch) = batch_norm_train(&x, &one, &one.zeros_like().unwrap(), 1e-5).unwrap();
    assert_eq!(batch.count, 4 * 63);
    let power = values(&y.sqr().unwrap().mean_all().unwrap())[0];
    assert!((power - 1.0).abs() < 1e-3, "{power}");
    // The exact path is no less exact.
    let zero = one.zeros_like().unwrap();
    let exact = || batch_norm_train(&x, &one, &zero, 1e-5).unwrap().0;
    let exact = nn_ops::path::with(nn_ops::path::Path::Exact, exact);
    assert_eq!(bits(&exact), bits(&y));
}

#[test]
fn a_batch_of_one_value_cannot_train() {
    let layer = norm(&Params::new(0), 2);
    let x = wave32(&[1, 2, 1, 1], 0.0);
    let message = layer.forward_t(&x, true).unwrap_err().to_string();
    assert!(message.contains("[1, 2, 1, 1]"), "{message}");
    assert!(layer.forward_t(&x, false).is_ok());
    let message = layer
        .forward_t(&wave32(&[2, 3, 4, 4], 0.0), true)
        .unwrap_err()
        .to_string();
    assert!(
        message.contains("(3,)") && message.contains("[2]"),
        "{message}"
    );
}

#[test]
fn masks_belong_to_addresses() {
    let x = Tensor::ones((3, 1000), DType::F32, &Device::Cpu).unwrap();
    let all = dropout(&x, 0.3, 1, &[4, 9, 2], 5, 6).unwrap();
    let one = dropout(&x.narrow(0, 1, 1).unwrap(), 0.3, 1, &[9], 5, 6).unwrap();
    assert_eq!(bits(&all.narrow(0, 1, 1).unwrap()), bits(&one));
    let v = values(&all);
    let keep = f64::from((1.0 / 0.7) as f32);
    assert!(v.iter().all(|v| *v == 0.0 || *v == keep));
    let kept = v.iter().filter(|v| **v > 0.0).count() as f64 / 3000.0;
    assert!((kept - 0.7).abs() < 0.03, "{kept}");
    assert_eq!(
        bits(&dropout(&x, 0.0, 1, &[0, 1, 2], 0, 0).unwrap()),
        bits(&x)
    );
    assert!(
        values(&dropout(&x, 1.0, 1, &[0, 1, 2], 0, 0).unwrap())
            .iter()
            .all(|v| *v == 0.0)
    );
    assert!(dropout(&x, 1.5, 1, &[0, 1, 2], 0, 0).is_err());
    assert!(dropout(&x, 0.5, 1, &[0], 0, 0).is_err());
}

#[test]
fn a_dropout_layer_can_be_resumed() {
    let x = Tensor::ones((2, 50), DType::F32, &Device::Cpu).unwrap();
    let layer = Dropout::new(0.5, 3, 1).unwrap();
    let first = bits(&layer.forward_t(&x, true).unwrap());
    let second = bits(&layer.forward_t(&x, true).unwrap());
    assert_ne!(first, second);
    assert_eq!(bits(&layer.forward_t(&x, false).unwrap()), bits(&x));
    assert_eq!(layer.step(), 2);
    let resumed = Dropout::new(0.5, 3, 1).unwrap();
    resumed.set_step(1);
    assert_eq!(bits(&resumed.forward_t(&x, true).unwrap()), second);
}

#[test]
fn a_nan_is_a_windows_maximum() {
    for at in 0..4 {
        let mut v = [1f32, 2.0, 3.0, 4.0];
        v[at] = f32::NAN;
        let x = Tensor::from_slice(&v, (1, 1, 2, 2), &Device::Cpu).unwrap();
        assert!(values(&max_pool2x(&x).unwrap())[0].is_nan(), "{at}");
    }
}

#[test]
fn large_logits_do_not_overflow() {
    let x = Tensor::new(&[[1e4f32, 1e4 - 1.0, -1e4]], &Device::Cpu).unwrap();
    let p = values(&softmax(&x).unwrap());
    let want = 1.0 / (1.0 + (-1f64).exp());
    assert!(
        (p[0] - want).abs() < 1e-6 && (p[0] + p[1] + p[2] - 1.0).abs() < 1e-6,
        "{p:?}"
    );
}

#[test]
fn layers_are_their_functions() {
    let x = wave32(&[2, 3, 4, 6], 0.1);
    assert_eq!(
        bits(&Pool2x::Max.forward(&x).unwrap()),
        bits(&max_pool2x(&x).unwrap())
    );
    assert_eq!(
        bits(&Pool2x::Mean.forward(&x).unwrap()),
        bits(&avg_pool2x(&x).unwrap())
    );
    assert_eq!(
        bits(&Upsample2x::Nearest.forward(&x).unwrap()),
        bits(&upsample_nearest2x(&x).unwrap())
    );
    assert_eq!(
        bits(&Upsample2x::Bilinear.forward(&x).unwrap()),
        bits(&upsample_bilinear2x(&x).unwrap())
    );
}

#[test]
fn shapes_that_do_not_fit_are_named() {
    for (result, part) in [
        (max_pool2x(&wave32(&[1, 1, 1, 4], 0.0)), "[1, 1, 1, 4]"),
        (avg_pool2x(&wave32(&[1, 1, 3, 4], 0.0)), "[1, 1, 3, 4]"),
        (
            upsample_bilinear2x(&wave32(&[1, 1, 0, 4], 0.0)),
            "[1, 1, 0, 4]",
        ),
        (softmax(&wave32(&[2, 0], 0.0)), "[2, 0]"),
        (max_pool2x(&wave32(&[4, 4], 0.0)), "[4, 4]"),
    ] {
        let message = result.unwrap_err().to_string();
        assert!(message.contains(part), "{message}");
    }
}
