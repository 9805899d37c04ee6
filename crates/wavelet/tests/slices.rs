//! The slices' transform is the tensors', and statistics are what the definitions say.

use candle_core::{Device, Tensor};
use proptest::prelude::*;
use wavelet::{Dwt, LevelMoments, Mode, Moments, Wavelet, haar};

#[test]
fn slices_are_the_tensors() {
    for dims @ [n, c, h, w] in [
        [1, 3, 128, 128],
        [2, 1, 6, 10],
        [3, 2, 2, 2],
        [0, 3, 4, 4],
        [2, 3, 0, 4],
    ] {
        let px = dims.iter().product::<usize>();
        let x: Vec<f32> = (0..px).map(|i| (i as f32 * 0.71).sin()).collect();
        let (mut low, mut high) = (vec![0.0; px / 4], vec![0.0; px / 4 * 3]);
        haar::analyze_into(&x, dims, &mut low, &mut high).unwrap();
        let mut back = vec![0.0; px];
        haar::synthesize_into(&low, &high, dims, &mut back).unwrap();
        assert!(x.iter().zip(&back).all(|(a, b)| (a - b).abs() < 1e-6));
        if h == 0 {
            continue;
        }
        let x = Tensor::from_vec(x, (n, c, h, w), &Device::Cpu).unwrap();
        let dwt = Dwt::new(Wavelet::haar(), Mode::Periodization);
        let (l, hi) = dwt.dwt2(&x).unwrap();
        let flat = |t: Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert_eq!((flat(l), flat(hi)), (low, high));
    }
}

/// Mean, deviation and kurtosis by their definitions.
fn direct(x: &[f32]) -> [f64; 3] {
    let n = x.len() as f64;
    let mean = x.iter().map(|&v| v as f64).sum::<f64>() / n;
    let central = |p: i32| x.iter().map(|&v| (v as f64 - mean).powi(p)).sum::<f64>() / n;
    [mean, central(2).sqrt(), central(4) / central(2).powi(2)]
}

proptest! {
    /// However the values are divided, far from zero too.
    #[test]
    fn moments_merge(x in prop::collection::vec(-3f32..5.0, 3..9000), cut in 0.0..1.0f64, offset in -1000f32..1000.0) {
        let x: Vec<f32> = x.iter().map(|v| v * v * v + offset).collect();
        let (a, b) = x.split_at((x.len() as f64 * cut) as usize);
        let (mut left, mut right, mut all) = (Moments::default(), Moments::default(), Moments::default());
        left.add(a);
        right.add(b);
        all.add(&x);
        left.merge(&right);
        prop_assert_eq!(left.count(), x.len() as u64);
        let want = direct(&x);
        prop_assume!(want[1] > 1e-2);
        for stats in [left.stats(), all.stats()] {
            for (got, want) in [stats.mean, stats.std, stats.kurtosis].into_iter().zip(want) {
                prop_assert!((got - want).abs() < 1e-9 * want.abs().max(1.0), "{got}, by definition {want}");
            }
        }
    }
}

#[test]
fn no_values_and_equal_values() {
    let mut m = Moments::default();
    assert_eq!(
        (m.stats().mean, m.stats().std, m.stats().kurtosis),
        (0.0, 0.0, 0.0)
    );
    m.add(&[2.5; 100]);
    assert_eq!(
        (m.stats().mean, m.stats().std, m.stats().kurtosis),
        (2.5, 0.0, 0.0)
    );
    m.add(&[f32::NAN]);
    assert!(m.stats().std.is_nan());
}

#[test]
fn standardised_bands_have_mean_0_and_deviation_1() {
    let bands: Vec<f32> = (0..400)
        .map(|i| (i as f32 * 0.9).sin() * (1 + i / 100) as f32 + 3.0)
        .collect();
    let (mut low, mut high) = (bands[..100].to_vec(), bands[100..].to_vec());
    let of = |low: &[f32], high: &[f32]| {
        let mut m = LevelMoments::default();
        m.add(low, high);
        m.stats()
    };
    let stats = of(&low, &high);
    stats.check().unwrap();
    stats.standardise_low(&mut low);
    stats.standardise_high(&mut high);
    let after = of(&low, &high);
    for band in [after.low].iter().chain(&after.high) {
        assert!(
            band.mean.abs() < 1e-6 && (band.std - 1.0).abs() < 1e-6,
            "{band:?}"
        );
    }
    stats.restore_low(&mut low);
    stats.restore_high(&mut high);
    let back = low.iter().chain(&high);
    assert!(bands.iter().zip(back).all(|(a, b)| (a - b).abs() < 1e-5));
    let mut bad = stats;
    bad.high[1].std = 0.0;
    assert!(bad.check().unwrap_err().to_string().contains("HL"));
}
