//! The wavelet cascade against PyTorch: committed cases of `scripts/wsgm.py`, and the golden folder where there is one; its
//! independence of batches; what it refuses.

#[path = "../../score-sde/tests/common/formula.rs"]
mod formula;

use candle_core::{DType, Device, Tensor};
use checkpoints::{Checkpoint, Parameters, safetensors};
use formula::numbers;
use nn_ops::Params;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Mutex;
use wmgm::pipeline::SampleEvent;
use wmgm::wsgm::{Band, Cascade, CascadeConfig, DetailStats, MeanHaar, Place};
use wmgm::{Error, Model, Pipeline, SampleOptions, Wsgm};

fn cases() -> PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases")
}

/// As the script's.
fn made(name: &str, dims: &[usize], factor: f64) -> Tensor {
    let values = numbers(name, dims.iter().product());
    let values: Vec<f32> = values.iter().map(|u| (u * factor) as f32).collect();
    Tensor::from_vec(values, dims, &Device::Cpu).unwrap()
}

/// As the script's.
fn parameter(name: &str, dims: &[usize]) -> Tensor {
    let count: usize = dims.iter().product();
    match dims.len() {
        1 if name.ends_with("weight") => (made(name, dims, 0.2) + 1.0).unwrap(),
        1 => made(name, dims, 0.2),
        _ => made(name, dims, (3.0 * dims[0] as f64 / count as f64).sqrt()),
    }
}

/// The parameters of a configuration by the script's formula, and the statistics of one of its cases.
fn tensors(config: &CascadeConfig, case: &str) -> HashMap<String, Tensor> {
    let row = 3 * config.num_channels;
    let plain = DetailStats {
        mean: vec![0.0; row],
        var: vec![1.0; row],
        min: vec![-1.0; row],
        max: vec![1.0; row],
    };
    let params = Params::new(1);
    let stats = vec![plain; config.levels.len()];
    Cascade::create(config.clone(), stats, params.builder(&Device::Cpu)).unwrap();
    let named = params.named();
    let mut all: HashMap<String, Tensor> = (named.iter())
        .map(|(name, var)| (name.clone(), parameter(name, var.dims())))
        .collect();
    let (bound, scale) = match case {
        "enlarging" => (f32::INFINITY, 4e-6),
        _ => (0.3, 1.0),
    };
    for level in 0..config.levels.len() {
        let name = |last: &str| format!("wds.{level}.transform.details_{last}");
        let dims = [1, row, 1, 1];
        let var = (made(&name("var"), &dims, 0.01) + 0.02).unwrap();
        all.insert(name("mean"), made(&name("mean"), &dims, 0.01));
        all.insert(name("var"), (var * scale).unwrap());
        for (last, bound) in [("min", -bound), ("max", bound)] {
            let bounds = Tensor::full(bound, &dims, &Device::Cpu).unwrap();
            all.insert(name(last), bounds);
        }
        // As in a checkpoint: sampled with in f32.
        for (diffuser, config) in [
            ("dnc", config.levels[level].coarse_diffuser.as_ref()),
            ("dnd", Some(&config.levels[level].details_diffuser)),
        ] {
            let Some(config) = config else { continue };
            let process = config.process().unwrap();
            let c = process.coefficients();
            for (table, values) in [("betas", &c.betas), ("alphas_cumprod", &c.alphas_cumprod)] {
                let values = Tensor::new(values.as_slice(), &Device::Cpu).unwrap();
                let values = values.to_dtype(DType::F32).unwrap();
                all.insert(format!("wds.{level}.{diffuser}.{table}"), values);
            }
        }
    }
    all
}

/// A folder with these tensors as a file.
fn stored(tensors: HashMap<String, Tensor>) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cascade.safetensors");
    safetensors::write(&path, tensors, None, None).unwrap();
    (folder, path)
}

fn load(config: &CascadeConfig, tensors: HashMap<String, Tensor>) -> wmgm::Result<Wsgm> {
    let (_folder, path) = stored(tensors);
    Wsgm::from_checkpoint(path, config.clone())
}

/// max |a - b| / max(1, max |b|).
fn error(got: &Tensor, want: &Tensor) -> f32 {
    assert_eq!(got.dims(), want.dims());
    let most = |t: Tensor| {
        t.abs()
            .unwrap()
            .max_all()
            .unwrap()
            .to_scalar::<f32>()
            .unwrap()
    };
    most((got - want).unwrap()) / most(want.clone()).max(1.0)
}

/// The picture and, where it is diffused, the coarsest coarse picture.
fn refine(
    model: &Wsgm,
    init: Tensor,
    noise: &mut dyn FnMut(usize, &[usize]) -> Tensor,
) -> (Tensor, Option<Tensor>) {
    let (mut drawn, mut coarse) = (0, None);
    let mut next = |_: Place, dims: &[usize]| {
        drawn += 1;
        Ok(noise(drawn - 1, dims))
    };
    let mut watch = |place: Place, x: &Tensor| {
        if place.band == Band::Coarse {
            coarse = Some(x.clone());
        }
        Ok(())
    };
    let cascade = model.cascade();
    let plan = cascade.config().sample.clone();
    let out = cascade.refine(init, &plan, &mut next, &mut watch).unwrap();
    (out, coarse)
}

fn described() -> Vec<Value> {
    let text = std::fs::read_to_string(cases().join("wsgm.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn config_of(case: &Value) -> CascadeConfig {
    serde_json::from_value(case["config"].clone()).unwrap()
}

/// The first case: two levels of 3 channels, 16 x 16.
fn two_levels() -> CascadeConfig {
    config_of(&described()[0])
}

#[test]
fn committed_cases() {
    let wanted = Checkpoint::open(cases().join("wsgm.safetensors")).unwrap();
    for case in described() {
        let name = case["name"].as_str().unwrap();
        let config = config_of(&case);
        let model = load(&config, tensors(&config, name)).unwrap();
        let dims: Vec<usize> = serde_json::from_value(case["init"].clone()).unwrap();
        let root = 3f64.sqrt();
        let coarsest = config.levels.len() - 1;
        let diffused = model.cascade().diffuser(coarsest, Band::Coarse).is_some();
        let init = made(
            &format!("{name} init"),
            &dims,
            if diffused { root } else { 0.5 },
        );
        let mut drawn = 0;
        let (out, coarse) = refine(&model, init.clone(), &mut |i, dims| {
            drawn += 1;
            made(&format!("{name} z{i}"), dims, root)
        });
        assert_eq!(drawn, case["noises"], "{name}");
        let want = |what: &str| {
            wanted
                .tensor(&format!("{name} {what}"), &Device::Cpu)
                .unwrap()
        };
        let errors = [
            error(&coarse.unwrap_or(init), &want("coarse")),
            error(&out, &want("out")),
        ];
        assert!(errors.iter().all(|e| *e < 1e-4), "{name}: {errors:?}");
    }
}

#[test]
fn golden_cases() {
    let beside = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/golden");
    let root = std::env::var_os("WMGM_GOLDEN").map_or(beside, PathBuf::from);
    let Ok(entries) = std::fs::read_dir(&root) else {
        eprintln!(
            "no golden folder at {}: only committed cases are tested",
            root.display()
        );
        return;
    };
    for folder in entries.map(|e| e.unwrap().path()) {
        let name = folder.file_name().unwrap().to_string_lossy().into_owned();
        if !name.starts_with("wsgm-") {
            continue;
        }
        let text = std::fs::read_to_string(folder.join("case.json")).unwrap();
        let config = config_of(&serde_json::from_str(&text).unwrap());
        let io = Checkpoint::open(folder.join("io.safetensors")).unwrap();
        let get = |name: &str| io.tensor(name, &Device::Cpu).unwrap();
        let haar = MeanHaar::default();
        let (coarse, details) = haar.split(&get("haar_in")).unwrap();
        let errors = [
            error(&coarse, &get("haar_coarse")),
            error(&details, &get("haar_details")),
            error(&haar.merge(&coarse, &details).unwrap(), &get("haar_in")),
        ];
        assert!(errors.iter().all(|e| *e < 1e-6), "{name}: {errors:?}");

        let mut order: Vec<&str> = (io.names())
            .filter(|n| {
                n.strip_prefix('z')
                    .is_some_and(|i| i.parse::<u32>().is_ok())
            })
            .collect();
        order.sort_unstable();
        for which in [Parameters::Averaged, Parameters::Trained] {
            let path = folder.join("weights.pth");
            let model =
                Wsgm::from_checkpoint_on(path, config.clone(), which, &Device::Cpu).unwrap();
            // As it is by default, and with Winograd's algorithm, whose rounding sampling amplifies.
            for (same, bound) in [(true, 1e-4), (false, 5e-3)] {
                let cascade = model.cascade().clone().same_numbers(same);
                let model = Wsgm::new(cascade, &Device::Cpu);
                let mut drawn = 0;
                let mut noise = |i: usize, dims: &[usize]| {
                    drawn += 1;
                    let z = get(order[i]);
                    assert_eq!(z.dims(), dims, "{name} {}", order[i]);
                    z
                };
                let (out, _) = refine(&model, get("init"), &mut noise);
                assert_eq!(drawn, order.len(), "{name}");
                let error = error(&out, &get("out"));
                eprintln!("{name}, {same}: {error}");
                assert!(error < bound, "{name}, {same}: {error}");
            }
        }
    }
}

#[test]
fn pictures_do_not_depend_on_their_batch() {
    let config = two_levels();
    let model = load(&config, tensors(&config, "two-levels")).unwrap();
    let options = |pictures, batch| SampleOptions {
        seed: 5,
        pictures,
        batch,
        ..SampleOptions::default()
    };
    let together = model.sample(&options(2..5, 3)).unwrap();
    assert_eq!(together.len(), 3);
    assert!(together.iter().all(|p| p.dimensions() == (16, 16)));
    assert!(together[0] != together[1] && together[1] != together[2]);
    assert!(together == model.sample(&options(2..5, 2)).unwrap());
    assert!(together[2..] == model.sample(&options(4..5, 1)).unwrap()[..]);
    let other = SampleOptions {
        seed: 6,
        ..options(2..5, 3)
    };
    assert!(together != model.sample(&other).unwrap());
}

#[test]
fn events_tell_every_step_and_a_break_cancels() {
    let config = two_levels();
    let model = load(&config, tensors(&config, "two-levels")).unwrap();
    let options = SampleOptions {
        pictures: 0..2,
        batch: 1,
        ..SampleOptions::default()
    };
    let steps = 4 + 3 + 2;
    assert_eq!(
        model.cascade().evaluations(&model.steps(&options).unwrap()),
        steps
    );
    let seen = Mutex::new(Vec::new());
    let watch = |event| {
        seen.lock().unwrap().push(event);
        ControlFlow::Continue(())
    };
    model.sample_with(&options, &watch).unwrap();
    let batch = |done| {
        let each = (1..=steps).map(move |step| SampleEvent::Step { step, steps });
        each.chain([SampleEvent::Done { done, total: 2 }])
    };
    assert_eq!(
        *seen.lock().unwrap(),
        batch(1).chain(batch(2)).collect::<Vec<_>>()
    );

    let stop = |event| match event {
        SampleEvent::Step { step: 6, .. } => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    };
    let error = model.sample_with(&options, &stop).unwrap_err();
    assert!(matches!(error, Error::Cancelled), "{error}");
    // Another number of steps, for all diffusions.
    let plan = model.steps(&SampleOptions {
        steps: Some(7),
        ..options.clone()
    });
    assert_eq!(model.cascade().evaluations(&plan.unwrap()), 21);
    for (sampler, steps, expected) in [
        (Some("heun"), None, "unknown sampler"),
        (None, Some(0), "coarse_steps is 0"),
        (None, Some(1001), "coarse_steps is 1001"),
    ] {
        let options = SampleOptions {
            sampler: sampler.map(Into::into),
            steps,
            ..options.clone()
        };
        let error = model.sample(&options).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn a_cascade_without_a_coarse_diffusion_enlarges() {
    let mut config = config_of(&described()[1]);
    config.image_size = Some([8, 12]);
    let model = load(&config, tensors(&config, "enlarging")).unwrap();
    let options = SampleOptions {
        steps: Some(3),
        ..SampleOptions::default()
    };
    let error = model.sample(&options).unwrap_err().to_string();
    assert!(error.contains("no coarse_diffuser"), "{error}");
    let start = made("start", &[2, 1, 4, 6], 0.5);
    let mut steps = Vec::new();
    let both = model.enlarge(start.clone(), &options, &[7, 9], &mut |step| {
        steps.push(step);
        Ok(())
    });
    let both = both.unwrap();
    assert_eq!(
        (both.dims(), &steps[..]),
        (&[2, 1, 8, 12][..], &[1, 2, 3][..])
    );
    let second = start.narrow(0, 1, 1).unwrap();
    let second = model
        .enlarge(second, &options, &[9], &mut |_| Ok(()))
        .unwrap();
    let values = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    assert_eq!(values(&both.narrow(0, 1, 1).unwrap()), values(&second));
    for (start, indices, expected) in [
        (made("start", &[1, 3, 4, 6], 0.5), &[0][..], "3 channels"),
        (made("start", &[1, 1, 4, 5], 0.5), &[0], "divide by 4"),
        (made("start", &[1, 1, 4, 6], 0.5), &[0, 1], "2 numbers"),
    ] {
        let error = model
            .enlarge(start, &options, indices, &mut |_| Ok(()))
            .unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
    }
}

#[test]
fn configurations_out_of_range_name_the_field() {
    let good = serde_json::to_value(two_levels()).unwrap();
    let check = |pointer: &str, value: Value| {
        let mut config = good.clone();
        match config.pointer_mut(pointer) {
            Some(field) => *field = value,
            None => {
                let (parent, field) = pointer.rsplit_once('/').unwrap();
                config.pointer_mut(parent).unwrap()[field] = value;
            }
        }
        match serde_json::from_value::<CascadeConfig>(config) {
            Ok(config) => config.check().err().unwrap_or_default(),
            Err(e) => e.to_string(),
        }
    };
    assert_eq!(check("/num_channels", json!(3)), "");
    for (pointer, value, expected) in [
        ("/num_channels", json!(0), "num_channels is 0"),
        ("/num_channels", json!(1u64 << 40), "num_channels is"),
        ("/levels", json!([]), "levels has 0"),
        (
            "/image_size",
            json!([16, 18]),
            "levels[0] it must divide by 4",
        ),
        ("/image_size", json!([0, 16]), "image_size"),
        (
            "/levels/0/details_diffuser/T",
            json!(20),
            "levels[0].details_diffuser: ",
        ),
        ("/levels/0/details_diffuser/T", json!(1u64 << 50), "T is"),
        (
            "/levels/1/coarse_diffuser/unet/is_attn",
            json!([true, true]),
            "levels[1].coarse_diffuser.unet: ",
        ),
        (
            "/levels/1/coarse_diffuser/unet/base_channels",
            json!(1u64 << 40),
            "model_channels is",
        ),
        (
            "/levels/1/coarse_diffuser/unet/num_res_attn_blocks",
            json!(1u64 << 40),
            "num_res_blocks is",
        ),
        (
            "/levels/0/details_diffuser/unet/channel_mults",
            json!([1u64 << 62]),
            "levels[0].details_diffuser.unet",
        ),
        (
            "/levels/0/details_diffuser/unet/widths",
            json!(3),
            "unknown field",
        ),
        (
            "/levels/0",
            json!("configs/32-64.json"),
            "invalid type: string",
        ),
        (
            "/sample/0/coarse_steps",
            json!(0),
            "sample[0].coarse_steps is 0",
        ),
        (
            "/sample/1/details_steps",
            json!(1001),
            "sample[1].details_steps is 1001",
        ),
        (
            "/sample/1/details_eta",
            json!(1.5),
            "sample[1].details_eta is 1.5",
        ),
        ("/sample", json!([{}]), "sample has 1"),
    ] {
        let error = check(pointer, value.clone());
        assert!(error.contains(expected), "{pointer} {value}: {error:?}");
    }
}

#[test]
fn checkpoints_that_do_not_fit_name_the_tensor() {
    let config = two_levels();
    let all = tensors(&config, "two-levels");
    let weight = "wds.1.dnc.unet.middle_block.1.qkv.weight";
    let var = "wds.0.transform.details_var";
    let with = |name: &str, tensor: Option<Tensor>| {
        let mut changed = all.clone();
        match tensor {
            Some(tensor) => changed.insert(name.into(), tensor),
            None => changed.remove(name),
        };
        load(&config, changed).map(|_| ()).unwrap_err().to_string()
    };
    let full = |value: f32, dims: &[usize]| Some(Tensor::full(value, dims, &Device::Cpu).unwrap());
    for (name, tensor, expected) in [
        (weight, None, "1 missing"),
        (weight, full(0.0, &[96, 32]), "[96, 32] for [96, 32, 1]"),
        (weight, full(f32::NAN, &[96, 32, 1]), "NaN"),
        (var, None, "1 missing"),
        (var, full(1.0, &[1, 9]), "[1, 9] for [1, 9, 1, 1]"),
        (var, full(0.0, &[1, 9, 1, 1]), "without any detail"),
        ("wds.0.dnd.unet.more.weight", full(0.0, &[1]), "no layer"),
        ("wds.2.dnd.unet.out.2.bias", full(0.0, &[9]), "no layer"),
        ("wds.0.dnc.betas", full(0.0, &[9]), "no layer"),
        ("step", full(0.0, &[1]), "no layer"),
        ("wds.1.dnd.betas", full(0.01, &[1000]), "at step 0"),
        ("wds.1.dnd.betas", full(0.01, &[500]), "[500] for [1000]"),
    ] {
        let error = with(name, tensor);
        assert!(
            error.contains(name) && error.contains(expected),
            "{name}: {error}"
        );
    }
    // Another configuration than the checkpoint's.
    let mut other = config.clone();
    other.levels[1].coarse_diffuser.as_mut().unwrap().linear = false;
    let error = load(&other, all.clone()).unwrap_err().to_string();
    assert!(
        error.contains("wds.1.dnc.betas") && error.contains("cosine"),
        "{error}"
    );
    let mut other = config.clone();
    other.levels[0].details_diffuser.unet.num_res_attn_blocks = 2;
    assert!(
        load(&other, all.clone())
            .unwrap_err()
            .to_string()
            .contains("wds.0.dnd.unet.")
    );
    // Without the numbers of the processes it is a cascade, too.
    let mut bare = all.clone();
    bare.retain(|name, _| name.contains(".unet.") || name.contains(".transform."));
    load(&config, bare).unwrap();
    // Without a size it has one that fits.
    let mut sizeless = config.clone();
    sizeless.image_size = None;
    assert_eq!(load(&sizeless, all).unwrap().size(), [32, 32]);
}

/// Exported as a bundle it is the same model; halved, its statistics are not.
#[test]
fn bundles() {
    use wmgm::import::{self, ReadOptions};
    let config = two_levels();
    let (folder, path) = stored(tensors(&config, "two-levels"));
    let options = ReadOptions::default();
    let error = import::read(&path, &options).unwrap_err().to_string();
    assert!(error.contains("--config"), "{error}");
    let given = folder.path().join("config.json");
    std::fs::write(&given, serde_json::to_vec(&config).unwrap()).unwrap();
    let options = ReadOptions {
        config: Some(given),
        ..options
    };
    let sampled = SampleOptions {
        pictures: 0..2,
        ..SampleOptions::default()
    };
    let pictures = Wsgm::from_checkpoint(&path, config)
        .unwrap()
        .sample(&sampled)
        .unwrap();
    let imported = import::read(&path, &options).unwrap();
    for (precision, same) in [(None, true), (Some(safetensors::Precision::F16), false)] {
        let out = folder.path().join("bundle");
        imported.write_bundle(&out, precision).unwrap();
        let model = Model::open(&out, &Device::Cpu).unwrap();
        assert_eq!(model.plan(&sampled).unwrap().steps, 9);
        assert_eq!(model.sample(&sampled).unwrap() == pictures, same);
        let stored = Checkpoint::open(out.join("cascade.safetensors")).unwrap();
        let dtype = |name: &str| stored.tensor(name, &Device::Cpu).unwrap().dtype();
        assert_eq!(dtype("wds.0.transform.details_var"), DType::F32);
        assert_eq!(dtype("wds.0.dnd.unet.out.2.bias") == DType::F32, same);
        // And on to a file of tensors again.
        let again = folder.path().join("again.safetensors");
        let read = import::read(&out, &ReadOptions::default()).unwrap();
        read.write_safetensors(&again, None).unwrap();
        assert_eq!(Checkpoint::open(again).unwrap().len(), stored.len());
        assert!(
            read.write_diffusers(&folder.path().join("d"), None)
                .is_err()
        );
    }
}
