//! The wavelet-domain process: diffusing Wx is W of diffusing x, score(Wx) is W score(x), and so are whole samples.

mod common;

use candle_core::{DType, Device, Result, Tensor};
use common::{close_to, quiet};
use score_sde::sampler::{Corrector, PredictorCorrector, predictor_corrector};
use score_sde::sde::{Bands, Score, Sde, SubVp, Ve, Vp};
use wavelet::{Dwt, Mode, Pyramid, Wavelet};

const SIDE: usize = 8;
const SIZE: usize = SIDE * SIDE;

fn dwt() -> Dwt {
    Dwt::new(Wavelet::new("db2").unwrap(), Mode::Periodization)
}

/// All bands of two levels: the low one, then the high ones, finest first.
fn transform(x: &Tensor) -> Vec<Tensor> {
    let pyramid = dwt().wavedec2(x, Some(2)).unwrap();
    [vec![pyramid.low], pyramid.high].concat()
}

fn bands() -> Bands {
    Bands::new(vec![vec![1, 2, 2], vec![3, 1, 4, 4], vec![3, 1, 2, 2]]).unwrap()
}

/// Reproducible values (n, 1, SIDE, SIDE).
fn values(n: usize, seed: u64) -> Tensor {
    let indices: Vec<u64> = (0..n as u64).collect();
    let item = [1, SIDE, SIDE];
    let z = nn_ops::noise::normal_tensor(seed, &indices, 0, 0, &item, &Device::Cpu).unwrap();
    z.to_dtype(DType::F64).unwrap()
}

#[test]
fn diffusing_the_bands_is_transforming_the_diffused() {
    let (x, z, t) = (values(3, 1), values(3, 2), [0.05, 0.4, 1.0]);
    let kinds: [&dyn Sde; 3] = [&Vp::default(), &SubVp::default(), &Ve::default()];
    for sde in kinds {
        let got = bands()
            .diffuse(sde, &transform(&x), &t, &transform(&z))
            .unwrap();
        let each = |f: &dyn Fn(f64) -> f64| {
            let v = t.map(f);
            Tensor::new(&v, &Device::Cpu).unwrap().reshape((3, 1, 1, 1))
        };
        let signal = each(&|t| sde.marginal(t).signal).unwrap();
        let std = each(&|t| sde.marginal(t).std).unwrap();
        let kept = x.broadcast_mul(&signal).unwrap();
        let diffused = (kept + z.broadcast_mul(&std).unwrap()).unwrap();
        for (got, want) in got.iter().zip(transform(&diffused)) {
            close_to(sde.name(), got, &want, 1e-12);
        }
    }
}

/// The inverse of a positive definite matrix, by Gauss and Jordan.
fn inverse(mut a: Vec<Vec<f64>>) -> Vec<Vec<f64>> {
    let n = a.len();
    for (i, row) in a.iter_mut().enumerate() {
        row.extend((0..n).map(|j| f64::from(u8::from(i == j))));
    }
    for i in 0..n {
        let pivot = a[i][i];
        a[i].iter_mut().for_each(|v| *v /= pivot);
        let row = a[i].clone();
        for (_, other) in a.iter_mut().enumerate().filter(|(j, _)| *j != i) {
            let factor = other[i];
            other
                .iter_mut()
                .zip(&row)
                .for_each(|(v, r)| *v -= factor * r);
        }
    }
    a.into_iter().map(|row| row[n..].to_vec()).collect()
}

/// The score of N(mean, covariance) diffused by `sde`, on states (N, D); all times are the same.
fn normal_score(
    sde: Vp,
    mean: Tensor,
    covariance: Tensor,
) -> impl Fn(&Tensor, &[f64]) -> Result<Tensor> {
    move |x, t| {
        let m = sde.marginal(t[0]);
        let mut spread: Vec<Vec<f64>> = (&covariance * (m.signal * m.signal))?.to_vec2()?;
        for (i, row) in spread.iter_mut().enumerate() {
            row[i] += m.std * m.std;
        }
        let precision = Tensor::new(inverse(spread), x.device())?;
        x.broadcast_sub(&(&mean * m.signal)?)?
            .matmul(&precision)?
            .neg()
    }
}

#[test]
fn scores_and_samples_transform_too() {
    let sde = Vp {
        num_scales: 25,
        ..Default::default()
    };
    // Smooth data with a mean: neither is diagonal in pixels, nor quite in bands.
    let place = |i: usize| [(i / SIDE) as f64, (i % SIDE) as f64];
    let covariance = |i: usize, j: usize| {
        let (a, b) = (place(i), place(j));
        let distance = ((a[0] - b[0]).powi(2) + (a[1] - b[1]).powi(2)).sqrt();
        (-distance / 3.0).exp() + 0.05 * f64::from(u8::from(i == j))
    };
    let row = |i: usize| (0..SIZE).map(|j| covariance(i, j)).collect::<Vec<f64>>();
    let covariance = Tensor::new((0..SIZE).map(row).collect::<Vec<_>>(), &Device::Cpu).unwrap();
    let mean = values(1, 3).reshape((1, SIZE)).unwrap();

    // W as a matrix whose rows are transformed unit pictures: x W.
    let join = |x: &Tensor| bands().join(&transform(x)).unwrap();
    let unit = Tensor::eye(SIZE, DType::F64, &Device::Cpu).unwrap();
    let w = join(&unit.reshape((SIZE, 1, SIDE, SIDE)).unwrap());
    let turned = w
        .t()
        .unwrap()
        .matmul(&covariance)
        .unwrap()
        .matmul(&w)
        .unwrap();
    let pixels = normal_score(sde, mean.clone(), covariance);
    let joined = normal_score(sde, mean.matmul(&w).unwrap(), turned);
    let pixel_score = |x: &Tensor, t: &[f64]| pixels(&x.flatten_from(1)?, t)?.reshape(x.shape());
    // Given band by band, as a network of bands would give it.
    let layout = bands();
    let of_bands = |b: &[Tensor], t: &[f64]| Ok(layout.split(&joined(&layout.join(b)?, t)?)?);
    let band_score = layout.score(&of_bands);

    let x = values(3, 4);
    for t in [1e-3, 0.2, 0.9] {
        let t = [t; 3];
        let want = join(&pixel_score(&x, &t).unwrap());
        close_to(
            "score",
            &band_score.score(&join(&x), &t).unwrap(),
            &want,
            1e-8,
        );
    }

    let zs: Vec<Tensor> = (0..50).map(|i| values(3, 10 + i)).collect();
    let options = PredictorCorrector {
        corrector: Corrector::Langevin,
        ..Default::default()
    };
    let mut plain = |i: usize, _: &Tensor| Ok(zs[i].clone());
    let a = predictor_corrector(
        &sde,
        &pixel_score,
        x.clone(),
        &options,
        &mut plain,
        &mut quiet,
    );
    let mut turned = |i: usize, _: &Tensor| Ok(join(&zs[i]));
    let b = predictor_corrector(
        &sde,
        &band_score,
        join(&x),
        &options,
        &mut turned,
        &mut quiet,
    );
    let b = b.unwrap();
    close_to("sample", &b, &join(&a.as_ref().unwrap().clone()), 1e-8);
    let mut parts = layout.split(&b).unwrap();
    let low = parts.remove(0);
    let back = dwt().waverec2(&Pyramid {
        low,
        high: parts,
        sizes: vec![[SIDE, SIDE], [SIDE / 2, SIDE / 2]],
    });
    close_to("picture", &back.unwrap(), &a.unwrap(), 1e-8);
}

#[test]
fn standardised_bands_are_diffused_with_noise_of_their_own_scale() {
    let moments = vec![(2.0, 4.0), (0.0, 0.5), (-0.1, 0.25)];
    let layout = bands().standardised(moments.clone()).unwrap();
    let (x, z) = (transform(&values(2, 1)), transform(&values(2, 2)));
    let sde = Vp::default();
    let m = sde.marginal(0.3);
    let got = layout.diffuse(&sde, &x, &[0.3, 0.3], &z).unwrap();
    for (k, (mean, std)) in moments.iter().enumerate() {
        let kept = x[k].affine(m.signal, mean * (1.0 - m.signal)).unwrap();
        let want = (kept + (&z[k] * (std * m.std)).unwrap()).unwrap();
        close_to("band", &got[k], &want, 1e-12);
    }
    // The score in a band's own units is -z / (std of its noise).
    let give = |_: &[Tensor], _: &[f64]| {
        let one = |(z, (_, std)): (&Tensor, &(f64, f64))| z * (-1.0 / (std * m.std));
        z.iter().zip(&moments).map(one).collect::<Result<Vec<_>>>()
    };
    let state = layout.join(&got).unwrap();
    let score = layout.score(&give).score(&state, &[0.3, 0.3]).unwrap();
    let want = (bands().join(&z).unwrap() * (-1.0 / m.std)).unwrap();
    close_to("score", &score, &want, 1e-12);

    for empty in [
        vec![],
        vec![vec![]],
        vec![vec![3], vec![2, 0]],
        vec![vec![usize::MAX, 2]],
    ] {
        let e = Bands::new(empty).unwrap_err().to_string();
        assert!(e.contains("none of them empty"), "{e}");
    }
    let e = layout.join(&x[1..]).unwrap_err().to_string();
    assert!(e.contains("Bands::join"), "{e}");
    let e = bands()
        .standardised(vec![(0.0, 0.0); 3])
        .unwrap_err()
        .to_string();
    assert!(e.contains("(0, 0)"), "{e}");
    assert!(bands().split(&state.narrow(1, 0, 5).unwrap()).is_err());
}
