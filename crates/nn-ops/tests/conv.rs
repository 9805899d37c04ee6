//! Convolution against its definition, forward and all gradients, on odd and awkward shapes.

use candle_core::{Device, Result, Tensor, Var};
use nn_ops::path::{Path, with};
use nn_ops::{Conv2dConfig, conv2d};

/// Deterministic values in about [-1, 1].
fn wave(shape: &[usize], seed: f64) -> Tensor {
    let len = shape.iter().product();
    let data: Vec<f32> = (0..len)
        .map(|i| ((i as f64 * 0.7312 + seed).sin() * 43_758.545_3).fract() as f32)
        .collect();
    Tensor::from_vec(data, shape, &Device::Cpu).unwrap()
}

fn close(name: &str, a: &Tensor, b: &Tensor) {
    assert_eq!(a.dims(), b.dims(), "{name}");
    let (a, b) = (
        a.flatten_all().unwrap().to_vec1::<f32>().unwrap(),
        b.flatten_all().unwrap().to_vec1::<f32>().unwrap(),
    );
    let scale = b.iter().fold(1f32, |m, v| m.max(v.abs()));
    let worst = a.iter().zip(&b).fold(0f32, |m, (a, b)| {
        assert!(a.is_finite(), "{name}: not finite");
        m.max((a - b).abs())
    });
    assert!(
        worst <= 2e-5 * scale,
        "{name}: off by {worst:e} of {scale:e}"
    );
}

/// A sum over kernel positions of products with shifted pictures. Not candle's operator: its backward takes one output
/// padding for both axes and fails where a stride leaves different remainders along them.
fn reference(x: &Tensor, w: &Tensor, b: Option<&Tensor>, cfg: Conv2dConfig) -> Result<Tensor> {
    let (n, ci, _, _) = x.dims4()?;
    let (co, _, kh, kw) = w.dims4()?;
    let x = x
        .pad_with_zeros(2, cfg.padding, cfg.padding)?
        .pad_with_zeros(3, cfg.padding, cfg.padding)?;
    let picks = |size: usize, kernel: usize, at: usize| {
        let count = (size - kernel) / cfg.stride + 1;
        Tensor::from_iter(
            (0..count).map(|i| (i * cfg.stride + at) as u32),
            &Device::Cpu,
        )
    };
    let (ci_g, co_g) = (ci / cfg.groups, co / cfg.groups);
    let mut groups = Vec::new();
    for g in 0..cfg.groups {
        let (x, w) = (x.narrow(1, g * ci_g, ci_g)?, w.narrow(0, g * co_g, co_g)?);
        let mut sum: Option<Tensor> = None;
        for (i, j) in (0..kh).flat_map(|i| (0..kw).map(move |j| (i, j))) {
            let rows = x.contiguous()?.index_select(&picks(x.dim(2)?, kh, i)?, 2)?;
            let part = rows.index_select(&picks(x.dim(3)?, kw, j)?, 3)?;
            let (oh, ow) = (part.dim(2)?, part.dim(3)?);
            let weight = w
                .narrow(2, i, 1)?
                .narrow(3, j, 1)?
                .reshape((1, co_g, ci_g))?;
            let y = weight
                .broadcast_matmul(&part.reshape((n, ci_g, oh * ow))?)?
                .reshape((n, co_g, oh, ow))?;
            sum = Some(match sum {
                Some(sum) => (sum + y)?,
                None => y,
            });
        }
        groups.extend(sum);
    }
    let y = Tensor::cat(&groups, 1)?;
    match b {
        Some(b) => y.broadcast_add(&b.reshape((1, co, 1, 1))?),
        None => Ok(y),
    }
}

fn check(
    n: usize,
    ci: usize,
    co: usize,
    h: usize,
    w: usize,
    k: usize,
    cfg: Conv2dConfig,
    bias: bool,
) {
    let name = format!("n{n} {ci}->{co} {h}x{w} k{k} {cfg:?} bias {bias}");
    let x = Var::from_tensor(&wave(&[n, ci, h, w], 0.1)).unwrap();
    let wt = Var::from_tensor(&wave(&[co, ci / cfg.groups, k, k], 0.2)).unwrap();
    let b = Var::from_tensor(&wave(&[co], 0.3)).unwrap();
    let bias = bias.then(|| b.as_tensor());
    let ours = conv2d(&x, &wt, bias, cfg).unwrap();
    let theirs = reference(&x, &wt, bias, cfg).unwrap();
    close(&name, &ours, &theirs);
    let weight = wave(ours.dims(), 0.4);
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
    for (what, v) in [("dx", &x), ("dw", &wt), ("db", &b)] {
        if what == "db" && bias.is_none() {
            continue;
        }
        close(
            &format!("{name} {what}"),
            ga.get(v).unwrap(),
            gb.get(v).unwrap(),
        );
    }
}

#[test]
fn same_three_by_three() {
    let cfg = Conv2dConfig::same(3);
    for (n, ci, co, h, w) in [
        (1, 1, 1, 1, 1),
        (1, 3, 8, 5, 7),
        (2, 8, 3, 6, 6),
        (3, 7, 9, 9, 4),
        (5, 16, 24, 8, 8),
        (2, 70, 17, 17, 31),
        (1, 65, 40, 33, 33),
        (9, 5, 12, 4, 4),
    ] {
        for path in [Path::Fast, Path::Exact] {
            with(path, || {
                check(n, ci, co, h, w, 3, cfg, true);
                check(n, ci, co, h, w, 3, cfg, false);
            });
        }
    }
}

#[test]
fn strides_paddings_groups_and_other_kernels() {
    let cfg = |stride, padding, groups| Conv2dConfig {
        stride,
        padding,
        groups,
    };
    check(2, 6, 10, 7, 9, 1, cfg(1, 0, 1), true);
    check(2, 6, 10, 7, 9, 1, cfg(2, 0, 2), true);
    // A square: the backward of candle, which is compared with, fails for stride 2 at 9 x 8.
    check(3, 4, 8, 9, 9, 3, cfg(2, 1, 1), true);
    check(1, 4, 8, 10, 6, 4, cfg(2, 1, 4), false);
    check(2, 4, 6, 11, 11, 5, cfg(1, 2, 2), true);
    check(2, 3, 5, 12, 10, 3, cfg(3, 0, 1), true);
    check(2, 4, 4, 6, 6, 3, cfg(1, 2, 1), true);
    check(11, 2, 4, 5, 5, 3, cfg(1, 1, 2), true);
    // Kernels that reach across the whole picture, some taps beside all of it.
    check(2, 3, 5, 1, 1, 5, cfg(1, 2, 1), true);
    check(2, 3, 5, 2, 1, 7, cfg(2, 3, 1), true);
}

#[test]
fn every_channel_by_itself() {
    let cfg = |stride, padding, groups| Conv2dConfig {
        stride,
        padding,
        groups,
    };
    check(2, 6, 6, 7, 9, 3, cfg(1, 1, 6), true);
    check(3, 5, 5, 9, 12, 3, cfg(2, 0, 5), false);
    check(1, 4, 4, 11, 8, 5, cfg(2, 2, 4), true);
    check(2, 3, 3, 10, 7, 5, cfg(3, 1, 3), true);
    check(2, 2, 2, 6, 6, 1, cfg(1, 0, 2), true);
    // Rows of one register and more, whole and in part, and fewer rows than a tile has.
    for (height, width) in [(3, 16), (5, 23), (7, 41), (2, 64), (5, 115)] {
        check(1, 2, 2, height, width, 3, cfg(1, 1, 2), true);
        check(1, 2, 2, height, width, 3, cfg(2, 1, 2), false);
    }
}

#[test]
fn kernels_of_one_line_or_column() {
    for (kh, kw) in [(1, 7), (7, 1), (1, 3), (3, 1)] {
        let (x, w) = (wave(&[2, 5, 9, 8], 0.1), wave(&[4, 5, kh, kw], 0.2));
        let b = wave(&[4], 0.3);
        let cfg = Conv2dConfig::default();
        let ours = conv2d(&x, &w, Some(&b), cfg).unwrap();
        close(
            &format!("{kh}x{kw}"),
            &ours,
            &reference(&x, &w, Some(&b), cfg).unwrap(),
        );
    }
}

#[test]
fn one_picture_is_the_same_alone_and_in_a_batch() {
    for (ci, co, side, k, groups) in [
        (5, 9, 4, 3, 1),
        (64, 64, 16, 3, 1),
        (33, 12, 8, 1, 1),
        (6, 6, 9, 5, 6),
    ] {
        let (x, w) = (
            wave(&[7, ci, side, side], 0.5),
            wave(&[co, ci / groups, k, k], 0.6),
        );
        let cfg = Conv2dConfig {
            groups,
            ..Conv2dConfig::same(k)
        };
        let all = conv2d(&x, &w, None, cfg).unwrap();
        for i in 0..7 {
            let one = conv2d(&x.narrow(0, i, 1).unwrap(), &w, None, cfg).unwrap();
            let bits = |t: &Tensor| -> Vec<u32> {
                let v = t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
                v.iter().map(|f| f.to_bits()).collect()
            };
            assert_eq!(
                bits(&one),
                bits(&all.narrow(0, i, 1).unwrap()),
                "{ci} {co} {side} {k}"
            );
        }
    }
}

#[test]
fn shapes_that_do_not_fit_are_named() {
    let x = wave(&[1, 4, 8, 8], 0.0);
    let w = wave(&[8, 3, 3, 3], 0.0);
    let message = conv2d(&x, &w, None, Conv2dConfig::same(3))
        .unwrap_err()
        .to_string();
    assert!(
        message.contains("[1, 4, 8, 8]") && message.contains("[8, 3, 3, 3]"),
        "{message}"
    );
    let w = wave(&[8, 4, 9, 9], 0.0);
    let message = conv2d(&x, &w, None, Conv2dConfig::default())
        .unwrap_err()
        .to_string();
    assert!(message.contains("9x9"), "{message}");
    let w = wave(&[8, 4, 3, 3], 0.0);
    let b = wave(&[7], 0.0);
    assert!(conv2d(&x, &w, Some(&b), Conv2dConfig::same(3)).is_err());
}

/// Without channels or pixels there is nothing to compute: an error, not the memory that nobody wrote.
#[test]
fn nothing_is_refused() {
    for (x, w, groups) in [
        ([1, 2, 0, 4], [2, 1, 1, 1], 2),
        ([1, 2, 4, 0], [3, 2, 3, 3], 1),
        ([1, 0, 4, 4], [3, 0, 3, 3], 1),
        ([1, 2, 4, 4], [0, 2, 3, 3], 1),
    ] {
        let cfg = Conv2dConfig {
            padding: 1,
            groups,
            ..Conv2dConfig::default()
        };
        let error = conv2d(&wave(&x, 0.1), &wave(&w, 0.2), None, cfg).unwrap_err();
        let error = error.to_string();
        assert!(
            error.contains("channels and pixels"),
            "{x:?} {w:?}: {error}"
        );
    }
}
