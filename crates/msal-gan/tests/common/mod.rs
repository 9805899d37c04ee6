//! Cases computed by the official program: those committed in `tests/cases` and those of the golden folder, that of
//! WMGM_GOLDEN or by default `../shared/golden` beside the workspace where it exists.
#![allow(dead_code, missing_docs)] // Each test binary uses a part of it.

use candle_core::{DType, Device, Tensor};
use msal_gan::official::{Discriminator, DiscriminatorConfig, Generator, GeneratorConfig};
use nn_ops::Params;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

pub struct Case {
    pub name: String,
    pub folder: PathBuf,
    pub config: serde_json::Value,
    tensors: HashMap<String, Tensor>,
}

impl Case {
    pub fn open(folder: PathBuf) -> Self {
        let text = std::fs::read_to_string(folder.join("case.json")).unwrap();
        let json: serde_json::Value = serde_json::from_str(&text).unwrap();
        Self {
            name: folder.display().to_string(),
            config: json["config"].clone(),
            tensors: candle_core::safetensors::load(folder.join("io.safetensors"), &Device::Cpu)
                .unwrap(),
            folder,
        }
    }

    /// Another case of the same source.
    pub fn beside(&self, name: &str) -> Self {
        Self::open(self.folder.parent().unwrap().join(name))
    }

    pub fn get(&self, name: &str) -> Tensor {
        self.tensors
            .get(name)
            .unwrap_or_else(|| panic!("{} has no tensor {name}", self.name))
            .clone()
    }

    /// Names that begin so, without the beginning.
    pub fn names(&self, prefix: &str) -> Vec<String> {
        self.tensors
            .keys()
            .filter_map(|k| k.strip_prefix(prefix))
            .map(String::from)
            .collect()
    }

    pub fn close(&self, name: &str, got: &Tensor, tolerance: f64) {
        let want = self.get(name);
        // Scalars are stored as vectors of one element.
        let want = if got.rank() == 0 {
            want.squeeze(0).unwrap()
        } else {
            want
        };
        close(&format!("{}: {name}", self.name), got, &want, tolerance);
    }

    fn weights(&self, params: &Params) {
        let all = candle_core::pickle::read_all(self.folder.join("weights.pth")).unwrap();
        let known: Vec<String> = params.named().into_iter().map(|(name, _)| name).collect();
        let mut found: Vec<String> = all.iter().map(|(name, _)| name.clone()).collect();
        found.retain(|name| !name.ends_with("num_batches_tracked"));
        found.sort();
        assert_eq!(known, found, "{}: the names of the state_dict", self.name);
        params.load(&all.into_iter().collect()).unwrap();
    }

    pub fn generator(&self) -> (Generator, Params) {
        let config: GeneratorConfig = serde_json::from_value(self.config.clone()).unwrap();
        let params = Params::new(0);
        let net = Generator::new(config, params.builder(&Device::Cpu)).unwrap();
        self.weights(&params);
        (net, params)
    }

    /// Without dropout, as all cases were made.
    pub fn discriminator(&self) -> (Discriminator, Params) {
        let mut config: DiscriminatorConfig = serde_json::from_value(self.config.clone()).unwrap();
        config.dropout = 0.0;
        let params = Params::new(0);
        let net = Discriminator::new(config, params.builder(&Device::Cpu)).unwrap();
        self.weights(&params);
        (net, params)
    }
}

/// All cases whose name begins so; at least the committed ones.
pub fn cases(prefix: &str) -> Vec<Case> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let beside = here.join("../../../shared/golden");
    let golden = std::env::var_os("WMGM_GOLDEN").map_or(beside, PathBuf::from);
    let mut folders = Vec::new();
    for root in [here.join("tests/cases"), golden] {
        let Ok(entries) = std::fs::read_dir(&root) else {
            eprintln!(
                "no golden folder at {}: only committed cases are tested",
                root.display()
            );
            continue;
        };
        folders.extend(entries.map(|e| e.unwrap().path()).filter(|f| {
            f.is_dir()
                && f.file_name()
                    .is_some_and(|n| n.to_string_lossy().starts_with(prefix))
        }));
    }
    assert!(!folders.is_empty(), "no case {prefix} is committed");
    folders.sort();
    folders.into_iter().map(Case::open).collect()
}

pub fn values(t: &Tensor) -> Vec<f64> {
    t.to_dtype(DType::F64)
        .unwrap()
        .flatten_all()
        .unwrap()
        .to_vec1()
        .unwrap()
}

/// max |got - want| <= tolerance * max(1, max |want|).
pub fn close(what: &str, got: &Tensor, want: &Tensor, tolerance: f64) {
    assert_eq!(got.dims(), want.dims(), "{what}");
    let (got, want) = (values(got), values(want));
    let scale = want.iter().fold(1f64, |m, v| m.max(v.abs()));
    for (i, (a, b)) in got.iter().zip(&want).enumerate() {
        assert!(
            (a - b).abs() <= tolerance * scale,
            "{what}[{i}]: {a} instead of {b}"
        );
    }
}

/// Deterministic values in about [-1, 1].
pub fn wave(shape: &[usize], seed: f64) -> Tensor {
    let len = shape.iter().product();
    let data: Vec<f32> = (0..len)
        .map(|i| ((i as f64 * 0.7312 + seed).sin() * 43_758.545_3).fract() as f32)
        .collect();
    Tensor::from_vec(data, shape, &Device::Cpu).unwrap()
}
