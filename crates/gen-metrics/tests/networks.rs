//! The feature networks beside the Python packages that have them, on weights made by a formula (`scripts/reference.py`).

mod common;

use candle_core::{Device, Tensor};
use common::{case, formula, numbers, picture, worst};
use gen_metrics::net::Lpips;
use gen_metrics::weights::Origin;
use gen_metrics::{Extractor, Network, Picture, Resize};

fn extract(network: Network, resize: Resize, of: &[usize]) -> Vec<f32> {
    let pictures: Vec<Vec<u8>> = of.iter().map(|&n| picture(n, 48, 48)).collect();
    let pictures: Vec<Picture> = pictures
        .iter()
        .map(|p| Picture::new(48, 48, p).unwrap())
        .collect();
    let net = Extractor::new(network, resize, formula(), Origin::Unknown, &Device::Cpu).unwrap();
    net.extract(&pictures).unwrap().values().to_vec()
}

/// To 1e-4 of the largest feature.
fn check(network: Network, resize: Resize, name: &str) {
    let want = numbers(&case("networks.json")[name]);
    let found = extract(network, resize, &[0, 1]);
    let scale = want.iter().fold(0f64, |m, v| m.max(v.abs()));
    let off = worst(found.iter().map(|&v| v.into()), &want);
    assert!(scale > 0.01, "{name}: {scale}");
    assert!(off < 1e-4 * scale, "{name}: off by {off:e} of {scale}");
}

#[test]
fn inception_is_pytorch_fids() {
    check(
        Network::InceptionV3,
        Resize::Bilinear,
        "inception_pytorch_fid",
    );
}

#[test]
fn inception_with_clean_fids_resize() {
    check(Network::InceptionV3, Resize::Bicubic, "inception_clean_fid");
}

#[test]
fn efficientnet_is_that_of_its_package() {
    check(
        Network::EfficientNetLite0,
        Resize::Bicubic,
        "efficientnet_lite0",
    );
}

#[test]
fn a_picture_has_the_same_features_in_any_company_and_on_any_number_of_threads() {
    let network = Network::EfficientNetLite0;
    let all = extract(network, Resize::Bicubic, &[0, 1, 2]);
    let alone = extract(network, Resize::Bicubic, &[1]);
    assert_eq!(all[1280..2560], alone[..]);
    for threads in [1, 3] {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap();
        let again = pool.install(|| extract(network, Resize::Bicubic, &[0, 1, 2]));
        assert_eq!(all, again, "{threads} threads");
    }
}

#[test]
fn lpips_is_that_of_its_package() {
    let net = Lpips::new(formula()).unwrap();
    let tensor = |n| {
        let planes: Vec<f32> = (0..3)
            .flat_map(|c| {
                let bytes = picture(n, 48, 48).into_iter().skip(c).step_by(3);
                bytes
                    .map(|u| f32::from(u) / 127.5 - 1.0)
                    .collect::<Vec<_>>()
            })
            .collect();
        Tensor::from_vec(planes, (1, 3, 48, 48), &Device::Cpu).unwrap()
    };
    let (a, b) = (tensor(0), tensor(1));
    let want = case("networks.json")["lpips"].as_f64().unwrap();
    let found = net.distance(&a, &b).unwrap().to_vec1::<f32>().unwrap();
    let off = (f64::from(found[0]) - want).abs();
    assert!(
        want > 0.0 && off < 1e-4 * want,
        "{} is not {want}",
        found[0]
    );
    assert_eq!(
        net.distance(&a, &a).unwrap().to_vec1::<f32>().unwrap(),
        [0.0]
    );
}

#[test]
fn names_tell_what_a_number_is() {
    let origin = |hash: &str| Origin::File(hash.into());
    let name = |network, resize, origin: Origin| {
        let net = gen_metrics::Space {
            network,
            resize,
            origin,
        };
        net.frechet_name()
    };
    let real = "6726825d00000000000000000000000000000000000000000000000000000000";
    assert_eq!(
        name(Network::InceptionV3, Resize::Bilinear, origin(real)),
        "FID (pytorch-fid's resize)"
    );
    assert_eq!(
        name(Network::InceptionV3, Resize::Bicubic, origin(real)),
        "FID (clean-fid's resize)"
    );
    for (network, origin) in [
        (Network::InceptionV3, origin("00")),
        (Network::InceptionV3, Origin::Converted(real.into())),
        (Network::InceptionV3, Origin::Unknown),
        (Network::EfficientNetLite0, origin(real)),
    ] {
        let [a, b] =
            [Resize::Bilinear, Resize::Bicubic].map(|resize| name(network, resize, origin.clone()));
        assert!(a.starts_with("Frechet distance (") && b.starts_with("Frechet distance ("));
        assert_ne!(a, b);
    }
}

#[test]
fn files_that_hold_no_weights_are_named() {
    use gen_metrics::weights::{Package, convert};
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases");
    for package in [Package::Lpips, Package::EfficientNetLite0] {
        for name in ["metrics.json", "stats_compressed.npz", "missing.whl"] {
            let error = convert(package, &folder.join(name)).unwrap_err();
            assert!(error.to_string().contains(name), "{error}");
        }
    }
}
