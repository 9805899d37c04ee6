//! Against numbers computed by improved-diffusion itself: outputs within 1e-4, gradients within 1e-3 of the largest.
//!
//! The folder is that of WMGM_GOLDEN, by default `../shared/golden` beside the workspace; every case of the two kinds
//! found there is run. Without it, the cases committed in `tests/cases` are all there is (see `committed.rs`).

mod common;

use candle_core::{DType, Device, Tensor, Var};
use candle_nn::VarBuilder;
use common::{Case, close, device_free, quiet};
use score_sde::diffusion::{Coefficients, GaussianDiffusion};
use score_sde::sampler::{Ddim, ddim, ddpm, no_noise};
use score_sde::{DiffusionConfig, UNet, UNetConfig};
use std::collections::HashMap;

/// A network of a case and its parameters by name.
fn network(case: &Case, dtype: DType) -> (UNet, HashMap<String, Var>) {
    let mut config = case.config.clone();
    let object = config.as_object_mut().unwrap();
    // Of no consequence for the numbers.
    for key in ["use_checkpoint", "dims", "image_size"] {
        object.remove(key);
    }
    // improved-diffusion's defaults, where ours differ.
    for (key, value) in [
        ("conv_resample", true.into()),
        ("use_scale_shift_norm", false.into()),
        ("num_heads", 1.into()),
    ] {
        object.entry(key).or_insert(value);
    }
    let config: UNetConfig = serde_json::from_value(config).unwrap();
    let weights = candle_core::pickle::read_all(case.folder.join("model.pt")).unwrap();
    let vars: HashMap<String, Var> = weights
        .into_iter()
        .map(|(name, w)| {
            (
                name,
                Var::from_tensor(&w.contiguous().unwrap().to_dtype(dtype).unwrap()).unwrap(),
            )
        })
        .collect();
    let tensors = vars
        .iter()
        .map(|(name, v)| (name.clone(), v.as_tensor().clone()))
        .collect();
    let vb = VarBuilder::from_tensors(tensors, dtype, &Device::Cpu);
    (UNet::new(config, vb).unwrap(), vars)
}

#[test]
fn unets() {
    for case in common::golden("improved-diffusion-unet-") {
        let (net, vars) = network(&case, DType::F32);
        let x = Var::from_tensor(&case.get("x")).unwrap();
        let label = case.find("label").or_else(|| case.find("y_label"));
        let y = net
            .forward(&x, &case.get("t"), label.as_ref(), None)
            .unwrap();
        close(&case, "y", &y, 1e-4);
        let grads = (y * case.get("w"))
            .unwrap()
            .sum_all()
            .unwrap()
            .backward()
            .unwrap();
        close(&case, "grad_x", grads.get(&x).unwrap(), 1e-3);
        let mut seen = 0;
        for (name, want) in case.tensors.iter().filter(|(n, _)| n.starts_with("grad.")) {
            let var = &vars[&name["grad.".len()..]];
            let got = grads
                .get(var)
                .unwrap_or_else(|| panic!("{name} of {}: no gradient", case.name));
            common::close_to(&format!("{} {name}", case.name), got, want, 1e-3);
            seen += 1;
        }
        assert_eq!(
            seen,
            vars.len(),
            "{}: every parameter has a gradient",
            case.name
        );
    }
}

/// Made of networks' outputs times up to a hundred: compared by the exact path, without Winograd's rounding.
#[test]
fn processes() {
    nn_ops::path::with(nn_ops::path::Path::Exact, check_processes);
}

fn check_processes() {
    for case in common::golden("improved-diffusion-process-") {
        let d = common::process(&case);
        common::check_tables(&case, &d);
        // The description names the network: "... model of case NAME. ..."
        let words = |c: char| !(c.is_ascii_alphanumeric() || c == '-');
        let name = case
            .description
            .split(words)
            .find(|w| w.starts_with("improved-diffusion-unet-"));
        let name = name.unwrap_or("improved-diffusion-unet-0");
        let net_case = Case::open(case.folder.with_file_name(name));
        let (net, _) = network(&net_case, DType::F32);
        let model = |x: &Tensor, t: &Tensor| net.forward(&x.detach(), t, None, None);
        common::check_step(&case, &d, &model, false);
        let (exact, _) = network(&net_case, DType::F64);
        let exact = |x: &Tensor, t: &Tensor| {
            let x = x.detach().to_dtype(DType::F64)?;
            exact.forward(&x, t, None, None)?.to_dtype(DType::F32)
        };
        common::check_step(&case, &d, &exact, true);

        let zs = case.get("zs");
        // Where no start is given, it is z.
        let start = case.find("x_T").unwrap_or_else(|| case.get("z"));
        let mut noise = |i: usize, _: &Tensor| zs.get(i);
        let y = ddpm(&d, &model, start.clone(), true, &mut noise, &mut quiet).unwrap();
        close(&case, "sample_ddpm", &y, 1e-4);
        let clip = Ddim {
            clip: true,
            ..Ddim::default()
        };
        let y = ddim(&d, &model, start, &clip, &mut no_noise, &mut quiet).unwrap();
        close(&case, "sample_ddim", &y, 1e-4);
    }
}

/// The configuration names and tables need no network: they can be had from the golden folder's own words.
#[test]
fn a_configuration_is_read_as_it_is_written() {
    let json = r#"{"diffusion_steps": 4000, "noise_schedule": "cosine", "timestep_respacing": "15,10", "learn_sigma": true}"#;
    let config: DiffusionConfig = serde_json::from_str(json).unwrap();
    let d: GaussianDiffusion = config.build().unwrap();
    let c: &Coefficients = d.coefficients();
    assert_eq!((d.steps(), c.steps(), d.timestep_map()[24]), (25, 25, 3999));
    device_free(&d);
}
