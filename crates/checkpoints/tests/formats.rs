//! Files as their programs write them, read to the bit.

mod common;

use candle_core::{DType, Tensor};
use checkpoints::pickle::Value;
use checkpoints::safetensors::{self, Precision};
use checkpoints::{Checkpoint, Dtype, Format, Layout, Parameters, Weights, difference};
use common::{case, cpu, golden, part, same, values, zip};
use std::collections::HashMap;

#[test]
fn every_type_and_stride_of_torch_save_is_read_to_the_bit() {
    let expected = Checkpoint::open(case("mixed.safetensors")).unwrap();
    assert_eq!(expected.metadata()["format"], "pt");
    for (name, missing) in [
        ("mixed.pth", None),
        ("mixed-4.pth", None),
        ("deflated.pth", None),
        ("legacy.pt", Some("tensors.u32")),
    ] {
        let file = Checkpoint::open(case(name)).unwrap();
        assert_eq!(file.format(), Format::Torch);
        let (extra, lacks) = difference(&file, expected.names());
        assert_eq!(
            (extra, lacks),
            (vec![], missing.into_iter().collect()),
            "{name}"
        );
        for tensor in file.names() {
            same(name, &file, &expected, tensor, tensor);
            if tensor != "tensors.bf16" {
                let (got, want) = (file.tensor(tensor, &cpu()), expected.tensor(tensor, &cpu()));
                assert_eq!(
                    values(&got.unwrap()),
                    values(&want.unwrap()),
                    "{name}: {tensor}"
                );
            }
        }
        let get = |name: &str| file.get(name).unwrap();
        assert_eq!(get("tensors.bool").dtype(), Dtype::BOOL);
        assert_eq!(get("tensors.transposed").strides(), [1, 6]);
        assert_eq!(get("tensors.slice").offset(), 8);
        assert_eq!(get("tensors.expanded").strides(), [0, 1]);
        assert!(!get("tensors.channels_last").is_contiguous());
        let keys: Vec<&str> = ["base", "slice", "column"]
            .map(|n| get(&format!("tensors.{n}")).storage().key())
            .into();
        assert_eq!(keys, [keys[0]; 3], "views share a storage");
    }
}

#[test]
fn what_is_no_tensor_is_read_too() {
    for name in ["mixed.pth", "mixed-4.pth", "deflated.pth", "legacy.pt"] {
        let file = Checkpoint::open(case(name)).unwrap();
        let root = file.value().and_then(Value::as_dict).unwrap();
        let list = |key: &str| format!("{:?}", root.get(key).unwrap().as_list().unwrap());
        assert_eq!(
            list("integers"),
            "[Int(0), Int(-1), Int(255), Int(65535), Int(65536), Int(-2147483648), Int(2147483648), \
             Int(4611686018427387904), Int(-9223372036854775808), Int(18446744073709551616)]"
        );
        assert_eq!(
            list("numpy"),
            "[Float(0.5), Float(0.25), Int(-3), Bool(true)]"
        );
        assert_eq!(list("size"), "[Int(4), Int(6)]");
        assert!(matches!(
            root.get("list").unwrap().as_list().unwrap()[2],
            Value::None
        ));
        for (key, value) in [
            ("float", "0.1"),
            ("truth.1", "false"),
            ("device", "cpu"),
            ("dtype", "torch.float32"),
            ("unicode", "ä✓"),
            ("3", "an integer as a key"),
            ("list.1.1", "text"),
        ] {
            assert_eq!(file.metadata()[key], value, "{name}");
        }
        let ordered: Vec<String> = root
            .get("ordered")
            .unwrap()
            .as_dict()
            .unwrap()
            .iter()
            .map(|(k, _)| k.to_string())
            .collect();
        assert_eq!(ordered, ["b", "a"]);
    }
}

#[test]
fn pickles_of_numpys_arrays_are_read() {
    for protocol in [2, 3, 4] {
        let name = format!("arrays-{protocol}.pkl");
        let file = Checkpoint::open(case(&name)).unwrap();
        let found = |name: &str| file.tensor(name, &cpu()).unwrap();
        let want: Vec<f64> = (0..24).map(|i| f64::from(i as f32 / 7.0)).collect();
        for tensor in ["layer.kernel", "layer.turned"] {
            assert_eq!(found(tensor).dims(), [2, 3, 4], "{name}");
            assert_eq!(values(&found(tensor)), want, "{name}: {tensor}");
        }
        assert_eq!(file.get("layer.turned").unwrap().strides(), [1, 2, 6]);
        assert_eq!(file.get("layer.half").unwrap().dtype(), Dtype::F16);
        assert_eq!(values(&found("steps")), [3.0, -4.0]);
        assert_eq!(values(&found("alone")), [0.25]);
        assert_eq!(found("alone").rank(), 0);
        assert_eq!(file.metadata()["scalar"], "0.5");
        // Cut anywhere, it is an error and no panic.
        let whole = std::fs::read(case(&name)).unwrap();
        for cut in 0..whole.len() {
            assert!(Checkpoint::from_bytes(&name, whole[..cut].to_vec()).is_err());
        }
    }
}

#[test]
fn archives_without_checksums_and_with_wide_sizes_are_read() {
    let plain = Checkpoint::open(case("unchecked.pth")).unwrap();
    assert_eq!(values(&plain.tensor("a", &cpu()).unwrap()), [1.0, 1.0]);

    let pickle = common::Pickle::default()
        .raw(b"}")
        .text("a")
        .tensor("torch.FloatStorage", 2, 0, &[2], &[1])
        .raw(b"s")
        .end();
    let mut parts = vec![
        part("x/data.pkl", &pickle),
        part("x/data/0", &[0, 0, 128, 63, 0, 0, 0, 64]),
        part("x/byteorder", b"little"),
    ];
    for wide in [false, true] {
        for p in &mut parts {
            p.wide = wide;
        }
        for ending in [b"".as_slice(), b"a comment"] {
            let mut bytes = zip(&parts, wide);
            let at = bytes.len() - 2;
            bytes[at] = ending.len() as u8;
            bytes.extend(ending);
            let file = Checkpoint::from_bytes("x", bytes).unwrap();
            assert_eq!(values(&file.tensor("a", &cpu()).unwrap()), [1.0, 2.0]);
        }
    }
}

#[test]
fn opening_reads_no_values() {
    // The values of the storage are damaged: names and shapes are told, reading is refused.
    let mut bytes = std::fs::read(case("mixed.pth")).unwrap();
    let at = {
        let archive = checkpoints::zip::Archive::read(&bytes).unwrap();
        let file = Checkpoint::open(case("mixed.pth")).unwrap();
        let key = file.get("tensors.base").unwrap().storage().key();
        archive
            .get(&format!("mixed/data/{key}"))
            .unwrap()
            .span
            .start
    };
    bytes[at + 2] ^= 1;
    let file = Checkpoint::from_bytes("damaged.pth", bytes).unwrap();
    assert_eq!(file.get("tensors.base").unwrap().shape(), [4, 6]);
    let error = file
        .tensor("tensors.slice", &cpu())
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("damaged.pth: tensor tensors.slice: the checksum"),
        "{error}"
    );
    assert!(file.tensor("tensors.i64", &cpu()).is_ok());
}

#[test]
fn models_are_found_in_their_checkpoints() {
    let averaged = Checkpoint::open(case("averaged.pth")).unwrap();
    assert_eq!(averaged.layout().unwrap(), Layout::Averaged);
    let names = |c: &Checkpoint| c.names().map(String::from).collect::<Vec<_>>();
    let network = ["first.weight", "first.bias", "steps"];
    let mut state = names(&averaged.state_dict(Parameters::Averaged).unwrap());
    state.sort();
    assert_eq!(state, ["first.bias", "first.weight", "steps"]);

    let pair = Checkpoint::open(case("pair.pth")).unwrap();
    assert_eq!(pair.layout().unwrap(), Layout::Pair);
    assert_eq!(pair.metadata()["epoch"], "3");
    for which in [Parameters::Averaged, Parameters::Trained] {
        let state = pair.state_dict(which).unwrap();
        assert_eq!(difference(&state, network), (vec![], vec![]));
    }
    assert_eq!(
        difference(
            &pair.part("model_state_dict.").unwrap(),
            ["first.weight", "more"]
        ),
        (vec!["steps", "first.bias"], vec!["more"])
    );

    let mixed = Checkpoint::open(case("mixed.pth")).unwrap();
    let error = mixed
        .state_dict(Parameters::Averaged)
        .unwrap_err()
        .to_string();
    assert!(error.contains("list, ordered, tensors"), "{error}");
    let error = mixed.part("model.").unwrap_err().to_string();
    assert!(error.contains("begins with \"model.\""), "{error}");
}

#[test]
fn golden_checkpoints_are_read() {
    for (name, layout) in [
        ("wmgm-generator/weights.pth", Layout::Plain),
        ("wmgm-discriminator/weights.pth", Layout::Plain),
        ("improved-diffusion-unet-0/model.pt", Layout::Plain),
        ("improved-diffusion-unet-1/model.pt", Layout::Plain),
        ("wsgm-cascade/weights.pth", Layout::Pair),
        ("score-sde-net-ddpm/checkpoint.pth", Layout::ScoreSde),
        ("score-sde-net-ddpmpp/checkpoint.pth", Layout::ScoreSde),
        ("score-sde-net-ncsnpp-ve/checkpoint.pth", Layout::ScoreSde),
    ] {
        let Some(path) = golden(name) else { continue };
        let file = Checkpoint::open(&path).unwrap();
        assert_eq!(file.layout().unwrap(), layout, "{name}");
        let trained = file.state_dict(Parameters::Trained).unwrap();
        let averaged = file.state_dict(Parameters::Averaged).unwrap();
        assert!(trained.len() > 20 && trained.names().all(|n| !n.starts_with("module.")));
        for tensor in trained
            .names()
            .filter(|n| trained.get(n).unwrap().dtype() == Dtype::F32)
        {
            let of = |c: &Checkpoint| values(&c.tensor(tensor, &cpu()).unwrap());
            let (raw, mean) = (of(&trained), of(&averaged));
            assert!(raw.iter().all(|v| v.is_finite()));
            // In these cases an average is half its parameter, and frozen ones have none.
            let frozen = trained.get(tensor).unwrap().shape().len() == 1 && tensor.ends_with(".W");
            if file
                .value()
                .unwrap()
                .as_dict()
                .unwrap()
                .get("ema")
                .is_some()
                && !frozen
            {
                assert!(
                    raw.iter().zip(&mean).all(|(r, m)| *m == 0.5 * r),
                    "{name}: {tensor}"
                );
            } else if layout != Layout::Pair {
                assert_eq!(raw, mean, "{name}: {tensor}");
            }
        }
    }
}

#[test]
fn averages_must_fit_their_parameters() {
    let file = Checkpoint::open(case("pair.pth")).unwrap();
    let model = file.part("model_state_dict.").unwrap();
    let [weight, bias] = ["first.weight", "first.bias"].map(|n| model.get(n).unwrap().clone());
    let untrained = |name: &str, _: &_| name == "steps";
    let with = |averages| model.with_averages(averages, &untrained);
    assert!(with(vec![weight.clone(), bias.clone()]).is_ok());
    for (averages, expected) in [
        (vec![], "first.weight has no average: there are 0"),
        (vec![weight.clone()], "first.bias has no average"),
        (
            vec![bias.clone(), weight.clone()],
            "first.weight has shape [2, 3], and average 0",
        ),
        (vec![weight, bias.clone(), bias], "3 averages for 2"),
    ] {
        let error = with(averages).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn safetensors_are_written_whole_and_read_back() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    let floats = Tensor::new(&[[1f32, -2.5], [3e-6, 65504.0]], &cpu()).unwrap();
    let tensors: HashMap<String, Tensor> = [
        ("w", floats.clone()),
        ("turned", floats.t().unwrap()),
        ("count", Tensor::new(&[3i64], &cpu()).unwrap()),
    ]
    .map(|(n, t)| (n.to_owned(), t))
    .into();
    for (precision, dtype) in [
        (None, DType::F32),
        (Some(Precision::F32), DType::F32),
        (Some(Precision::F16), DType::F16),
        (Some(Precision::BF16), DType::BF16),
    ] {
        let metadata = HashMap::from([("step".to_owned(), "7".to_owned())]);
        safetensors::write(&path, tensors.clone(), precision, Some(metadata)).unwrap();
        let file = Checkpoint::open(&path).unwrap();
        assert_eq!(file.metadata()["step"], "7");
        for name in ["w", "turned"] {
            let got = file.tensor(name, &cpu()).unwrap();
            assert_eq!(got.dtype(), dtype);
            assert_eq!(
                values(&got),
                values(&tensors[name].to_dtype(dtype).unwrap())
            );
        }
        assert_eq!(
            file.tensor("count", &cpu())
                .unwrap()
                .to_vec1::<i64>()
                .unwrap(),
            [3]
        );
        assert_eq!(
            std::fs::read_dir(folder.path()).unwrap().count(),
            1,
            "no temporary is left"
        );
        // A folder is opened by the names of its files.
        assert_eq!(Checkpoint::open(folder.path()).unwrap().len(), 3);
    }
    let large = HashMap::from([("big".to_owned(), Tensor::new(&[1e6f32], &cpu()).unwrap())]);
    let error = safetensors::write(&path, large, Some(Precision::F16), None).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("tensor big has values that F16 cannot hold"),
        "{error}"
    );
    assert_eq!(
        Checkpoint::open(&path).unwrap().len(),
        3,
        "what was there is untouched"
    );
    let error = safetensors::write(&folder.path().join("no/where"), HashMap::new(), None, None);
    assert!(error.unwrap_err().to_string().starts_with("cannot write"));
}

#[test]
fn sharded_models_are_one() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    for (file, tensor, value) in [("a.safetensors", "x", 1f32), ("b.safetensors", "y", 2.0)] {
        let t = Tensor::new(&[value], &cpu()).unwrap();
        safetensors::write(
            &at(file),
            HashMap::from([(tensor.to_owned(), t)]),
            None,
            None,
        )
        .unwrap();
    }
    let index = at("diffusion_pytorch_model.safetensors.index.json");
    let write = |map: &str| {
        std::fs::write(
            &index,
            format!(r#"{{"metadata":{{"total_size":8}},"weight_map":{map}}}"#),
        )
    };
    write(r#"{"x":"a.safetensors","y":"b.safetensors"}"#).unwrap();
    let file = Checkpoint::open(folder.path()).unwrap();
    assert_eq!(file.format(), Format::Sharded);
    assert_eq!(values(&file.tensor("y", &cpu()).unwrap()), [2.0]);
    for (map, expected) in [
        (
            r#"{"x":"b.safetensors"}"#,
            "b.safetensors: tensor x is missing",
        ),
        (
            r#"{"x":"a.safetensors","z":"a.safetensors"}"#,
            "tensor z is missing",
        ),
        (
            r#"{"x":"../a.safetensors"}"#,
            "no name of a file beside the index",
        ),
        (
            r#"{"x":"/etc/passwd"}"#,
            "no name of a file beside the index",
        ),
        (r#"{"x":"c.safetensors"}"#, "cannot read"),
        ("{}", "names 0 files"),
        ("[]", "no index"),
        (r#"{"x":3}"#, "no index"),
    ] {
        write(map).unwrap();
        let error = Checkpoint::open(&index).unwrap_err().to_string();
        assert!(error.contains(expected), "{map}: {error}");
    }
}

#[test]
fn networks_take_their_weights_and_the_rest_is_told() {
    let file = Checkpoint::open(case("pair.pth")).unwrap();
    let state = file.part("model_state_dict.first.").unwrap();
    let weights = Weights::load(&state, &cpu()).unwrap();
    assert_eq!(weights.count(), 8);
    let vb = weights.builder(&cpu());
    assert_eq!(vb.get((2, 3), "weight").unwrap().dims(), [2, 3]);
    assert_eq!(weights.unused(), ["bias"]);
    let error = vb.get((3, 2), "weight").unwrap_err().to_string();
    assert!(
        error.contains("tensor weight has shape [2, 3], the network needs [3, 2]"),
        "{error}"
    );
    let error = vb.get(2, "more").unwrap_err().to_string();
    assert!(error.contains("tensor more is missing"), "{error}");
    let error = Weights::load(&file, &cpu()).unwrap_err().to_string();
    assert!(
        error.contains("steps is I64; expected F16, BF16 or F32"),
        "{error}"
    );
}

#[test]
fn folders_are_opened_by_the_names_of_their_files() {
    let folder = tempfile::tempdir().unwrap();
    let error = Checkpoint::open(folder.path()).unwrap_err().to_string();
    assert!(
        error.contains("neither the folder nor its unet holds any of"),
        "{error}"
    );
    let unet = folder.path().join("unet");
    std::fs::create_dir(&unet).unwrap();
    std::fs::copy(
        case("averaged.pth"),
        unet.join("diffusion_pytorch_model.bin"),
    )
    .unwrap();
    assert_eq!(
        Checkpoint::open(folder.path()).unwrap().format(),
        Format::Torch
    );
    // Safetensors come first.
    let better = unet.join("diffusion_pytorch_model.safetensors");
    std::fs::copy(case("mixed.safetensors"), better).unwrap();
    assert_eq!(
        Checkpoint::open(folder.path()).unwrap().format(),
        Format::Safetensors
    );
}
