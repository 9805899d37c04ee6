//! A run's folder: one run and one process at a time, and what a resumed run must have in common with its beginning.

use super::TrainOptions;
use super::data::TrainData;
use super::run::{checkpoint_path, metrics_path};
use super::start::Start;
use crate::bundle::Init;
use crate::config::RunConfig;
use crate::error::{Error, Result};
use crate::files::{claim, read_json, remove_stale, write_atomic};
use std::fs::File;
use std::io::Write;
use std::path::Path;

const CONFIG: &str = "config.toml";
pub(super) const BANDS: &str = "bands.json";

/// What may change while a run is interrupted: lengths, paces, reports and names, but nothing that says what the tensors
/// of a checkpoint are or mean. A trailing dot stands for all fields below.
const FREE: [&str; 6] = [
    "name",
    "precision",
    "licence",
    "attribution",
    "sample.",
    "report.",
];
/// The same below a diffusion.
const FREE_DIFFUSION: [&str; 8] = [
    "optim.",
    "clip",
    "unet.dropout",
    "edm.p_mean",
    "edm.p_std",
    "edm.sigma_min",
    "edm.sigma_max",
    "edm.rho",
];
/// The same below the details' generator.
const FREE_HIGH: [&str; 6] = [
    "optim.",
    "discriminator_lr",
    "l1",
    "adversarial",
    "crop",
    "low_noise",
];

/// The stage that a field belongs to, if it is of one alone, and whether it may change.
fn place(field: &str) -> (Option<String>, bool) {
    let among = |free: &[&str], field: &str| {
        free.iter().any(|f| match f.ends_with('.') {
            true => field.starts_with(f),
            false => field == *f,
        })
    };
    if let Some(below) = field.strip_prefix("high.") {
        return (Some("high".into()), among(&FREE_HIGH, below));
    }
    if let Some(below) = field.strip_prefix("low.") {
        return (Some("low".into()), among(&FREE_DIFFUSION, below));
    }
    match field
        .strip_prefix("details.")
        .and_then(|f| f.split_once('.'))
    {
        Some((level, below)) => (Some(format!("level{level}")), among(&FREE_DIFFUSION, below)),
        None => (None, among(&FREE, field)),
    }
}

/// Claims the folder for this process and checks that the run can begin or go on there. Keep what is returned until the
/// end of the run: it is the claim.
pub(super) fn enter(
    config: &RunConfig,
    chosen: &[&str],
    options: &TrainOptions<'_>,
) -> Result<File> {
    let out = options.out;
    let lock = claim(out, "training")?;
    remove_stale(out)?; // what a killed process left half-written
    for stage in chosen {
        let path = checkpoint_path(out, stage);
        if path.exists() && !options.resume {
            return Err(Error::Argument(format!(
                "{} exists already; pass --resume to go on from it, or name another folder",
                path.display()
            )));
        }
    }
    check_config(config, out)?;
    Ok(lock)
}

fn has_checkpoint(out: &Path, stage: &str) -> bool {
    checkpoint_path(out, stage).exists()
}

/// Whether the folder has a checkpoint of any stage, those of other kinds of runs included.
fn is_begun(out: &Path) -> Result<bool> {
    let end = checkpoint_path(Path::new(""), "");
    let end = end.to_string_lossy();
    for entry in std::fs::read_dir(out).map_err(|e| Error::io("read", out, e))? {
        let entry = entry.map_err(|e| Error::io("read", out, e))?;
        if entry.file_name().to_string_lossy().ends_with(&*end) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether every checkpoint in the folder was made with this configuration, as far as it matters.
fn check_config(config: &RunConfig, out: &Path) -> Result<()> {
    let path = out.join(CONFIG);
    if !is_begun(out)? {
        return Ok(());
    }
    let old = RunConfig::read(&path)?;
    let mut differing = Vec::new();
    differences("", &old.value()?, &config.value()?, &mut differing);
    let bound = |field: &str| {
        let (stage, free) = place(field);
        !free && stage.is_none_or(|stage| has_checkpoint(out, &stage))
    };
    // Another kind has other fields: it says more than they do.
    let first = differing.iter().find(|(field, ..)| field == "kind");
    match first.or_else(|| differing.iter().find(|(field, ..)| bound(field))) {
        None => Ok(()),
        Some((field, was, is)) => Err(Error::Config {
            path,
            reason: format!(
                "this run was begun with {field} = {was}, but now it is {is}: its checkpoints do not fit; put it back or name another folder"
            ),
        }),
    }
}

/// Fields that differ, with both values in words.
fn differences(
    field: &str,
    old: &toml::Value,
    new: &toml::Value,
    out: &mut Vec<(String, String, String)>,
) {
    if let (toml::Value::Table(a), toml::Value::Table(b)) = (old, new) {
        let absent = toml::Value::String("(not set)".into());
        let names: std::collections::BTreeSet<&String> = a.keys().chain(b.keys()).collect();
        for name in names {
            let path = match field {
                "" => name.clone(),
                _ => format!("{field}.{name}"),
            };
            let (a, b) = (a.get(name), b.get(name));
            differences(&path, a.unwrap_or(&absent), b.unwrap_or(&absent), out);
        }
    } else if let (toml::Value::Array(a), toml::Value::Array(b)) = (old, new)
        && a.len() == b.len()
        && a.iter().all(toml::Value::is_table)
    {
        for (i, (a, b)) in a.iter().zip(b).enumerate() {
            differences(&format!("{field}.{}", i + 1), a, b, out);
        }
    } else if old != new {
        out.push((field.to_owned(), old.to_string(), new.to_string()));
    }
}

/// What a bundle and a resumed run need to know of the pictures.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
pub(super) struct RunInfo {
    pub pictures: usize,
    pub fingerprint: String,
    pub levels: Vec<crate::bands::LevelStats>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pixels: Option<crate::bands::BandStats>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub channels: Vec<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub init: Option<Init>,
}

impl RunInfo {
    pub(super) fn read(folder: &Path) -> Result<Self> {
        read_json(&folder.join(BANDS), 1 << 20)
    }
}

/// Copies the checkpoint of a finished stage of another run, if this one has none of its own.
pub(super) fn take_over(stage: &str, folder: &Path, out: &Path) -> Result<()> {
    let to = checkpoint_path(out, stage);
    if to.exists() {
        return Ok(());
    }
    // The checkpoint last: where it is, all is.
    let copies = [
        (metrics_path(folder, stage), metrics_path(out, stage)),
        (checkpoint_path(folder, stage), to),
    ];
    for (from, to) in copies {
        let mut source = File::open(&from).map_err(|e| Error::io("open", &from, e))?;
        write_atomic(to, |w| std::io::copy(&mut source, w).map(drop))?;
    }
    Ok(())
}

/// Writes down configuration and bands, after checking that checkpoints in the folder have seen the same pictures.
pub(super) fn record(
    config: &RunConfig,
    out: &Path,
    data: &TrainData,
    start: Option<&Start>,
    chosen: &[&str],
) -> Result<()> {
    let mut info = RunInfo {
        pictures: data.set.len(),
        fingerprint: format!("{:016x}", data.set.fingerprint()),
        levels: data.stats.clone(),
        pixels: data.pixels,
        channels: data.channels.clone(),
        init: start.map(|start| start.init.clone()),
    };
    if is_begun(out)? {
        let old = RunInfo::read(out)?;
        if old.fingerprint != info.fingerprint {
            return Err(Error::Argument(format!(
                "the pictures are not those that the run in {} was begun with: {} with fingerprint {}, but now {} with {}; give the same ones or name another folder",
                out.display(),
                old.pictures,
                old.fingerprint,
                info.pictures,
                info.fingerprint
            )));
        }
        // What is begun stays what it began as, and a name of a model that nothing was taken from would be a lie.
        if let (Some(init), true) = (
            &info.init,
            chosen.iter().all(|stage| has_checkpoint(out, stage)),
        ) && old.init.as_ref() != Some(init)
        {
            return Err(Error::Argument(format!(
                "all networks that are to be trained in {} are begun already, so nothing would be taken from --init ({:?}); \
                 leave it out or name another folder",
                out.display(),
                init.name
            )));
        }
        info.init = info.init.or(old.init);
    }
    let text = toml::to_string(&config.value()?).map_err(|e| Error::Argument(e.to_string()))?;
    write_atomic(out.join(CONFIG), |w| w.write_all(text.as_bytes()))?;
    let text = serde_json::to_vec_pretty(&info).map_err(|e| Error::Argument(e.to_string()))?;
    write_atomic(out.join(BANDS), |w| w.write_all(&text))?;
    Ok(())
}
