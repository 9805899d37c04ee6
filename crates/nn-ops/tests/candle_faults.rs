//! One test per known fault of candle's operators (0.11) that ours must not share.

mod common;

use candle_core::{DType, Device, Tensor, Var};
use candle_nn::VarBuilder;
use common::{bits, check, values, wave, wave32};
use nn_ops::{
    Conv2dConfig, Params, conv2d, group_norm, max_pool2x, softmax, upsample_bilinear2x,
    upsample_nearest2x,
};

/// candle: the backward of `upsample_nearest2d` overwrites what its input's other consumers have given.
#[test]
fn an_upsampled_tensor_may_have_other_consumers() {
    let x = [wave(&[2, 2, 3, 5], 0.1)];
    for up in [upsample_nearest2x, upsample_bilinear2x] {
        check("upsampled and used before and after", &x, 2e-5, |t| {
            let square = t[0].sqr()?;
            let first = up(&square)?.sum_all()?;
            let second = (up(&square)? * up(&(&square * 3.0)?)?)?.sum_all()?;
            (first + second)? + (square.sqr()?.sum_all()? * 5.0)?
        });
    }
}

/// candle: `upsample_bilinear2d` has no backward at all.
#[test]
fn bilinear_upsampling_has_a_gradient_and_torchs_values() {
    let x = Var::from_tensor(&Tensor::new(&[[[[1f32, 2.0], [3.0, 4.0]]]], &Device::Cpu).unwrap())
        .unwrap();
    let y = upsample_bilinear2x(&x).unwrap();
    // torch.nn.functional.interpolate(x, scale_factor=2, mode="bilinear")
    let want = [
        1.0, 1.25, 1.75, 2.0, 1.5, 1.75, 2.25, 2.5, 2.5, 2.75, 3.25, 3.5, 3.0, 3.25, 3.75, 4.0,
    ];
    assert_eq!(values(&y), want);
    let grads = y.sum_all().unwrap().backward().unwrap();
    assert_eq!(values(grads.get(&x).unwrap()), [4.0; 4]);
}

/// candle: the gradient of a 2 x 2 `max_pool2d` is 4 times too small, and is shared among equal maxima.
#[test]
fn a_maximum_gets_its_whole_gradient_and_the_first_of_equals_all_of_it() {
    for dtype in [DType::F32, DType::F64] {
        let data = Tensor::new(
            &[[[[1f32, 5.0, 2.0, 2.0], [5.0, 0.0, 2.0, 2.0]]]],
            &Device::Cpu,
        )
        .unwrap();
        let x = Var::from_tensor(&data.to_dtype(dtype).unwrap()).unwrap();
        let y = max_pool2x(&x).unwrap();
        assert_eq!(values(&y), [5.0, 2.0]);
        let grads = (y * 3.0).unwrap().sum_all().unwrap().backward().unwrap();
        assert_eq!(
            values(grads.get(&x).unwrap()),
            [0.0, 3.0, 3.0, 0.0, 0.0, 0.0, 0.0, 0.0],
            "{dtype:?}"
        );
    }
}

/// candle: `softmax_last_dim`, `LayerNorm` and `RmsNorm` drop gradients without a word. Layer normalisation here is
/// group normalisation with one group.
#[test]
fn softmax_and_normalisation_keep_gradients() {
    let x = Var::from_tensor(&wave32(&[2, 4, 3], 0.1)).unwrap();
    let one = Tensor::ones(4, DType::F32, &Device::Cpu).unwrap();
    let zero = one.zeros_like().unwrap();
    for y in [
        softmax(&x).unwrap(),
        group_norm(&x, &one, &zero, 1, 1e-5, nn_ops::Activation::None).unwrap(),
    ] {
        let grads = y
            .sqr()
            .unwrap()
            .flatten_all()
            .unwrap()
            .narrow(0, 0, 5)
            .unwrap()
            .sum_all()
            .unwrap()
            .backward();
        let grads = grads.unwrap();
        let g = values(grads.get(&x).expect("a gradient"));
        assert!(g.iter().any(|v| v.abs() > 1e-3), "{g:?}");
    }
}

/// candle: the backward of a strided `conv2d` fails where the stride leaves different remainders along the two axes.
/// Convolution is linear in each argument, so that differences over a whole unit are exact.
#[test]
fn a_stride_may_leave_different_remainders() {
    let cfg = Conv2dConfig {
        stride: 3,
        padding: 2,
        groups: 1,
    };
    let inputs = [
        wave32(&[2, 1, 8, 7], 0.1),
        wave32(&[2, 1, 4, 4], 0.2),
        wave32(&[2], 0.3),
    ];
    let vars = inputs.clone().map(|t| Var::from_tensor(&t).unwrap());
    let loss = |t: [&Tensor; 3]| {
        let y = conv2d(t[0], t[1], Some(t[2]), cfg).unwrap();
        (&y * wave32(y.dims(), 0.9)).unwrap().sum_all().unwrap()
    };
    let grads = loss([&vars[0], &vars[1], &vars[2]]).backward().unwrap();
    for (k, var) in vars.iter().enumerate() {
        let data = values(&inputs[k]);
        for (i, got) in values(grads.get(var).unwrap()).into_iter().enumerate() {
            let at = |h: f64| {
                let mut moved = data.clone();
                moved[i] += h;
                let moved = Tensor::from_vec(moved, inputs[k].shape(), &Device::Cpu).unwrap();
                let mut t = inputs.clone();
                t[k] = moved.to_dtype(DType::F32).unwrap();
                values(&loss([&t[0], &t[1], &t[2]]))[0]
            };
            let want = at(0.5) - at(-0.5);
            assert!(
                (got - want).abs() < 1e-4,
                "input {k} [{i}]: {got} instead of {want}"
            );
        }
    }
}

/// candle 0.11.0 on CUDA: weight gradients of a batch are wrong. The gradient of a batch is the sum over its pictures.
#[test]
fn the_weight_gradient_of_a_batch_is_the_sum_over_its_pictures() {
    let cfg = Conv2dConfig::same(3);
    let (x, w) = (
        wave32(&[4, 3, 5, 6], 0.1),
        Var::from_tensor(&wave32(&[8, 3, 3, 3], 0.2)).unwrap(),
    );
    let weights = wave32(&[4, 8, 5, 6], 0.3);
    let gradient = |from: usize, len: usize| {
        let y = conv2d(&x.narrow(0, from, len).unwrap(), &w, None, cfg).unwrap();
        let loss = (y * weights.narrow(0, from, len).unwrap())
            .unwrap()
            .sum_all()
            .unwrap();
        values(loss.backward().unwrap().get(&w).unwrap())
    };
    let single: Vec<Vec<f64>> = (0..4).map(|i| gradient(i, 1)).collect();
    for (i, all) in gradient(0, 4).into_iter().enumerate() {
        let sum: f64 = single.iter().map(|g| g[i]).sum();
        assert!((all - sum).abs() < 1e-4, "{i}: {all} instead of {sum}");
    }
}

/// candle: the CPU generator cannot be seeded. Initial values here depend on seed and name alone.
#[test]
fn initial_parameters_are_a_function_of_seed_and_name() {
    let first = |seed| {
        let vb: VarBuilder = Params::new(seed).builder(&Device::Cpu);
        let layer = nn_ops::Conv2d::new(3, 4, 3, Conv2dConfig::same(3), vb.pp("conv")).unwrap();
        bits(layer.weight())
    };
    assert_eq!(first(1), first(1));
    assert_ne!(first(1), first(2));
}
