//! FIR resampling against its definition, written as loops, and its gradients against finite differences.

mod common;

use candle_core::{DType, Device, Tensor};
use common::{bits, check, close, values, wave, wave32};
use nn_ops::{avg_pool2x, downsample_fir2x, upfirdn2d, upsample_fir2x, upsample_nearest2x};

/// Zeros between, padding or cropping, convolution, every n-th: one after the other, along one axis.
fn line(x: &[f64], taps: &[f64], up: usize, down: usize, pad: [isize; 2]) -> Vec<f64> {
    let mut u = Vec::new();
    for &v in x {
        u.push(v);
        u.extend(std::iter::repeat_n(0.0, up - 1));
    }
    for (k, end) in [(0, false), (1, true)] {
        for _ in 0..pad[k].unsigned_abs() {
            match (pad[k] > 0, end) {
                (true, false) => u.insert(0, 0.0),
                (true, true) => u.push(0.0),
                (false, false) => drop(u.remove(0)),
                (false, true) => drop(u.pop()),
            }
        }
    }
    let filtered = u
        .windows(taps.len())
        .map(|w| w.iter().zip(taps.iter().rev()).map(|(a, b)| a * b).sum());
    filtered.step_by(down).collect()
}

/// Along rows, then along columns.
fn naive(x: &Tensor, taps: &[f64], up: usize, down: usize, pad: [isize; 2]) -> Tensor {
    let (n, c, h, w) = x.dims4().unwrap();
    let x = values(x);
    let mut all = Vec::new();
    let mut size = (0, 0);
    for plane in x.chunks(h * w) {
        let rows: Vec<Vec<f64>> = (plane.chunks(w))
            .map(|row| line(row, taps, up, down, pad))
            .collect();
        let columns: Vec<Vec<f64>> = (0..rows[0].len())
            .map(|j| {
                let column: Vec<f64> = rows.iter().map(|r| r[j]).collect();
                line(&column, taps, up, down, pad)
            })
            .collect();
        size = (columns[0].len(), columns.len());
        for i in 0..size.0 {
            all.extend(columns.iter().map(|c| c[i]));
        }
    }
    Tensor::from_vec(all, (n, c, size.0, size.1), &Device::Cpu).unwrap()
}

#[test]
fn values_and_gradients() {
    let smooth = [0.125, 0.375, 0.375, 0.125];
    let skew = [0.5, -0.2, 0.9];
    for (n, c, h, w, taps, up, down, pad) in [
        (2, 3, 5, 7, &smooth[..], 2, 1, [2, 1]),
        (2, 3, 6, 8, &smooth, 1, 2, [1, 1]),
        (1, 2, 5, 7, &smooth, 1, 2, [1, 1]),
        (1, 1, 3, 4, &skew, 1, 1, [1, 1]),
        (1, 2, 4, 3, &skew, 3, 2, [2, 0]),
        (1, 1, 5, 4, &skew, 2, 3, [4, 3]),
        (1, 1, 5, 6, &skew, 2, 1, [-1, -2]),
        (1, 2, 3, 3, &[1.0], 1, 1, [0, 1]),
        (1, 1, 1, 1, &smooth, 2, 1, [2, 1]),
    ] {
        let what = format!("upfirdn2d {h}x{w} {taps:?} up {up} down {down} pad {pad:?}");
        let x = wave(&[n, c, h, w], 0.1);
        let want = naive(&x, taps, up, down, pad);
        close(
            &what,
            &upfirdn2d(&x, taps, up, down, pad).unwrap(),
            &want,
            1e-14,
        );
        check(&what, &[x], 1e-6, |t| upfirdn2d(&t[0], taps, up, down, pad));
    }
}

#[test]
fn doubling_and_halving() {
    let x = wave32(&[2, 3, 6, 8], 0.3);
    let box_ = [1.0, 1.0];
    close(
        "two equal taps repeat",
        &upsample_fir2x(&x, &box_).unwrap(),
        &upsample_nearest2x(&x).unwrap(),
        1e-7,
    );
    close(
        "two equal taps are means",
        &downsample_fir2x(&x, &box_).unwrap(),
        &avg_pool2x(&x).unwrap(),
        1e-6,
    );
    for taps in [&[1.0, 3.0, 3.0, 1.0][..], &[1.0, 2.0, 1.0], &[1.0; 6]] {
        let up = upsample_fir2x(&x, taps).unwrap();
        let down = downsample_fir2x(&x, taps).unwrap();
        assert_eq!(up.dims(), [2, 3, 12, 16], "{taps:?}");
        assert_eq!(down.dims(), [2, 3, 3, 4], "{taps:?}");
    }
    // In the middle of a constant picture nothing changes.
    let one = Tensor::ones((1, 1, 8, 8), DType::F32, &Device::Cpu).unwrap();
    let y = upsample_fir2x(&one, &[1.0, 3.0, 3.0, 1.0]).unwrap();
    let middle = values(&y.narrow(2, 4, 8).unwrap().narrow(3, 4, 8).unwrap());
    assert!(middle.iter().all(|v| (v - 1.0).abs() < 1e-6));
}

#[test]
fn a_picture_does_not_depend_on_its_company() {
    let x = wave32(&[5, 7, 12, 10], 0.2);
    let taps = [1.0, 3.0, 3.0, 1.0];
    let all = upsample_fir2x(&x, &taps).unwrap();
    for i in 0..5 {
        let alone = upsample_fir2x(&x.narrow(0, i, 1).unwrap(), &taps).unwrap();
        assert_eq!(bits(&all.narrow(0, i, 1).unwrap()), bits(&alone));
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let x = wave32(&[1, 1, 2, 2], 0.0);
    for (taps, up, down, pad) in [
        (&[][..], 1, 1, [0, 0]),
        (&[1.0], 0, 1, [0, 0]),
        (&[1.0], 1, 0, [0, 0]),
        (&[1.0, 1.0, 1.0], 1, 1, [0, 0]),
        (&[1.0], 1, 1, [-2, -1]),
        (&[1.0], usize::MAX, 1, [0, 0]),
        (&[1.0], 1, 1, [isize::MAX, 1]),
        (&[1.0], 1, 1, [isize::MIN + 2, isize::MAX]),
        (&[1.0], 1, 1, [1 << 40, 0]),
    ] {
        let message = upfirdn2d(&x, taps, up, down, pad).unwrap_err().to_string();
        assert!(message.contains("[1, 1, 2, 2]"), "{message}");
    }
    assert!(upsample_fir2x(&x, &[1.0, -1.0]).is_err());
    assert!(downsample_fir2x(&x, &[]).is_err());
}
