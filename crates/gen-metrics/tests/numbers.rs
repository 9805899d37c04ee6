//! The metrics beside scipy, prdc, torchmetrics, numpy, PyWavelets, PyTorch and Pillow (`scripts/reference.py`).

mod common;

use common::{case, features, numbers, picture, worst};
use gen_metrics::{
    BandStatistics, Error, Features, Gaussian, KernelOptions, Picture, Resize, Statistics,
    frechet_distance, kernel_distance, manifold, mmd2,
};

fn sets() -> (Features, Features) {
    (
        features(1, 300, 16, 2.0, 0.0),
        features(100_000, 260, 16, 2.4, 0.3),
    )
}

fn close(a: f64, b: f64, relative: f64) {
    assert!((a - b).abs() <= relative * b.abs(), "{a} is not {b}");
}

#[test]
fn frechet_distances_are_scipys() {
    let (a, b) = sets();
    let want = case("metrics.json");
    let distance = |a: &Features, b: &Features| {
        frechet_distance(&Gaussian::of(a).unwrap(), &Gaussian::of(b).unwrap()).unwrap()
    };
    close(distance(&a, &b), want["frechet"].as_f64().unwrap(), 1e-9);
    close(distance(&b, &a), want["frechet"].as_f64().unwrap(), 1e-9);
    // Fewer vectors than dimensions.
    let few = distance(&a.head(10), &b.head(7));
    close(few, want["frechet_few"].as_f64().unwrap(), 1e-6);
    assert!(distance(&a, &a).abs() < 1e-9);
}

#[test]
fn kernel_distances_are_torchmetrics() {
    let (a, b) = sets();
    let all = mmd2(&a.head(260), &b).unwrap();
    close(all, case("metrics.json")["mmd2"].as_f64().unwrap(), 1e-9);
    // A subset of everything is everything, in another order.
    let options = KernelOptions {
        subsets: 2,
        size: 260,
        seed: 3,
    };
    let found = kernel_distance(&a.head(260), &b, options).unwrap();
    close(found.mean, all, 1e-9);
    assert!(found.std < 1e-9 * all);
    // Small subsets vary around it.
    let options = KernelOptions {
        subsets: 400,
        size: 60,
        seed: 3,
    };
    let found = kernel_distance(&a.head(260), &b, options).unwrap();
    assert!(found.std > 0.0 && (found.mean - all).abs() < 5.0 * found.std / 20.0);
    let again = kernel_distance(&a.head(260), &b, options).unwrap();
    assert_eq!(found, again);
}

#[test]
fn manifolds_are_prdcs() {
    let (a, b) = sets();
    for k in [3, 5] {
        let found = manifold(&a, &b, k).unwrap();
        let found = [found.precision, found.recall, found.density, found.coverage];
        let want = numbers(&case("metrics.json")[format!("manifold_{k}")]);
        assert!(worst(found, &want) < 1e-12, "{found:?} {want:?}");
    }
    let same = manifold(&a, &a, 3).unwrap();
    assert_eq!(
        (same.precision, same.recall, same.coverage),
        (1.0, 1.0, 1.0)
    );
}

#[test]
fn resizes_are_torchs_and_pillows() {
    let rgb = picture(0, 31, 23);
    let planes: Vec<f32> = (0..3)
        .flat_map(|c| rgb.iter().skip(c).step_by(3).map(|&u| f32::from(u)))
        .collect();
    for want in case("resizes.json").as_array().unwrap() {
        let size = numbers(&want["size"]);
        let to = [size[0] as usize, size[1] as usize];
        for (resize, name, bound) in [
            (Resize::Bilinear, "bilinear", 1e-3),
            (Resize::Bicubic, "bicubic", 2e-4),
        ] {
            let found = resize.apply(&planes, [23, 31], to);
            let off = worst(found.iter().map(|&v| v.into()), &numbers(&want[name]));
            assert!(off < bound, "{name} to {to:?}: off by {off} of 255");
        }
    }
}

#[test]
fn band_distances_are_those_of_pywavelets_and_numpy() {
    let statistics = |numbers: std::ops::Range<usize>, threads: usize| {
        let pictures: Vec<Vec<u8>> = numbers.map(|n| picture(n, 32, 32)).collect();
        let pictures: Vec<Picture> = pictures
            .iter()
            .map(|p| Picture::new(32, 32, p).unwrap())
            .collect();
        let mut all = BandStatistics::new([32, 32], 2).unwrap();
        for some in pictures.chunks(threads) {
            all.add(some).unwrap();
        }
        all
    };
    let (samples, reference) = (statistics(0..6, 1), statistics(20..25, 5));
    assert_eq!(samples, statistics(0..6, 4));
    let found = samples.distances(&reference).unwrap();
    let want = case("bands.json");
    assert_eq!(found.len(), want.as_array().unwrap().len());
    for (found, want) in found.iter().zip(want.as_array().unwrap()) {
        assert_eq!(found.level as u64, want["level"].as_u64().unwrap());
        assert_eq!(found.band, want["band"].as_str().unwrap());
        let name = format!("{} {}", found.level, found.band);
        // A coefficient on the edge of a bin may fall to either side of it in f32.
        let off = (found.kl - want["kl"].as_f64().unwrap()).abs();
        assert!(off < 5e-3, "{name}: kl {} {}", found.kl, want["kl"]);
        let off = (found.spectrum_db - want["spectrum_db"].as_f64().unwrap()).abs();
        assert!(
            off < 1e-3,
            "{name}: {} {}",
            found.spectrum_db,
            want["spectrum_db"]
        );
        let std = [found.std, found.reference_std];
        assert!(worst(std, &numbers(&want["std"])) < 1e-5, "{name}");
    }
    let same = samples.distances(&samples).unwrap();
    assert!(same.iter().all(|b| b.kl == 0.0 && b.spectrum_db == 0.0));
}

#[test]
fn statistics_of_pytorch_fid_are_read_and_come_back() {
    let want = Statistics::of(features(1, 40, 6, 2.0, 0.0), "a space".into()).unwrap();
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases");
    for (name, bound) in [("stats_compressed.npz", 1e-12), ("stats_f32.npz", 1e-6)] {
        let found = Statistics::open(&folder.join(name)).unwrap();
        assert_eq!((&found.features, &found.space), (&None, &None));
        let off = worst(found.gaussian.mean().to_vec(), want.gaussian.mean());
        assert!(off < bound, "{name} {off}");
        let off = worst(
            found.gaussian.covariance().to_vec(),
            want.gaussian.covariance(),
        );
        assert!(off < bound, "{name} {off}");
    }
    let name = std::path::Path::new("written");
    let npz = Statistics::from_bytes(name, want.to_npz()).unwrap();
    assert_eq!(npz.gaussian, want.gaussian);
    let own = Statistics::from_bytes(name, want.to_safetensors().unwrap()).unwrap();
    assert_eq!(own, want);
}

#[test]
fn damaged_statistics_are_told() {
    let whole = Statistics::of(features(1, 9, 4, 2.0, 0.0), "s".into()).unwrap();
    let name = std::path::Path::new("file");
    for bytes in [whole.to_npz(), whole.to_safetensors().unwrap()] {
        for cut in (0..bytes.len()).step_by(7) {
            let error = Statistics::from_bytes(name, bytes[..cut].to_vec()).unwrap_err();
            assert!(error.to_string().starts_with("file: "), "{cut}: {error}");
        }
    }
    // Every damaged byte of the archive is an error or, in what nobody reads, nothing.
    let npz = whole.to_npz();
    for at in 0..npz.len() {
        let mut bytes = npz.clone();
        bytes[at] ^= 0x15;
        if let Ok(found) = Statistics::from_bytes(name, bytes) {
            assert_eq!(found.gaussian, whole.gaussian, "byte {at}");
        }
    }
}

#[test]
fn what_cannot_be_measured_is_said() {
    let (a, b) = sets();
    let narrow = features(1, 30, 5, 1.0, 0.0);
    let dims = |e: Error| matches!(e, Error::Dims { .. });
    assert!(dims(mmd2(&a, &narrow).unwrap_err()));
    assert!(dims(manifold(&a, &narrow, 3).unwrap_err()));
    let (g, h) = (Gaussian::of(&a).unwrap(), Gaussian::of(&narrow).unwrap());
    let error = frechet_distance(&g, &h).unwrap_err();
    assert!(
        error.to_string().contains("16") && error.to_string().contains('5'),
        "{error}"
    );
    let few = |e: Error| matches!(e, Error::TooFew { .. });
    assert!(few(Gaussian::of(&a.head(1)).unwrap_err()));
    assert!(few(mmd2(&a, &b.head(1)).unwrap_err()));
    assert!(few(manifold(&a.head(3), &b, 3).unwrap_err()));
    assert!(few(
        kernel_distance(&a, &b, KernelOptions::default()).unwrap_err()
    ));
    let options = KernelOptions {
        subsets: 0,
        ..KernelOptions::default()
    };
    assert!(matches!(
        kernel_distance(&a, &b, options),
        Err(Error::Argument(_))
    ));
    assert!(matches!(manifold(&a, &b, 0), Err(Error::Argument(_))));
    let error = Features::new(vec![0.0, 1.0, 2.0, f32::NAN], 2).unwrap_err();
    assert!(error.to_string().contains("row 1, column 1"), "{error}");
    assert!(Features::new(vec![0.0; 5], 2).is_err() && Features::new(vec![], 0).is_err());
    let error = Gaussian::new(vec![0.0; 2], vec![1.0, 0.5, 0.0, 1.0]).unwrap_err();
    assert!(error.to_string().contains("not symmetric"), "{error}");
    assert!(Gaussian::new(vec![0.0; 2], vec![f64::INFINITY; 4]).is_err());
    assert!(Gaussian::new(vec![0.0; 2], vec![0.0; 3]).is_err());
    assert!(Picture::new(4, 4, &[0; 47]).is_err() && Picture::new(0, 4, &[]).is_err());
    assert!(BandStatistics::new([30, 32], 2).is_err() && BandStatistics::new([32, 32], 0).is_err());
    assert_eq!(BandStatistics::levels_for([128, 128]), Some(3));
    assert_eq!(BandStatistics::levels_for([6, 9]), None);
    let mut bands = BandStatistics::new([8, 8], 1).unwrap();
    assert!(few(bands.distances(&bands).unwrap_err()));
    let other = picture(0, 16, 8);
    assert!(bands.add(&[Picture::new(16, 8, &other).unwrap()]).is_err());
    // Pictures of one colour differ in nothing.
    bands
        .add(&[Picture::new(8, 8, &[77; 192]).unwrap()])
        .unwrap();
    let same = bands.distances(&bands).unwrap();
    assert!(same.iter().all(|b| b.kl == 0.0 && b.spectrum_db == 0.0));
}
