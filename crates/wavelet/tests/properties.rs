//! What holds for every wavelet, mode and size: reconstruction, energy, gradients, agreement of the paths.

use candle_core::{DType, Device, Result, Tensor, Var};
use proptest::prelude::*;
use wavelet::{Dwt, Mode, Wavelet};

fn any_wavelet() -> impl Strategy<Value = Wavelet> {
    proptest::sample::select(Wavelet::names()).prop_map(|name| Wavelet::new(&name).unwrap())
}

fn any_mode() -> impl Strategy<Value = Mode> {
    proptest::sample::select(&Mode::ALL[..])
}

/// Values that look random, from a seed.
fn values(shape: &[usize], seed: u64) -> Tensor {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let next = |_| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 11) as f64 / (1u64 << 52) as f64 - 1.0
    };
    let len = shape.iter().product::<usize>();
    let values: Vec<f64> = (0..len).map(next).collect();
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}

fn dot(a: &Tensor, b: &Tensor) -> Result<f64> {
    (a * b)?.sum_all()?.to_scalar()
}

fn distance(a: &Tensor, b: &Tensor) -> Result<f64> {
    if a.elem_count() == 0 {
        return Ok(0.0);
    }
    (a - b)?.abs()?.max_all()?.to_dtype(DType::F64)?.to_scalar()
}

/// How far filters are from reconstructing: a unit impulse taken apart and put together again. PyWavelets' own tables
/// are rounded, and dmey is an approximation of finite length.
fn exactness(w: &Wavelet) -> f64 {
    let n = w.filter_len();
    let mut worst = 0f64;
    // The two outputs' sum of products must be one delayed unit impulse, for either parity of the sample.
    for parity in 0..2 {
        for lag in -(n as isize)..=n as isize {
            let mut sum = 0.0;
            for i in -(n as isize)..=n as isize {
                let at = |f: &[f64], k: isize| {
                    f.get(k as usize).copied().filter(|_| k >= 0).unwrap_or(0.0)
                };
                // idwt(dwt(delta at 0))[lag], the sample's parity shifting the grid.
                let (a, s) = (2 * i + 1 - parity, lag + parity + n as isize - 2 - 2 * i);
                sum +=
                    at(w.dec_lo(), a) * at(w.rec_lo(), s) + at(w.dec_hi(), a) * at(w.rec_hi(), s);
            }
            let want = if lag == 0 { 1.0 } else { 0.0 };
            worst = worst.max((sum - want).abs());
        }
    }
    worst
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// As exact as the filters themselves, in the true size, along any axis.
    #[test]
    fn idwt_undoes_dwt(w in any_wavelet(), mode in any_mode(), n in 2usize..140, axis in 0usize..3, seed: u64) {
        let mut shape = [2, 3, 2];
        shape[axis] = n;
        let x = values(&shape, seed);
        let dwt = Dwt::new(w, mode);
        let (low, high) = dwt.dwt(&x, axis).unwrap();
        let back = dwt.idwt(&low, &high, axis, Some(n)).unwrap();
        let bound = 1e-11 + 100.0 * exactness(dwt.wavelet());
        let off = distance(&x, &back).unwrap();
        prop_assert!(off < bound, "{} {mode} {n}: {off:e}, the filters {bound:e}", dwt.wavelet());
    }

    #[test]
    fn idwt2_undoes_dwt2(w in any_wavelet(), mode in any_mode(), h in 2usize..50, wide in 2usize..90, seed: u64) {
        let x = values(&[2, 2, h, wide], seed);
        let dwt = Dwt::new(w, mode);
        let (low, high) = dwt.dwt2(&x).unwrap();
        let back = dwt.idwt2(&low, &high, Some([h, wide])).unwrap();
        let bound = 1e-10 + 1000.0 * exactness(dwt.wavelet());
        let off = distance(&x, &back).unwrap();
        prop_assert!(off < bound, "{} {mode} {h} x {wide}: {off:e}, bound {bound:e}", dwt.wavelet());
    }

    /// An orthonormal wavelet in periodization keeps the energy of even sizes.
    #[test]
    fn energy_is_kept(w in any_wavelet(), h in 1usize..20, wide in 1usize..30, seed: u64) {
        prop_assume!(w.is_orthogonal() && w.family() != "dmey");
        let x = values(&[3, 2 * h, 2 * wide], seed);
        let (low, high) = Dwt::new(w.clone(), Mode::Periodization).dwt2(&x).unwrap();
        let (before, after) = (dot(&x, &x).unwrap(), dot(&low, &low).unwrap() + dot(&high, &high).unwrap());
        prop_assert!((before - after).abs() < 1e-9 * before, "{w}: {before} became {after}");
    }

    /// <W x, y> = <x, W^T y>, the right side by backward; the same of the synthesis.
    #[test]
    fn gradients_are_the_transposed_operators(
        w in any_wavelet(), mode in any_mode(), h in 2usize..26, wide in 2usize..70, haar: bool, seed: u64,
    ) {
        let w = if haar { Wavelet::haar() } else { w };
        let x = Var::from_tensor(&values(&[2, 2, h, wide], seed)).unwrap();
        let dwt = Dwt::new(w, mode);
        let (low, high) = dwt.dwt2(&x).unwrap();
        let (yl, yh) = (values(low.dims(), !seed), values(high.dims(), seed ^ 5));
        let loss = ((low * &yl).unwrap().sum_all().unwrap() + (high * &yh).unwrap().sum_all().unwrap()).unwrap();
        let grads = loss.backward().unwrap();
        let transposed = dot(grads.get(&x).unwrap(), &values(&[2, 2, h, wide], seed)).unwrap();
        let direct = loss.to_scalar::<f64>().unwrap();
        let scale = 1.0 + dot(&yl, &yl).unwrap() + dot(&yh, &yh).unwrap();
        prop_assert!((direct - transposed).abs() < 1e-9 * scale, "analysis: {direct} and {transposed}");
        // A gradient at points of its own: that of the reference path, made of candle's operators.
        let reference = dwt.clone().reference();
        let (low, high) = reference.dwt2(&x).unwrap();
        let loss = ((low * &yl).unwrap().sum_all().unwrap() + (high * &yh).unwrap().sum_all().unwrap()).unwrap();
        let expected = loss.backward().unwrap();
        prop_assert!(distance(grads.get(&x).unwrap(), expected.get(&x).unwrap()).unwrap() < 1e-9 * scale);

        let (low, high) = (Var::from_tensor(&yl).unwrap(), Var::from_tensor(&yh).unwrap());
        let z = values(&[2, 2, h, wide], seed ^ 77);
        let run = |dwt: &Dwt| {
            let back = dwt.idwt2(&low, &high, Some([h, wide])).unwrap();
            let loss = (back * &z).unwrap().sum_all().unwrap();
            (loss.to_scalar::<f64>().unwrap(), loss.backward().unwrap())
        };
        let ((direct, grads), (_, expected)) = (run(&dwt), run(&reference));
        let (gl, gh) = (grads.get(&low).unwrap(), grads.get(&high).unwrap());
        let transposed = dot(gl, &yl).unwrap() + dot(gh, &yh).unwrap();
        prop_assert!((direct - transposed).abs() < 1e-9 * scale, "synthesis: {direct} and {transposed}");
        prop_assert!(distance(gl, expected.get(&low).unwrap()).unwrap() < 1e-9 * scale);
        prop_assert!(distance(gh, expected.get(&high).unwrap()).unwrap() < 1e-9 * scale);
    }

    /// The same along one axis, each of three.
    #[test]
    fn gradients_along_an_axis(w in any_wavelet(), mode in any_mode(), n in 2usize..60, axis in 0usize..3, seed: u64) {
        let mut shape = [3, 2, 4];
        shape[axis] = n;
        let x = Var::from_tensor(&values(&shape, seed)).unwrap();
        let dwt = Dwt::new(w, mode);
        let grad = |dwt: &Dwt| {
            let (low, high) = dwt.dwt(&x, axis).unwrap();
            let (yl, yh) = (values(low.dims(), !seed), values(high.dims(), seed ^ 5));
            let loss = ((low * yl).unwrap().sum_all().unwrap() + (high * yh).unwrap().sum_all().unwrap()).unwrap();
            loss.backward().unwrap().get(&x).unwrap().clone()
        };
        let (fast, reference) = (grad(&dwt), grad(&dwt.clone().reference()));
        let scale = 1.0 + fast.abs().unwrap().max_all().unwrap().to_scalar::<f64>().unwrap();
        prop_assert!(distance(&fast, &reference).unwrap() < 1e-10 * scale);
    }

    /// f32 kernels against f64, and a picture's bits in and out of a batch.
    #[test]
    fn f32_is_f64_rounded_and_batches_change_nothing(
        w in any_wavelet(), mode in any_mode(), h in 2usize..40, wide in 2usize..80, haar: bool, seed: u64,
    ) {
        let dwt = Dwt::new(if haar { Wavelet::haar() } else { w }, mode);
        let x = values(&[3, 2, h, wide], seed);
        let (low, high) = dwt.dwt2(&x).unwrap();
        let x32 = x.to_dtype(DType::F32).unwrap();
        let (low32, high32) = dwt.dwt2(&x32).unwrap();
        let scale = 1.0 + low.abs().unwrap().max_all().unwrap().to_scalar::<f64>().unwrap()
            + high.abs().unwrap().max_all().unwrap().to_scalar::<f64>().unwrap();
        // Smooth and antireflect extrapolate: sums of large terms that cancel, as in PyWavelets' own f32.
        let loose = if matches!(mode, Mode::Smooth | Mode::Antireflect) { 100.0 } else { 1.0 };
        let bound = 2e-5 * scale * loose;
        prop_assert!(distance(&low32.to_dtype(DType::F64).unwrap(), &low).unwrap() < bound);
        prop_assert!(distance(&high32.to_dtype(DType::F64).unwrap(), &high).unwrap() < bound);
        let (alone, alone_high) = dwt.dwt2(&x32.narrow(0, 1, 1).unwrap()).unwrap();
        prop_assert_eq!(distance(&alone, &low32.narrow(0, 1, 1).unwrap()).unwrap(), 0.0);
        prop_assert_eq!(distance(&alone_high, &high32.narrow(0, 1, 1).unwrap()).unwrap(), 0.0);
    }
}

#[test]
fn filters_reconstruct() {
    for name in Wavelet::names() {
        let off = exactness(&Wavelet::new(name).unwrap());
        // PyWavelets 1.9 itself: dmey 2e-3, then sym20 1.4e-11.
        let bound = if name == "dmey" { 3e-3 } else { 2e-11 };
        assert!(off < bound, "{name}: {off:e}");
    }
}

/// Planes large enough to be cut for several threads.
#[test]
fn large_planes_are_the_reference() -> Result<()> {
    let x = values(&[1, 1, 601, 703], 3);
    for (name, mode) in [
        ("db4", Mode::Symmetric),
        ("bior2.2", Mode::Smooth),
        ("haar", Mode::Zero),
    ] {
        let dwt = Dwt::new(Wavelet::new(name).unwrap(), mode);
        let reference = dwt.clone().reference();
        let (low, high) = dwt.dwt2(&x).unwrap();
        let (low_r, high_r) = reference.dwt2(&x).unwrap();
        assert!(distance(&low, &low_r)? < 1e-11 && distance(&high, &high_r)? < 1e-11);
        let back = dwt.idwt2(&low, &high, Some([601, 703])).unwrap();
        assert!(distance(&back, &x)? < 1e-10, "{name}");
    }
    Ok(())
}

/// Half types are computed in f32 and come back as they were.
#[test]
fn half_types_are_computed_in_f32() -> Result<()> {
    for dtype in [DType::F16, DType::BF16] {
        let x = values(&[1, 3, 9, 12], 1).to_dtype(dtype)?;
        let dwt = Dwt::new(Wavelet::new("db2").unwrap(), Mode::Reflect);
        let (low, high) = dwt.dwt2(&x).unwrap();
        let (low32, high32) = dwt.dwt2(&x.to_dtype(DType::F32)?).unwrap();
        assert_eq!((low.dtype(), high.dtype()), (dtype, dtype));
        assert_eq!(distance(&low, &low32.to_dtype(dtype)?)?, 0.0);
        assert_eq!(distance(&high, &high32.to_dtype(dtype)?)?, 0.0);
        let back = dwt.idwt2(&low, &high, Some([9, 12])).unwrap();
        assert_eq!(back.dtype(), dtype);
    }
    Ok(())
}

/// Strided views, empty batches and pictures without channels.
#[test]
fn any_layout_and_rank() -> Result<()> {
    let dwt = Dwt::new(Wavelet::new("db3").unwrap(), Mode::Constant);
    let x = values(&[2, 3, 11, 8], 2);
    let (low, _) = dwt.dwt2(&x.transpose(2, 3)?).unwrap();
    let (same, _) = dwt.dwt2(&x.transpose(2, 3)?.contiguous()?).unwrap();
    assert_eq!(distance(&low, &same)?, 0.0);
    let (low, high) = dwt.dwt2(&x.narrow(0, 0, 0)?).unwrap();
    assert_eq!((low.dims()[0], high.dims()[0]), (0, 0));
    let plain = x.get(0)?.get(0)?;
    let (low, high) = dwt.dwt2(&plain).unwrap();
    assert_eq!((low.dims(), high.dims()), (&[8, 6][..], &[3, 8, 6][..]));
    assert!(distance(&dwt.idwt2(&low, &high, Some([11, 8])).unwrap(), &plain)? < 1e-12);
    Ok(())
}
