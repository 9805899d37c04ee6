//! Group normalisation against a composition of candle's elementary operators, forward and all gradients.

use candle_core::{D, Device, Result, Tensor, Var};
use nn_ops::{Activation, group_norm};

fn wave(shape: &[usize], seed: f64) -> Tensor {
    let len = shape.iter().product();
    let data: Vec<f32> = (0..len)
        .map(|i| ((i as f64 * 0.7312 + seed).sin() * 43_758.545_3).fract() as f32 + 0.3)
        .collect();
    Tensor::from_vec(data, shape, &Device::Cpu).unwrap()
}

fn elementary(
    x: &Tensor,
    s: &Tensor,
    b: &Tensor,
    groups: usize,
    act: Activation,
) -> Result<Tensor> {
    let (n, c) = (x.dim(0)?, x.dim(1)?);
    let g = x.reshape((n, groups, ()))?;
    let g = g.broadcast_sub(&g.mean_keepdim(D::Minus1)?)?;
    let g = g.broadcast_div(&(g.sqr()?.mean_keepdim(D::Minus1)? + 1e-5)?.sqrt()?)?;
    let rows = if s.dims().len() == 2 { n } else { 1 };
    let y = g
        .reshape((n, c, ()))?
        .broadcast_mul(&s.reshape((rows, c, 1))?)?
        .broadcast_add(&b.reshape((rows, c, 1))?)?
        .reshape(x.shape())?;
    match act {
        Activation::None => Ok(y),
        Activation::Silu => &y * (((y.neg()?.exp()? + 1.0)?).recip()?),
    }
}

#[test]
fn pictures_without_pixels_have_no_gradients_of_parameters() {
    let x = Tensor::zeros((2, 4, 0, 3), candle_core::DType::F32, &Device::Cpu).unwrap();
    let [scale, shift] = [0.3, 0.7].map(|seed| Var::from_tensor(&wave(&[4], seed)).unwrap());
    let y = group_norm(&x, &scale, &shift, 2, 1e-5, Activation::Silu).unwrap();
    let grads = y.sum_all().unwrap().backward().unwrap();
    for var in [&scale, &shift] {
        if let Some(grad) = grads.get(var) {
            assert_eq!(grad.to_vec1::<f32>().unwrap(), [0.0; 4]);
        }
    }
}

fn close(name: &str, a: &Tensor, b: &Tensor) {
    let (a, b) = (
        a.flatten_all().unwrap().to_vec1::<f32>().unwrap(),
        b.flatten_all().unwrap().to_vec1::<f32>().unwrap(),
    );
    let scale = b.iter().fold(1f32, |m, v| m.max(v.abs()));
    let worst = a.iter().zip(&b).fold(0f32, |m, (a, b)| {
        assert!(a.is_finite(), "{name}");
        m.max((a - b).abs())
    });
    assert!(
        worst <= 3e-5 * scale,
        "{name}: off by {worst:e} of {scale:e}"
    );
}

#[test]
fn forward_and_gradients_equal_elementary_operators() {
    for (n, c, h, w, groups) in [
        (1, 4, 1, 1, 2),
        (2, 6, 5, 7, 3),
        (3, 8, 8, 8, 8),
        (2, 12, 9, 3, 1),
        (5, 32, 4, 4, 8),
    ] {
        for per_picture in [false, true] {
            for act in [Activation::None, Activation::Silu] {
                let name = format!("{n} {c} {h}x{w} groups {groups} {per_picture} {act:?}");
                let p: Vec<usize> = if per_picture { vec![n, c] } else { vec![c] };
                let x = Var::from_tensor(&wave(&[n, c, h, w], 0.1)).unwrap();
                let s = Var::from_tensor(&wave(&p, 0.2)).unwrap();
                let b = Var::from_tensor(&wave(&p, 0.7)).unwrap();
                let ours = group_norm(&x, &s, &b, groups, 1e-5, act).unwrap();
                let theirs = elementary(&x, &s, &b, groups, act).unwrap();
                close(&name, &ours, &theirs);
                let weight = wave(&[n, c, h, w], 0.9);
                let ga = (ours * &weight)
                    .unwrap()
                    .sum_all()
                    .unwrap()
                    .backward()
                    .unwrap();
                let gb = (theirs * &weight)
                    .unwrap()
                    .sum_all()
                    .unwrap()
                    .backward()
                    .unwrap();
                // One pixel per channel and two channels per group: the gradient is all cancellation.
                if h * w > 1 {
                    close(
                        &format!("{name} dx"),
                        ga.get(&x).unwrap(),
                        gb.get(&x).unwrap(),
                    );
                }
                close(
                    &format!("{name} ds"),
                    ga.get(&s).unwrap(),
                    gb.get(&s).unwrap(),
                );
                close(
                    &format!("{name} db"),
                    ga.get(&b).unwrap(),
                    gb.get(&b).unwrap(),
                );
            }
        }
    }
}

#[test]
fn pictures_far_from_zero_keep_their_variance() {
    let x = (wave(&[2, 4, 16, 16], 0.1) + 1000.0).unwrap();
    let one = Tensor::ones(4, candle_core::DType::F32, &Device::Cpu).unwrap();
    let zero = one.zeros_like().unwrap();
    let y = group_norm(&x, &one, &zero, 2, 1e-5, Activation::None).unwrap();
    let var = y
        .sqr()
        .unwrap()
        .mean_all()
        .unwrap()
        .to_scalar::<f32>()
        .unwrap();
    assert!((var - 1.0).abs() < 1e-2, "{var}");
}
