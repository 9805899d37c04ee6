//! The networks of score_sde and of diffusers against those programs' own numbers, names and shapes; gradients against
//! finite differences; what they refuse. `scripts/networks.py` made the numbers.

mod common;
#[path = "common/formula.rs"]
mod formula;

use candle_core::{DType, Device, Tensor, Var};
use candle_nn::VarBuilder;
use common::{close, close_to};
use formula::numbers;
use nn_ops::Params;
use score_sde::sde::{Labels, NetworkScore, Score, Sde, Ve};
use score_sde::unet::DropMask;
use score_sde::{ScoreNet, ScoreNetConfig, UNet2DConfig, UNet2DModel};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::path::{Path, PathBuf};

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/cases")
        .join(name)
}

fn rows(name: &str) -> Vec<Value> {
    serde_json::from_str(&std::fs::read_to_string(file(name)).unwrap()).unwrap()
}

fn fnv(text: &str, h: u64) -> u64 {
    (text.bytes()).fold(h, |h, b| (h ^ b as u64).wrapping_mul(0x100_0000_01b3))
}

const FNV: u64 = 0xcbf2_9ce4_8422_2325;

/// As the script's.
fn parameter(name: &str, dims: &[usize]) -> Tensor {
    let count: usize = dims.iter().product();
    let scale = (3.0 * dims[0] as f64 / count as f64).sqrt();
    let value = |u: f64| match dims.len() {
        1 if name.ends_with(".W") || name == "time_proj.weight" => 16.0 * u,
        1 if name.ends_with("weight") => 1.0 + 0.2 * u,
        1 => 0.2 * u,
        _ => scale * u,
    };
    let data: Vec<f64> = numbers(name, count).into_iter().map(value).collect();
    Tensor::from_vec(data, dims, &Device::Cpu).unwrap()
}

fn made(name: &str, dims: &[usize], factor: f64) -> Tensor {
    let data = numbers(name, dims.iter().product());
    (Tensor::from_vec(data, dims, &Device::Cpu).unwrap() * factor).unwrap()
}

/// Either network.
enum Net {
    Score(ScoreNet),
    UNet2D(UNet2DModel),
}

impl Net {
    fn new(family: &str, config: &Value, vb: VarBuilder) -> score_sde::error::Result<Self> {
        Ok(match family {
            "score_sde" => Self::Score(ScoreNet::new(
                serde_json::from_value(config.clone()).unwrap(),
                vb,
            )?),
            _ => Self::UNet2D(UNet2DModel::new(
                serde_json::from_value(config.clone()).unwrap(),
                vb,
            )?),
        })
    }

    fn forward(
        &self,
        x: &Tensor,
        t: &Tensor,
        labels: Option<&Tensor>,
        mask: Option<&dyn DropMask>,
    ) -> score_sde::error::Result<Tensor> {
        match self {
            Self::Score(net) => net.forward(x, t, mask),
            Self::UNet2D(net) => net.forward(x, t, labels, mask),
        }
    }

    fn channels(&self) -> usize {
        match self {
            Self::Score(net) => net.config().data.num_channels,
            Self::UNet2D(net) => net.config().in_channels,
        }
    }
}

/// A network whose parameters are the formula's, and these.
fn built(family: &str, config: &Value, dtype: DType) -> (Net, Vec<(String, Var)>) {
    let params = Params::new(0);
    let vb = params.builder(&Device::Cpu).set_dtype(dtype);
    let net = Net::new(family, config, vb).unwrap();
    for (name, var) in params.named() {
        let value = parameter(&name, var.dims()).to_dtype(dtype).unwrap();
        var.set(&value).unwrap();
    }
    (net, params.named())
}

fn floats(v: &Value) -> Vec<f32> {
    (v.as_array().unwrap().iter())
        .map(|v| v.as_f64().unwrap() as f32)
        .collect()
}

fn labels(case: &Value) -> Option<Tensor> {
    match &case["labels"] {
        Value::Null => None,
        Value::String(_) => {
            let e = made("labels", &[2, 128], 1.0);
            Some(e.to_dtype(DType::F32).unwrap())
        }
        list if list[0].is_i64() => {
            let list = floats(list).into_iter().map(|v| v as i64);
            Some(Tensor::new(list.collect::<Vec<_>>(), &Device::Cpu).unwrap())
        }
        list => Some(Tensor::new(floats(list), &Device::Cpu).unwrap()),
    }
}

#[test]
fn small_networks() {
    let io = candle_core::safetensors::load(file("networks.safetensors"), &Device::Cpu).unwrap();
    for case in rows("networks.json") {
        let family = case["family"].as_str().unwrap();
        let name = format!("{family}.{}", case["name"].as_str().unwrap());
        let want = |key: &str| &io[&format!("{name}.{key}")];
        let (net, vars) = built(family, &case["config"], DType::F32);
        let size = floats(&case["size"]);
        let dims = [2, net.channels(), size[0] as usize, size[1] as usize];
        let x = made("x", &dims, 1.0).to_dtype(DType::F32).unwrap();
        let x = Var::from_tensor(&(x * 1.5).unwrap()).unwrap();
        let t = Tensor::new(floats(&case["t"]), &Device::Cpu).unwrap();
        let y = net.forward(&x, &t, labels(&case).as_ref(), None).unwrap();
        close_to(&format!("{name} y"), &y, want("y"), 1e-4);

        let w = made("w", y.dims(), 1.0).to_dtype(DType::F32).unwrap();
        let grads = (y * w).unwrap().sum_all().unwrap().backward().unwrap();
        close_to(
            &format!("{name} grad_x"),
            grads.get(&x).unwrap(),
            want("grad_x"),
            1e-3,
        );
        let dots: Vec<f32> = (vars.iter())
            .filter_map(|(_, var)| {
                let grad = grads.get(var)?.flatten_all().unwrap();
                let grad = grad.to_vec1::<f32>().unwrap();
                let along = numbers("dot", grad.len());
                let dot: f64 = (grad.iter().zip(along)).map(|(g, a)| *g as f64 * a).sum();
                Some(dot as f32)
            })
            .collect();
        let dots = Tensor::new(dots, &Device::Cpu).unwrap();
        close_to(&format!("{name} parameters"), &dots, want("dots"), 1e-3);
    }
}

#[test]
fn published_networks_have_their_names_and_shapes() {
    for row in rows("architectures.json") {
        let name = row["name"].as_str().unwrap();
        let config = row["config"].clone();
        let mut tensors = match row["family"].as_str().unwrap() {
            // In the order of score_sde's own list, which its averages depend on.
            "score_sde" => {
                let config: ScoreNetConfig = serde_json::from_value(config).unwrap();
                config.tensors().unwrap()
            }
            _ => {
                let config: UNet2DConfig = serde_json::from_value(config).unwrap();
                let mut tensors = config.tensors().unwrap();
                tensors.sort();
                tensors
            }
        };
        let count: usize = (tensors.iter())
            .map(|(_, s)| s.iter().product::<usize>())
            .sum();
        assert_eq!(count as u64, row["parameters"].as_u64().unwrap(), "{name}");
        let digest = (tensors.drain(..)).fold(FNV, |h, (n, s)| fnv(&format!("{n} {s:?}\n"), h));
        assert_eq!(
            format!("{digest:016x}"),
            row["digest"].as_str().unwrap(),
            "{name}"
        );
    }
}

/// Reference networks on their users' checkpoints. The configurations in the folder have only the section `model`, and
/// all of them the name of NCSN++: DDPM is known by the description.
#[test]
fn golden_networks() {
    for case in common::golden("score-sde-net-") {
        let x = case.get("x");
        let mut model = case.config.clone();
        if case.description.starts_with("DDPM network") {
            model["name"] = json!("ddpm");
        }
        let data = json!({
            "image_size": x.dims()[3], "num_channels": x.dims()[1], "centered": true,
        });
        let config = json!({"model": model, "data": data});
        let path = case.folder.join("checkpoint.pth");
        let weights = candle_core::pickle::read_all_with_key(path, Some("model")).unwrap();
        let mut names: Vec<String> = weights.iter().map(|(n, _)| n.clone()).collect();
        let weights: HashMap<String, Tensor> = (weights.into_iter())
            .map(|(n, w)| (n, w.contiguous().unwrap()))
            .collect();
        let config: ScoreNetConfig = serde_json::from_value(config).unwrap();

        // Every tensor of the checkpoint is one of the network's, but for the buffer.
        let ours = config.tensors().unwrap().into_iter();
        let mut ours: Vec<String> = ours.map(|(n, _)| format!("module.{n}")).collect();
        ours.push("module.sigmas".into());
        ours.sort();
        names.sort();
        assert_eq!(ours, names, "{}", case.name);

        for dtype in [DType::F32, DType::F64] {
            let vb = VarBuilder::from_tensors(weights.clone(), dtype, &Device::Cpu);
            let net = ScoreNet::new(config.clone(), vb.pp("module")).unwrap();
            let x = x.to_dtype(dtype).unwrap();
            let y = net.forward(&x, &case.get("t"), None).unwrap();
            assert_eq!(y.dtype(), dtype);
            close(&case, "y", &y, 1e-4);
        }
    }
}

/// Along one direction per tensor, in f64: the picture and every parameter that is trained.
#[test]
fn gradients() {
    let model = json!({
        "name": "ncsnpp", "nf": 8, "ch_mult": [1, 2], "num_res_blocks": 1, "attn_resolutions": [2],
        "resamp_with_conv": true, "conditional": true, "scale_by_sigma": true, "fir": true, "skip_rescale": true,
        "resblock_type": "ddpm", "progressive": "residual", "progressive_input": "input_skip",
        "progressive_combine": "cat", "embedding_type": "fourier", "nonlinearity": "elu",
    });
    let mut biggan = model.clone();
    biggan["resblock_type"] = json!("biggan");
    biggan["progressive"] = json!("output_skip");
    biggan["progressive_input"] = json!("residual");
    biggan["nonlinearity"] = json!("swish");
    let data = json!({"image_size": 4, "num_channels": 3, "centered": false});
    let unet = json!({
        "block_out_channels": [8, 32], "down_block_types": ["SkipDownBlock2D", "AttnSkipDownBlock2D"],
        "up_block_types": ["AttnUpBlock2D", "UpBlock2D"], "layers_per_block": 1, "norm_num_groups": 4,
        "attention_head_dim": 6, "resnet_time_scale_shift": "scale_shift", "act_fn": "mish", "downsample_padding": 0,
    });
    for (family, config) in [
        ("score_sde", json!({"model": model, "data": data})),
        ("score_sde", json!({"model": biggan, "data": data})),
        ("diffusers", unet),
    ] {
        let (net, vars) = built(family, &config, DType::F64);
        let x = Var::from_tensor(&made("x", &[1, 3, 4, 4], 1.5)).unwrap();
        let t = Tensor::new(&[3f64], &Device::Cpu).unwrap();
        let loss = || {
            let y = net.forward(&x, &t, None, None).unwrap();
            let w = made("w", y.dims(), 1.0);
            (y * w).unwrap().sum_all().unwrap()
        };
        let grads = loss().backward().unwrap();
        let mut checked = 0;
        for (name, var) in vars.iter().chain([&("x".to_string(), x.clone())]) {
            let Some(grad) = grads.get(var) else {
                assert!(name.ends_with(".W"), "{name} has no gradient");
                continue;
            };
            let along = made("along", var.dims(), 1.0);
            let slope = (grad * &along).unwrap().sum_all().unwrap();
            let slope = slope.to_scalar::<f64>().unwrap();
            let start = var.as_tensor().copy().unwrap();
            let at = |h: f64| {
                var.set(&(&start + (&along * h).unwrap()).unwrap()).unwrap();
                loss().to_scalar::<f64>().unwrap()
            };
            const H: f64 = 1e-5;
            let difference = (at(H) - at(-H)) / (2.0 * H);
            var.set(&start).unwrap();
            assert!(
                (slope - difference).abs() <= 1e-6 * difference.abs().max(1.0),
                "{family} {name}: {slope} instead of {difference}"
            );
            checked += 1;
        }
        assert!(checked > 80, "{checked}");
    }
}

#[test]
fn attention_saved_under_its_old_names() {
    let config = json!({
        "block_out_channels": [32], "down_block_types": ["AttnDownBlock2D"], "up_block_types": ["AttnUpBlock2D"],
        "layers_per_block": 1,
    });
    let (net, vars) = built("diffusers", &config, DType::F32);
    let mut renamed = 0;
    let old: HashMap<String, Tensor> = (vars.iter())
        .map(|(name, var)| {
            let mut old = name.clone();
            for (new, before) in [
                ("to_q", "query"),
                ("to_k", "key"),
                ("to_v", "value"),
                ("to_out.0", "proj_attn"),
            ] {
                old = old.replace(new, before);
            }
            renamed += usize::from(old != *name);
            (old, var.as_tensor().clone())
        })
        .collect();
    // Down, middle and up: two in the last, 4 maps of 2 tensors each.
    assert_eq!(renamed, 4 * 4 * 2);
    let vb = VarBuilder::from_tensors(old, DType::F32, &Device::Cpu);
    let again = Net::new("diffusers", &config, vb).unwrap();
    let x = made("x", &[1, 3, 4, 4], 1.0).to_dtype(DType::F32).unwrap();
    let t = Tensor::new(&[5f32], &Device::Cpu).unwrap();
    let bits = |net: &Net| {
        let y = net.forward(&x, &t, None, None).unwrap();
        y.flatten_all().unwrap().to_vec1::<f32>().unwrap()
    };
    assert_eq!(bits(&net), bits(&again));
}

/// Drops everything, and counts.
#[derive(Default)]
struct Nothing(std::cell::Cell<usize>);

impl DropMask for Nothing {
    fn mask(&self, shape: &[usize], p: f64) -> candle_core::Result<Tensor> {
        assert_eq!(p, 0.1);
        self.0.set(self.0.get() + 1);
        Tensor::zeros(shape, DType::F32, &Device::Cpu)
    }
}

#[test]
fn dropout_is_in_every_residual_block() {
    let case = &rows("networks.json")[4];
    let (net, _) = built("score_sde", &case["config"], DType::F32);
    let x = made("x", &[1, 3, 16, 16], 1.0)
        .to_dtype(DType::F32)
        .unwrap();
    let t = Tensor::new(&[5f32], &Device::Cpu).unwrap();
    let masks = Nothing::default();
    let with = net.forward(&x, &t, None, Some(&masks)).unwrap();
    let without = net.forward(&x, &t, None, None).unwrap();
    let gap = (with - without).unwrap().abs().unwrap().max_all().unwrap();
    assert!(gap.to_scalar::<f32>().unwrap() > 0.1);
    // Down 3 and 2 between, middle 2, up 6 and 2 between.
    assert_eq!(masks.0.get(), 15);
}

/// A picture's result has the same bits alone and in a batch.
#[test]
fn pictures_do_not_depend_on_their_company() {
    for at in [4, 6, 21] {
        let case = &rows("networks.json")[at];
        let family = case["family"].as_str().unwrap();
        let (net, _) = built(family, &case["config"], DType::F32);
        let x = made("x", &[3, 3, 16, 16], 1.0)
            .to_dtype(DType::F32)
            .unwrap();
        let t = Tensor::new(&[5f32, 0.1, 30.0], &Device::Cpu).unwrap();
        let bits = |y: Tensor| y.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let all = net.forward(&x, &t, None, None).unwrap();
        for i in 0..3 {
            let (x, t) = (x.narrow(0, i, 1).unwrap(), t.narrow(0, i, 1).unwrap());
            let alone = net.forward(&x, &t, None, None).unwrap();
            assert_eq!(bits(all.narrow(0, i, 1).unwrap()), bits(alone));
        }
    }
}

/// A network of the variance-exploding process is shown sigma and returns the score itself.
#[test]
fn a_network_becomes_a_score() {
    let Net::Score(net) = built("score_sde", &score_config(), DType::F32).0 else {
        panic!("a network of score_sde")
    };
    let sde = Ve::default();
    let score = NetworkScore {
        sde: &sde,
        network: &|x, t| Ok(net.forward(x, t, None)?),
        labels: Labels::Continuous,
    };
    let x = made("x", &[2, 3, 16, 16], 1.0)
        .to_dtype(DType::F32)
        .unwrap();
    let times = [0.2, 0.9];
    let got = score.score(&x, &times).unwrap();
    let sigmas: Vec<f32> = times.iter().map(|&t| sde.marginal(t).std as f32).collect();
    let sigmas = Tensor::new(sigmas, &Device::Cpu).unwrap();
    close_to(
        "score",
        &got,
        &net.forward(&x, &sigmas, None).unwrap(),
        1e-6,
    );
}

fn score_config() -> Value {
    rows("networks.json")[4]["config"].clone()
}

#[test]
fn configurations_that_cannot_be_built_are_named() {
    let huge = 1u64 << 40;
    for (section, field, value, words) in [
        ("model", "nf", json!(2), "nf is 2"),
        ("model", "nf", json!(huge), "nf is"),
        ("model", "nf", json!(37), "37 channels"),
        ("model", "ch_mult", json!([]), "ch_mult's length is 0"),
        ("model", "ch_mult", json!([1, huge]), "ch_mult is"),
        ("model", "ch_mult", json!([1, 2048]), "nf times ch_mult"),
        ("model", "ch_mult", json!([1, 1000, 1000]), "parameters"),
        ("model", "num_res_blocks", json!(0), "num_res_blocks is 0"),
        ("model", "num_res_blocks", json!(huge), "num_res_blocks"),
        ("model", "num_scales", json!(huge), "num_scales"),
        ("model", "dropout", json!(1.0), "dropout is 1"),
        ("model", "sigma_min", json!(-1.0), "sigma_min to sigma_max"),
        ("model", "fir_kernel", json!([1, -1]), "fir_kernel is"),
        ("model", "fourier_scale", json!(-1), "fourier_scale is -1"),
        ("data", "num_channels", json!(0), "num_channels is 0"),
        ("data", "image_size", json!(18), "image_size is 18"),
    ] {
        let mut config = score_config();
        config[section][field] = value.clone();
        let config: ScoreNetConfig = serde_json::from_value(config).unwrap();
        let message = config.check().unwrap_err().to_string();
        assert!(message.contains(words), "{field} {value}: {message}");
    }
    for (field, value, words) in [
        ("name", json!("ncsnv2"), "`ddpm` or `ncsnpp`"),
        ("progressive", json!("sideways"), "output_skip"),
        ("nonlinearity", json!("tanh"), "swish"),
    ] {
        let mut config = score_config();
        config["model"][field] = value;
        let message = serde_json::from_value::<ScoreNetConfig>(config)
            .unwrap_err()
            .to_string();
        assert!(message.contains(words), "{field}: {message}");
    }

    let skips = json!([
        "SkipDownBlock2D",
        "SkipDownBlock2D",
        "SkipDownBlock2D",
        "SkipDownBlock2D"
    ]);
    let late = json!([
        "DownBlock2D",
        "SkipDownBlock2D",
        "DownBlock2D",
        "DownBlock2D"
    ]);
    let early = json!(["UpBlock2D", "SkipUpBlock2D", "UpBlock2D", "UpBlock2D"]);
    for (changes, words) in [
        (json!({"block_out_channels": []}), "length is 0"),
        (
            json!({"block_out_channels": [32, 64]}),
            "down_block_types' length is 4",
        ),
        (
            json!({"block_out_channels": [32, 64, 64, huge]}),
            "block_out_channels is",
        ),
        (
            json!({"block_out_channels": [32, 64, 64, 80]}),
            "80 channels",
        ),
        (
            json!({"block_out_channels": [32768, 32768, 32768, 32768]}),
            "parameters",
        ),
        (json!({"layers_per_block": 0}), "layers_per_block is 0"),
        (json!({"downsample_padding": 2}), "downsample_padding is 2"),
        (
            json!({"attention_head_dim": 500}),
            "attention_head_dim is 500",
        ),
        (json!({"attention_head_dim": 0}), "attention_head_dim is 0"),
        (
            json!({"norm_num_groups": null}),
            "norm_num_groups is absent",
        ),
        (
            json!({"time_embedding_type": "learned"}),
            "num_train_timesteps is absent",
        ),
        (json!({"freq_shift": 200}), "freq_shift is 200"),
        (
            json!({"mid_block_scale_factor": 0}),
            "mid_block_scale_factor is 0",
        ),
        (json!({"norm_eps": -1e-5}), "norm_eps is"),
        (json!({"num_class_embeds": huge}), "num_class_embeds is"),
        (json!({"time_embedding_dim": huge}), "time_embedding_dim is"),
        (
            json!({"down_block_types": skips, "in_channels": 1}),
            "in_channels is 1",
        ),
        (json!({"down_block_types": late}), "down_block_types is"),
        (json!({"up_block_types": early}), "up_block_types is"),
    ] {
        let config: UNet2DConfig = serde_json::from_value(changes.clone()).unwrap();
        let message = config.check().unwrap_err().to_string();
        assert!(message.contains(words), "{changes}: {message}");
    }
    let unknown = json!({"down_block_types": ["CrossAttnDownBlock2D"]});
    let message = serde_json::from_value::<UNet2DConfig>(unknown)
        .unwrap_err()
        .to_string();
    assert!(message.contains("AttnDownBlock2D"), "{message}");
}

#[test]
fn tensors_and_inputs_that_do_not_fit_are_named() {
    let config = score_config();
    let (net, vars) = built("score_sde", &config, DType::F32);
    let tensors = |skip: &str, misshape: &str| -> HashMap<String, Tensor> {
        (vars.iter())
            .filter(|(name, _)| name != skip)
            .map(|(name, var)| {
                let t = var.as_tensor();
                let t = if name == misshape {
                    t.flatten_all().unwrap()
                } else {
                    t.clone()
                };
                (name.clone(), t)
            })
            .collect()
    };
    for (name, missing) in [
        ("all_modules.0.W", true),
        ("all_modules.4.Conv_1.weight", true),
        ("all_modules.8.NIN_2.W", false),
    ] {
        let map = if missing {
            tensors(name, "")
        } else {
            tensors("", name)
        };
        let vb = VarBuilder::from_tensors(map, DType::F32, &Device::Cpu);
        let message = Net::new("score_sde", &config, vb)
            .err()
            .unwrap()
            .to_string();
        assert!(message.contains(name), "{message}");
    }

    let zeros = |dims: &[usize]| Tensor::zeros(dims, DType::F32, &Device::Cpu).unwrap();
    let t = |v: &[f32]| Tensor::new(v, &Device::Cpu).unwrap();
    for (x, t, words) in [
        (zeros(&[1, 3, 10, 16]), t(&[1.0]), "divisible by 4"),
        (zeros(&[1, 4, 16, 16]), t(&[1.0]), "[1, 4, 16, 16]"),
        (zeros(&[3, 16, 16]), t(&[1.0]), "[3, 16, 16]"),
        (zeros(&[2, 3, 16, 16]), t(&[1.0]), "t has shape [1]"),
        (zeros(&[1, 3, 16, 16]), t(&[0.0]), "t is 0"),
        (zeros(&[1, 3, 16, 16]), t(&[f32::NAN]), "t is NaN"),
    ] {
        let message = net.forward(&x, &t, None, None).unwrap_err().to_string();
        assert!(message.contains(words), "{message}");
    }
    let mut positional = config.clone();
    positional["model"]["embedding_type"] = json!("positional");
    let (net, _) = built("score_sde", &positional, DType::F32);
    for v in [-1.0, 1000.0] {
        let x = zeros(&[1, 3, 16, 16]);
        let message = net.forward(&x, &t(&[v]), None, None).unwrap_err();
        assert!(message.to_string().contains("num_scales"), "{message}");
    }

    let small = json!({
        "block_out_channels": [32], "down_block_types": ["DownBlock2D"], "up_block_types": ["UpBlock2D"],
        "layers_per_block": 1, "num_class_embeds": 3,
    });
    let (net, _) = built("diffusers", &small, DType::F32);
    let x = zeros(&[2, 3, 4, 4]);
    let t = t(&[1.0, 2.0]);
    for (labels, words) in [
        (None, "labels is absent"),
        (
            Some(Tensor::new(&[1u32], &Device::Cpu).unwrap()),
            "labels has shape [1]",
        ),
        (
            Some(Tensor::new(&[1i64, 3], &Device::Cpu).unwrap()),
            "labels is 3",
        ),
        (
            Some(Tensor::new(&[1i64, -1], &Device::Cpu).unwrap()),
            "labels is -1",
        ),
    ] {
        let message = net.forward(&x, &t, labels.as_ref(), None).unwrap_err();
        assert!(message.to_string().contains(words), "{message}");
    }
}
