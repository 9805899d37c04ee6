//! `fetch-weights`: pretrained models from the hub into its cache.

use std::io::{ErrorKind, Write};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, bail};
use checkpoints::hub::{Entry, Event, Hub, Manifest, Place, Progress, RepoId};
use indicatif::{ProgressBar, ProgressStyle};

/// Arguments of the task.
#[derive(clap::Args)]
#[command(after_help = "\
Files go to the cache that Python's tools share. The environment says where and how: HF_HUB_CACHE or HF_HOME (the cache), \
HF_ENDPOINT (another hub), HF_TOKEN (for private and gated models), HF_HUB_OFFLINE=1 (the cache alone), HTTPS_PROXY.

What was interrupted goes on where it stopped. Sizes and hashes are checked; a wrong file never reaches the cache.

Exit codes: 0 done, 2 an error.")]
pub struct FetchWeights {
    /// Names of known models, or any as owner/name or owner/name@revision
    #[arg(value_name = "MODEL", required_unless_present = "list")]
    models: Vec<String>,
    /// List the known models, and which are here
    #[arg(long, conflicts_with_all = ["models", "files"])]
    list: bool,
    /// Download this file instead of those that loading needs; may be given several times
    #[arg(long = "file", value_name = "NAME")]
    files: Vec<String>,
}

/// The models that have a name.
fn manifest() -> Result<Manifest> {
    let text = include_str!("../../assets/weights.toml");
    let manifest: Manifest = toml::from_str(text).context("in assets/weights.toml")?;
    if let Err(reason) = manifest.check() {
        bail!("in assets/weights.toml: {reason}");
    }
    Ok(manifest)
}

/// Lists or downloads.
pub fn run(arguments: &FetchWeights) -> Result<()> {
    let manifest = manifest()?;
    let hub = Hub::from_env()?;
    if arguments.list {
        return say(&list(&manifest, &hub)?);
    }
    // Every name is looked up before anything is downloaded.
    let wanted = arguments
        .models
        .iter()
        .map(|name| find(&manifest, name))
        .collect::<Result<Vec<_>>>()?;
    for (place, entry) in wanted {
        say(&fetch(&hub, &place, entry, &arguments.files)?)?;
    }
    Ok(())
}

/// Where a model is, and what is known of it.
fn find<'a>(manifest: &'a Manifest, name: &str) -> Result<(Place, Option<&'a Entry>)> {
    if let Some(entry) = manifest.get(name) {
        return Ok((entry.place()?, Some(entry)));
    }
    if !name.contains('/') {
        let known: Vec<&str> = manifest.models.iter().map(|m| m.name.as_str()).collect();
        bail!(
            "no model is called {name:?}; known are {}, and any owner/name[@revision]",
            known.join(", ")
        );
    }
    let repo: RepoId = name.parse()?;
    let known = |entry: &&Entry| matches!(entry.place(), Ok(Place::Hub(known)) if known == repo);
    let entry = manifest.models.iter().find(known);
    Ok((Place::Hub(repo), entry))
}

/// Downloads one model; what to tell about it.
fn fetch(hub: &Hub, place: &Place, entry: Option<&Entry>, files: &[String]) -> Result<String> {
    let (folder, model) = match place {
        Place::Folder(folder) => {
            if let Some(missing) = missing_file(folder, entry) {
                bail!(
                    "{} is missing; this repository should hold it",
                    missing.display()
                );
            }
            (folder.clone(), folder.display().to_string())
        }
        Place::Hub(repo) => {
            let names = match (files, entry) {
                ([], Some(entry)) => &entry.files,
                (files, _) => files,
            };
            let known = entry.map(Entry::known).unwrap_or_default();
            let bars = Bars::default();
            let done = hub.fetch(repo, names, &known, &bars);
            bars.clear();
            (done?.folder, repo.to_string())
        }
    };
    let licence = entry.map_or(String::new(), |e| format!("licence   {}\n", e.licence));
    Ok(format!(
        "folder    {}\n{licence}sample    wmgm sample --model {model}\n",
        folder.display()
    ))
}

/// The first of a folder's files that is not there.
fn missing_file(folder: &Path, entry: Option<&Entry>) -> Option<std::path::PathBuf> {
    let names = entry.map(|e| e.files.as_slice()).unwrap_or_default();
    let mut paths = names.iter().map(|name| folder.join(name));
    paths.find(|path| !path.is_file())
}

/// The known models.
fn list(manifest: &Manifest, hub: &Hub) -> Result<String> {
    let mut text = String::new();
    for entry in &manifest.models {
        let (place, here) = match entry.place()? {
            Place::Hub(repo) => {
                let cached = hub.cached(&repo);
                // Configurations alone are no model.
                let here = cached.is_some_and(|snapshot| match entry.files.as_slice() {
                    [] => snapshot.files.iter().any(|f| !f.ends_with(".json")),
                    files => files.iter().all(|f| snapshot.files.contains(f)),
                });
                (repo.to_string(), here)
            }
            Place::Folder(folder) => (
                folder.display().to_string(),
                missing_file(&folder, Some(entry)).is_none(),
            ),
        };
        let size = entry
            .megabytes
            .map_or(String::new(), |m| format!(", {m} MB"));
        let here = if here { ", here" } else { "" };
        text += &format!(
            "{}\n    {}\n    {}\n    {place}, {}{size}{here}\n",
            entry.name, entry.purpose, entry.architecture, entry.licence
        );
    }
    Ok(text)
}

/// Writes to standard output. A reader who has gone is no error.
pub(crate) fn say(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(e) if e.kind() != ErrorKind::BrokenPipe => {
            Err(e).context("cannot write to standard output")
        }
        _ => Ok(()),
    }
}

/// A bar for the file that comes; nothing but what went wrong where there is no terminal.
#[derive(Default)]
struct Bars(Mutex<Option<ProgressBar>>);

impl Bars {
    fn clear(&self) {
        let bar = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(bar) = bar {
            bar.finish_and_clear();
        }
    }

    /// A line above the bar.
    fn line(&self, text: &str) {
        let bar = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let write = || {
            let _ = writeln!(std::io::stderr().lock(), "{text}"); // nobody is left to tell
        };
        match &*bar {
            Some(bar) => bar.suspend(write),
            None => write(),
        }
    }
}

impl Progress for Bars {
    fn event(&self, event: Event<'_>) {
        match event {
            Event::Started { file, have, size } => {
                self.clear();
                let style = ProgressStyle::with_template(
                    "{prefix} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec} eta {eta}",
                )
                .unwrap_or_else(|_| ProgressStyle::default_bar());
                let bar = ProgressBar::new(size)
                    .with_style(style)
                    .with_prefix(file.to_owned())
                    .with_position(have);
                bar.reset_eta();
                *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(bar);
            }
            Event::Bytes { done, .. } => {
                let bar = self.0.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(bar) = &*bar {
                    bar.set_position(done);
                }
            }
            Event::Retrying { wait, reason, .. } => {
                self.line(&format!("{reason}; again in {} s", wait.as_secs_f64()));
            }
            Event::Waiting { file } => {
                self.line(&format!(
                    "waiting for another process that downloads {file}"
                ));
            }
            Event::Done { .. } => self.clear(),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_known_models() {
        let manifest = manifest().unwrap();
        assert!(manifest.models.len() >= 10);
        let (place, entry) = find(&manifest, "ddpm-cat-256").unwrap();
        assert_eq!(place, Place::Hub("google/ddpm-cat-256".parse().unwrap()));
        assert_eq!(
            find(&manifest, "google/ddpm-cat-256")
                .unwrap()
                .1
                .unwrap()
                .name,
            entry.unwrap().name
        );
        assert!(find(&manifest, "a/b@c").unwrap().1.is_none());
        let error = find(&manifest, "dog").unwrap_err().to_string();
        assert!(error.contains("known are afhq-cat-128"), "{error}");
        let (place, entry) = find(&manifest, "afhq-cat-128").unwrap();
        let Place::Folder(folder) = place else {
            panic!("{place:?}");
        };
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        assert_eq!(missing_file(&root.join(folder), entry), None);
    }
}
