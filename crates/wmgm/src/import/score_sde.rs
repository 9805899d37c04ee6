//! Networks of score_sde. Its checkpoints carry no configuration, and tensors tell the order of blocks but nothing of what
//! has no parameters: filters, activations, divisions. Those are asked for, the rest is found.

use super::given::Given;
use super::{Imported, ImportedModel};
use crate::error::{Error, Result};
use crate::sgm::{NetworkConfig, ProcessConfig, SampleConfig, SdeConfig, SgmConfig};
use checkpoints::Checkpoint;
use score_sde::ScoreNetConfig;
use score_sde::sampler::{Corrector, Predictor, PredictorCorrector};
use score_sde::sde::{Process, SubVp, Ve, Vp};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, HashMap};

const WHOSE: &str = "score_sde";
/// The most modules of a network that is looked at.
const MAX_MODULES: usize = 4000;

/// The sections of a configuration: `model`, `data`, `training`, `sampling`; fields of `model` may stand by themselves.
struct Sections(BTreeMap<&'static str, Map<String, Value>>);

impl Sections {
    fn of(given: &mut Given) -> Result<Self> {
        let mut fields = given.all();
        let mut sections = BTreeMap::new();
        for name in ["model", "data", "training", "sampling"] {
            match fields.remove(name) {
                Some(Value::Object(section)) => sections.insert(name, section),
                None => continue,
                Some(other) => {
                    return Err(given.bad(format!("{name} is {other}, it must be a section")));
                }
            };
        }
        for passed in ["eval", "optim", "seed", "device"] {
            fields.remove(passed);
        }
        if let Some(name) = fields
            .keys()
            .next()
            .filter(|_| sections.contains_key("model"))
        {
            return Err(given.bad(format!(
                "{name} is no section of score_sde that is known here; known are model, data, training, sampling"
            )));
        }
        sections.entry("model").or_insert(fields);
        Ok(Self(sections))
    }

    fn get(&self, section: &str, field: &str) -> Option<&Value> {
        self.0.get(section)?.get(field).filter(|v| !v.is_null())
    }

    /// A field as a type, if it is there.
    fn field<T: serde::de::DeserializeOwned>(
        &self,
        given: &Given,
        section: &str,
        field: &str,
    ) -> Result<Option<T>> {
        let found = self.get(section, field).cloned();
        found
            .map(serde_json::from_value)
            .transpose()
            .map_err(|e| given.bad(format!("{section}.{field}: {e}")))
    }
}

pub(super) fn read(state: Checkpoint, mut given: Given) -> Result<Imported> {
    let sections = Sections::of(&mut given)?;
    let ddpm = sections.get("model", "name").and_then(Value::as_str) == Some("ddpm");
    let untold = [
        ("model", "name", "ddpm or ncsnpp"),
        (
            "model",
            "scale_by_sigma",
            "whether outputs are divided by sigma",
        ),
        (
            "model",
            "skip_rescale",
            "whether sums are divided by sqrt 2",
        ),
        ("model", "fir", "whether sizes change with a FIR filter"),
        ("data", "image_size", "height and width of the pictures"),
        ("data", "centered", "whether pictures are in [-1, 1]"),
        ("training", "sde", "vpsde, subvpsde or vesde"),
        (
            "training",
            "continuous",
            "whether it was trained at all times",
        ),
    ];
    for (section, field, what) in untold {
        let unused = ddpm && matches!(field, "skip_rescale" | "fir");
        if sections.get(section, field).is_none() && !unused {
            given.miss(&format!("{section}.{field}"), what);
        }
    }
    given.finish(WHOSE)?;

    let (network, mut notes) = network(&state, &sections, &given)?;
    let mut wanted = network.tensors()?;
    if let Some(levels) = state.get("sigmas") {
        wanted.push(("sigmas".into(), levels.shape().to_vec()));
    }
    state.accounts_for("a network of score_sde", &wanted)?;
    let (process, sample) = process(&network, &sections, &given, &mut notes)?;
    let size = [network.data.image_size; 2];
    let network = NetworkConfig::ScoreSde(network);
    let config = SgmConfig::new(size, network, process, sample);
    config.check().map_err(|e| given.bad(e))?;
    Ok(Imported {
        model: ImportedModel::Sgm(Box::new(config)),
        state,
        notes,
    })
}

/// What a numbered module is, by its tensors.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Module {
    Frequencies,
    Linear,
    /// Channels out and in.
    Conv(usize, usize),
    Norm,
    Res {
        ci: usize,
        co: usize,
        /// The skip is a 3 x 3-free convolution of BigGAN's block.
        conv: bool,
    },
    Attention,
    /// Anything else, also nothing: changes of size and joints of paths.
    Other,
}

/// The modules in their order.
fn modules(state: &Checkpoint) -> Result<Vec<Module>> {
    let mut parts: HashMap<usize, Vec<(&str, &[usize])>> = HashMap::new();
    for (name, tensor) in state.iter() {
        let rest = name.strip_prefix("all_modules.");
        let Some((index, rest)) = rest.and_then(|rest| rest.split_once('.')) else {
            continue;
        };
        if let Ok(index) = index.parse() {
            parts.entry(index).or_default().push((rest, tensor.shape()));
        }
    }
    let count = parts.keys().max().map_or(0, |last| last.saturating_add(1));
    if count > MAX_MODULES {
        return Err(Error::Argument(format!(
            "{}: {count} modules are no network of score_sde",
            state.path().display()
        )));
    }
    let kind = |i: usize| {
        let none = Vec::new();
        let tensors = parts.get(&i).unwrap_or(&none);
        let shape = |name: &str| tensors.iter().find(|(n, _)| *n == name).map(|(_, s)| *s);
        match (
            shape("W"),
            shape("NIN_3.W"),
            shape("GroupNorm_0.weight"),
            shape("weight"),
        ) {
            (Some(_), ..) => Module::Frequencies,
            (_, Some(_), ..) => Module::Attention,
            (_, _, Some(_), _) => match shape("Conv_0.weight") {
                Some(&[co, ci, ..]) => Module::Res {
                    ci,
                    co,
                    conv: shape("Conv_2.weight").is_some(),
                },
                _ => Module::Other,
            },
            (_, _, _, Some([_])) => Module::Norm,
            (_, _, _, Some([_, _])) => Module::Linear,
            (_, _, _, Some(&[co, ci, _, _])) => Module::Conv(co, ci),
            _ => Module::Other,
        }
    };
    Ok((0..count).map(kind).collect())
}

/// Widths of the levels and which of them have attention, if each has so many blocks.
fn levels(modules: &[Module], blocks: usize) -> Option<(Vec<usize>, Vec<bool>)> {
    let (mut widths, mut attended) = (Vec::new(), Vec::new());
    let mut at = 0;
    loop {
        let (mut width, mut attends) = (0, false);
        for _ in 0..blocks {
            let Module::Res { co, .. } = *modules.get(at)? else {
                return None;
            };
            width = co;
            at += 1;
            if modules.get(at) == Some(&Module::Attention) {
                attends = true;
                at += 1;
            }
        }
        widths.push(width);
        attended.push(attends);
        match *modules.get(at)? {
            // BigGAN's blocks have a convolution in their skip without need only where they halve.
            Module::Res { ci, co, conv: true } if ci == co => at += 1,
            Module::Other => {}
            _ => return Some((widths, attended)),
        }
        while modules.get(at) == Some(&Module::Other) {
            at += 1;
        }
        if widths.len() > 12 {
            return None;
        }
    }
}

/// The network: what is given, completed by what the tensors tell.
fn network(
    state: &Checkpoint,
    sections: &Sections,
    given: &Given,
) -> Result<(ScoreNetConfig, Vec<String>)> {
    let section = |name: &str| sections.0.get(name).cloned().unwrap_or_default();
    let (mut model, mut data) = (section("model"), section("data"));
    let mut notes = Vec::new();
    if !model.contains_key("nonlinearity") {
        notes.push("nonlinearity is not told by the tensors: swish, as in all of score_sde's configurations".into());
    }
    // The buffer has the most noise first.
    if let Some(stored) = state.get("sigmas").filter(|t| t.shape().len() == 1) {
        let values = stored
            .load(&candle_core::Device::Cpu)
            .map_err(|e| given.bad(e))?;
        let values: Vec<f64> = values.to_dtype(candle_core::DType::F64)?.to_vec1()?;
        model.entry("num_scales").or_insert(json!(values.len()));
        if let (Some(most), Some(least)) = (values.first(), values.last())
            && *least > 0.0
            && least <= most
        {
            model.entry("sigma_max").or_insert(json!(most));
            model.entry("sigma_min").or_insert(json!(least));
        }
    }
    let complete = |model: &Map<String, Value>, data: &Map<String, Value>| {
        let value = json!({ "model": model, "data": data });
        serde_json::from_value::<ScoreNetConfig>(value)
    };
    let told = [
        "nf",
        "ch_mult",
        "num_res_blocks",
        "attn_resolutions",
        "resamp_with_conv",
        "conditional",
    ];
    let options = [
        "resblock_type",
        "progressive",
        "progressive_input",
        "progressive_combine",
        "embedding_type",
    ];
    let ddpm = model.get("name") == Some(&json!("ddpm"));
    let all = |names: &[&str]| names.iter().all(|n| model.contains_key(*n));
    if all(&told) && (ddpm || all(&options)) && data.contains_key("num_channels") {
        let config = complete(&model, &data).map_err(|e| given.bad(e.to_string()))?;
        return Ok((config, notes));
    }

    let unclear = || {
        given.bad(format!(
            "{}: its {} tensors are not those of a network of score_sde with these fields; give {} and {}",
            state.path().display(),
            state.len(),
            told.join(", "),
            options.join(", ")
        ))
    };
    let mut modules = modules(state)?;
    let random = modules.first() == Some(&Module::Frequencies);
    let first = (modules.iter())
        .position(|m| matches!(m, Module::Conv(..)))
        .ok_or_else(unclear)?;
    let conditional = modules[..first].contains(&Module::Linear);
    let Module::Conv(nf, channels) = modules[first] else {
        return Err(unclear());
    };
    modules.drain(..=first);
    let size = data.get("image_size").and_then(Value::as_u64).unwrap_or(0) as usize;
    let put = |map: &mut Map<String, Value>, name: &str, value: Value| {
        map.entry(name).or_insert(value);
    };
    put(&mut data, "num_channels", json!(channels));
    put(&mut model, "nf", json!(nf));
    put(&mut model, "conditional", json!(conditional));
    let embedding = if random { "fourier" } else { "positional" };
    put(&mut model, "embedding_type", json!(embedding));
    for blocks in 1..=16 {
        let Some((widths, attended)) = levels(&modules, blocks) else {
            continue;
        };
        let even = widths.iter().all(|w| nf > 0 && w.is_multiple_of(nf));
        if !even {
            continue;
        }
        let mults: Vec<usize> = widths.iter().map(|w| w / nf).collect();
        let attended = attended.iter().enumerate().filter(|(_, a)| **a);
        let attended: Vec<usize> = attended.map(|(level, _)| size >> level).collect();
        for choice in 0..2 * 2 * 3 * 3 * 2 {
            let pick = |names: &[&str], place: usize| json!(names[choice / place % names.len()]);
            let mut model = model.clone();
            let paths = ["none", "output_skip", "residual"];
            let inputs = ["none", "input_skip", "residual"];
            for (name, value) in [
                ("num_res_blocks", json!(blocks)),
                ("ch_mult", json!(mults)),
                ("attn_resolutions", json!(attended)),
                ("resblock_type", pick(&["biggan", "ddpm"], 1)),
                ("resamp_with_conv", json!(choice / 2 % 2 == 0)),
                ("progressive", pick(&paths, 4)),
                ("progressive_input", pick(&inputs, 12)),
                ("progressive_combine", pick(&["sum", "cat"], 36)),
            ] {
                model.entry(name).or_insert(value);
            }
            let config = complete(&model, &data).map_err(|e| given.bad(e.to_string()))?;
            let Ok(wanted) = config.tensors() else {
                continue;
            };
            let fits = |(name, shape): &(String, Vec<usize>)| {
                state
                    .get(name)
                    .is_some_and(|t| t.shape() == shape.as_slice())
            };
            let others = usize::from(state.get("sigmas").is_some());
            if wanted.len() + others == state.len() && wanted.iter().all(fits) {
                return Ok((config, notes));
            }
        }
    }
    Err(unclear())
}

/// The process and the default sampler.
fn process(
    network: &ScoreNetConfig,
    sections: &Sections,
    given: &Given,
    notes: &mut Vec<String>,
) -> Result<(ProcessConfig, SampleConfig)> {
    let name: String = sections
        .field(given, "training", "sde")?
        .unwrap_or_default();
    let continuous = sections
        .field(given, "training", "continuous")?
        .unwrap_or(true);
    let m = &network.model;
    let beta = |field: &str, default: f64| -> Result<f64> {
        Ok(sections.field(given, "model", field)?.unwrap_or(default))
    };
    let (beta_min, beta_max) = (beta("beta_min", 0.1)?, beta("beta_max", 20.0)?);
    let num_scales = m.num_scales;
    let (process, eps) = match name.as_str() {
        "vpsde" => {
            let vp = Vp {
                beta_min,
                beta_max,
                num_scales,
            };
            (Process::Vp(vp), 1e-3)
        }
        "subvpsde" => {
            let sub = SubVp {
                beta_min,
                beta_max,
                num_scales,
            };
            (Process::SubVp(sub), 1e-3)
        }
        "vesde" => {
            let ve = Ve {
                sigma_min: m.sigma_min,
                sigma_max: m.sigma_max,
                num_scales,
            };
            (Process::Ve(ve), 1e-5)
        }
        other => {
            return Err(given.bad(format!(
                "training.sde is {other:?}; known are vpsde, subvpsde, vesde"
            )));
        }
    };
    // What its configurations choose for each process.
    let (predictor, corrector) = match (&process, continuous) {
        (Process::Ve(_), _) => (Predictor::ReverseDiffusion, Corrector::Langevin),
        (Process::Vp(_), false) => (Predictor::AncestralSampling, Corrector::None),
        _ => (Predictor::EulerMaruyama, Corrector::None),
    };
    if !sections.0.contains_key("sampling") {
        notes.push(format!(
            "there is no section sampling: {predictor:?} with {corrector:?}, as score_sde's configurations have it for {name}"
        ));
    }
    let default = PredictorCorrector::default();
    let options = PredictorCorrector {
        predictor: sections
            .field(given, "sampling", "predictor")?
            .unwrap_or(predictor),
        corrector: sections
            .field(given, "sampling", "corrector")?
            .unwrap_or(corrector),
        snr: sections
            .field(given, "sampling", "snr")?
            .unwrap_or(default.snr),
        n_steps_each: sections
            .field(given, "sampling", "n_steps_each")?
            .unwrap_or(1),
        probability_flow: sections
            .field(given, "sampling", "probability_flow")?
            .unwrap_or(false),
        noise_removal: sections
            .field(given, "sampling", "noise_removal")?
            .unwrap_or(true),
        eps,
        ..default
    };
    let method: Option<String> = sections.field(given, "sampling", "method")?;
    let sampler = match method.as_deref() {
        Some("ode") => "probability_flow",
        None | Some("pc") => "predictor_corrector",
        Some(other) => {
            return Err(given.bad(format!("sampling.method is {other:?}; known are pc, ode")));
        }
    };
    let sample = SampleConfig {
        sampler: sampler.into(),
        steps: num_scales,
        predictor_corrector: options,
    };
    let process = ProcessConfig::ScoreSde(SdeConfig {
        process,
        continuous,
        centered: network.data.centered,
    });
    Ok((process, sample))
}
