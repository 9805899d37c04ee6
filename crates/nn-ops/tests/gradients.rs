//! Every operator's gradients against finite differences in f64, and its f32 path against f64: odd sizes, one picture, one
//! channel, strides, groups.

mod common;

use candle_core::Tensor;
use common::{check, wave};
use nn_ops::{
    Activation, Conv2dConfig, avg_pool2x, batch_norm_eval, batch_norm_train, conv2d, dropout,
    group_norm, leaky_relu, linear, max_pool2x, self_attention, silu, softmax, upsample_bilinear2x,
    upsample_nearest2x,
};

const TOLERANCE: f64 = 2e-5;

#[test]
fn convolutions() {
    let cfg = |stride, padding, groups| Conv2dConfig {
        stride,
        padding,
        groups,
    };
    // (n, ci, co, h, w, kh, kw, cfg)
    for (n, ci, co, h, w, kh, kw, cfg) in [
        (1, 1, 1, 1, 1, 3, 3, cfg(1, 1, 1)),
        (1, 1, 1, 5, 3, 3, 3, cfg(1, 1, 1)),
        (2, 3, 9, 5, 7, 3, 3, cfg(1, 1, 1)),
        (3, 2, 3, 4, 6, 1, 1, cfg(1, 0, 1)),
        (2, 2, 4, 5, 7, 1, 1, cfg(2, 0, 2)),
        (2, 4, 6, 7, 5, 3, 3, cfg(2, 1, 2)),
        (1, 3, 3, 6, 5, 3, 3, cfg(1, 1, 3)),
        (2, 1, 2, 8, 8, 4, 4, cfg(3, 2, 1)),
        (1, 2, 2, 6, 6, 2, 3, cfg(1, 0, 1)),
    ] {
        let what = format!("conv2d {n} {ci}->{co} {h}x{w} k{kh}x{kw} {cfg:?}");
        let (x, wt) = (
            wave(&[n, ci, h, w], 0.1),
            wave(&[co, ci / cfg.groups, kh, kw], 0.2),
        );
        let b = wave(&[co], 0.3);
        check(&what, &[x.clone(), wt.clone(), b], TOLERANCE, |t| {
            conv2d(&t[0], &t[1], Some(&t[2]), cfg)
        });
        check(&format!("{what} without bias"), &[x, wt], TOLERANCE, |t| {
            conv2d(&t[0], &t[1], None, cfg)
        });
    }
}

#[test]
fn fully_connected() {
    for (n, i, o) in [(1, 1, 1), (3, 5, 2), (2, 7, 9)] {
        let inputs = [wave(&[n, i], 0.1), wave(&[o, i], 0.2), wave(&[o], 0.3)];
        check(&format!("linear {n} {i}->{o}"), &inputs, TOLERANCE, |t| {
            linear(&t[0], &t[1], Some(&t[2]))
        });
    }
}

#[test]
fn activations() {
    for shape in [&[1][..], &[2, 3, 5, 7]] {
        let x = (wave(shape, 0.1) * 4.0).unwrap();
        check("silu", std::slice::from_ref(&x), TOLERANCE, |t| silu(&t[0]));
        check("leaky_relu", &[x], TOLERANCE, |t| leaky_relu(&t[0], 0.1));
    }
}

#[test]
fn group_norms() {
    for (n, c, h, w, groups) in [
        (1, 1, 3, 5, 1),
        (1, 4, 5, 7, 2),
        (2, 6, 3, 3, 6),
        (3, 6, 4, 5, 1),
    ] {
        for per_picture in [false, true] {
            for act in [Activation::None, Activation::Silu] {
                let p: &[usize] = if per_picture { &[n, c] } else { &[c] };
                let inputs = [
                    wave(&[n, c, h, w], 0.1),
                    (wave(p, 0.2) + 1.0).unwrap(),
                    wave(p, 0.3),
                ];
                check(
                    &format!("group_norm {n} {c} {h}x{w} {groups} {p:?} {act:?}"),
                    &inputs,
                    TOLERANCE,
                    |t| group_norm(&t[0], &t[1], &t[2], groups, 1e-5, act),
                );
            }
        }
    }
}

#[test]
fn batch_norms() {
    for shape in [
        &[5, 1][..],
        &[1, 1, 3, 5],
        &[1, 3, 2, 2],
        &[3, 2, 5, 7],
        &[2, 3, 4],
        &[2, 5, 6, 6],
    ] {
        let c = shape[1];
        let inputs = [
            wave(shape, 0.1),
            (wave(&[c], 0.2) + 1.0).unwrap(),
            wave(&[c], 0.3),
        ];
        check(
            &format!("batch_norm_train {shape:?}"),
            &inputs,
            TOLERANCE,
            |t| Ok(batch_norm_train(&t[0], &t[1], &t[2], 1e-5)?.0),
        );
        let (mean, var) = (
            wave(&[c], 0.4),
            (wave(&[c], 0.5).abs().unwrap() + 0.1).unwrap(),
        );
        check(
            &format!("batch_norm_eval {shape:?}"),
            &inputs,
            TOLERANCE,
            |t| {
                let given = |v: &Tensor| v.to_dtype(t[0].dtype());
                batch_norm_eval(&t[0], &given(&mean)?, &given(&var)?, &t[1], &t[2], 1e-5)
            },
        );
    }
}

#[test]
fn resampling() {
    for (n, c, h, w) in [(1, 1, 1, 1), (1, 1, 1, 3), (2, 3, 3, 5), (1, 2, 4, 1)] {
        let x = [wave(&[n, c, h, w], 0.1)];
        check(&format!("upsample_nearest2x {h}x{w}"), &x, TOLERANCE, |t| {
            upsample_nearest2x(&t[0])
        });
        check(
            &format!("upsample_bilinear2x {h}x{w}"),
            &x,
            TOLERANCE,
            |t| upsample_bilinear2x(&t[0]),
        );
    }
    for (n, c, h, w) in [(1, 1, 2, 2), (2, 3, 4, 6), (1, 2, 6, 2)] {
        let x = [wave(&[n, c, h, w], 0.1)];
        check(&format!("avg_pool2x {h}x{w}"), &x, TOLERANCE, |t| {
            avg_pool2x(&t[0])
        });
    }
    for (n, c, h, w) in [(1, 1, 2, 2), (2, 3, 5, 7), (1, 2, 3, 2), (2, 1, 6, 9)] {
        let x = [wave(&[n, c, h, w], 0.1)];
        check(&format!("max_pool2x {h}x{w}"), &x, TOLERANCE, |t| {
            max_pool2x(&t[0])
        });
    }
}

#[test]
fn attention_and_softmax() {
    for (n, heads, d, len) in [(1, 1, 1, 1), (2, 2, 3, 5), (1, 4, 2, 17)] {
        let qkv = [(wave(&[n, 3 * heads * d, len], 0.1) * 2.0).unwrap()];
        check(
            &format!("self_attention {n} {heads} {d} {len}"),
            &qkv,
            TOLERANCE,
            |t| self_attention(&t[0], heads),
        );
    }
    for shape in [&[1][..], &[3, 5], &[2, 3, 33]] {
        let x = [(wave(shape, 0.1) * 5.0).unwrap()];
        check(&format!("softmax {shape:?}"), &x, TOLERANCE, |t| {
            softmax(&t[0])
        });
    }
}

#[test]
fn dropping_out() {
    let x = [wave(&[3, 2, 5], 0.1)];
    check("dropout", &x, TOLERANCE, |t| {
        dropout(&t[0], 0.4, 7, &[0, 1, 2], 1, 3)
    });
}

/// All of the above with the narrower instruction sets. The choice is made once per process, so each gets its own.
#[test]
fn every_instruction_set() {
    if std::env::var_os("NN_OPS_ISA").is_some() {
        return;
    }
    for isa in ["portable", "avx2"] {
        let run = std::process::Command::new(std::env::current_exe().unwrap())
            .env("NN_OPS_ISA", isa)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&run.stdout);
        assert!(run.status.success(), "{isa}: {said}");
    }
}
