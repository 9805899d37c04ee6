//! The official networks, losses and sampling against numbers of the official program: outputs within 1e-4, gradients
//! within 1e-3 of the largest.

mod common;

use candle_core::backprop::GradStore;
use candle_core::{ModuleT, Tensor, Var};
use common::{Case, cases, close};
use msal_gan::official::{LossConfig, LowInput, discriminator_loss, generator_loss, haar, sample};
use msal_gan::{ssim, ssim_per_picture};
use nn_ops::Params;

const OUTPUT: f64 = 1e-4;
const GRADIENT: f64 = 1e-3;

/// Every gradient the case has, by name; parameters without one must be running statistics.
fn check_gradients(case: &Case, prefix: &str, params: &Params, grads: &GradStore) {
    let names = case.names(prefix);
    assert!(names.len() > 10, "{}: {} gradients", case.name, names.len());
    for (name, var) in params.named() {
        match grads.get(&var) {
            Some(g) => case.close(&format!("{prefix}{name}"), g, GRADIENT),
            None => assert!(
                name.contains("running_") && !names.contains(&name),
                "{}: {name}",
                case.name
            ),
        }
    }
}

#[test]
fn generators() {
    for case in cases("wmgm-generator") {
        let (net, params) = case.generator();
        let x = Var::from_tensor(&case.get("x")).unwrap();
        case.close("y_eval", &net.forward_t(&x, false).unwrap(), OUTPUT);
        let y = net.forward_t(&x, true).unwrap();
        case.close("y_train", &y, OUTPUT);
        for name in case.names("after_train.") {
            case.close(
                &format!("after_train.{name}"),
                &params.tensors()[&name],
                OUTPUT,
            );
        }
        let grads = (y * case.get("w"))
            .unwrap()
            .sum_all()
            .unwrap()
            .backward()
            .unwrap();
        case.close("grad_x", grads.get(&x).unwrap(), GRADIENT);
        check_gradients(&case, "grad.", &params, &grads);
    }
}

#[test]
fn discriminators() {
    for case in cases("wmgm-discriminator") {
        let (net, params) = case.discriminator();
        let x = Var::from_tensor(&case.get("x")).unwrap();
        case.close("y_eval", &net.forward_t(&x, false).unwrap(), OUTPUT);
        let y = net.forward_t(&x, true).unwrap();
        case.close("y_train", &y, OUTPUT);
        let grads = candle_nn::ops::sigmoid(&y)
            .unwrap()
            .mean_all()
            .unwrap()
            .backward()
            .unwrap();
        case.close("grad_x", grads.get(&x).unwrap(), GRADIENT);
        check_gradients(&case, "grad.", &params, &grads);
    }
}

#[test]
fn losses() {
    for case in cases("wmgm-losses") {
        let (g, g_params) = case.beside("wmgm-generator").generator();
        let (d, d_params) = case.beside("wmgm-discriminator").discriminator();
        let config: LossConfig = serde_json::from_value(case.config.clone()).unwrap();
        let (low, high) = haar::forward(&case.get("img")).unwrap();
        let target = haar::inverse(&low, &high).unwrap();
        case.close("target", &target, 1e-6);
        let fake =
            haar::inverse(&low, &g.forward(&low, &case.get("noise"), true).unwrap()).unwrap();
        case.close("fake", &fake, OUTPUT);
        let loss =
            generator_loss(&d.forward_t(&fake, true).unwrap(), &fake, &target, &config).unwrap();
        case.close("g_adv", &loss.adversarial, OUTPUT);
        case.close("g_mse", &loss.mse, OUTPUT);
        case.close("g_ssim", &loss.dissimilarity, OUTPUT);
        case.close("g_total", &loss.total, OUTPUT);
        check_gradients(&case, "gradG.", &g_params, &loss.total.backward().unwrap());

        let on_fake = d.forward_t(&fake.detach(), true).unwrap();
        let loss = discriminator_loss(&on_fake, &d.forward_t(&target, true).unwrap()).unwrap();
        case.close("d_total", &loss, OUTPUT);
        let grads = loss.backward().unwrap();
        check_gradients(&case, "gradD.", &d_params, &grads);
        assert!(g_params.named().iter().all(|(_, v)| grads.get(v).is_none()));
    }
}

#[test]
fn two_levels() {
    for case in cases("wmgm-sampling") {
        let (g, _) = case.beside("wmgm-generator").generator();
        let depth = case.config["depth"].as_u64().unwrap() as usize;
        let low = LowInput::UnitPicture.to_band(&case.get("low")).unwrap();
        let mut noise =
            |round: usize, _: &candle_core::Shape| Ok(case.get(&format!("noise{round}")));
        let mut rounds = 0;
        let mut see = |round: usize, x: &Tensor| {
            case.close(&format!("level{round}"), x, OUTPUT);
            rounds += 1;
            Ok(())
        };
        let out = sample(&g, &low, depth, &mut noise, &mut see).unwrap();
        assert_eq!(rounds, depth);
        case.close(&format!("level{}", depth - 1), &out, OUTPUT);
    }
}

#[test]
fn structural_similarity() {
    for case in cases("ssim") {
        let a = Var::from_tensor(&case.get("a")).unwrap();
        let b = case.get("b");
        let value = ssim(&a, &b).unwrap();
        case.close("ssim", &value, 1e-5);
        case.close("ssim_per_image", &ssim_per_picture(&a, &b).unwrap(), 1e-5);
        let grads = value.backward().unwrap();
        // The gradients are about 1e-3: compare them at their own size.
        let large = |t: &Tensor| (t * 400.0).unwrap();
        close(
            "ssim gradient",
            &large(grads.get(&a).unwrap()),
            &large(&case.get("grad_a")),
            1e-3,
        );
    }
}

#[test]
fn haar_levels() {
    let golden = std::env::var_os("WMGM_GOLDEN").map_or_else(
        || std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/golden"),
        std::path::PathBuf::from,
    );
    if !golden.join("wmgm-wavelet").is_dir() {
        eprintln!(
            "no golden folder at {}: the transform is tested by its properties alone",
            golden.display()
        );
        return;
    }
    let case = Case::open(golden.join("wmgm-wavelet"));
    let (ll1, d1) = haar::forward(&case.get("img")).unwrap();
    let (ll2, d2) = haar::forward(&ll1).unwrap();
    for (name, t) in [
        ("ll1", &ll1),
        ("details1", &d1),
        ("ll2", &ll2),
        ("details2", &d2),
    ] {
        case.close(name, t, 1e-5);
    }
    case.close("rec1", &haar::inverse(&ll1, &d1).unwrap(), 1e-5);
}
