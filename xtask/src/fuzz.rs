//! `fuzz`: random damage to good files, without cargo-fuzz and its nightly compiler.
//!
//! It knows nothing of coverage, and so is no replacement for `cargo +nightly fuzz run` in `crates/checkpoints/fuzz`, whose
//! entries and corpus it uses; but it runs everywhere.

#[path = "../../crates/checkpoints/fuzz/entry.rs"]
mod entry;

use std::fs;
use std::panic;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

/// What one input may take.
const MOST_TIME: Duration = Duration::from_secs(1);

/// Arguments of the task.
#[derive(clap::Args)]
pub struct Fuzz {
    /// The reader
    #[arg(value_enum)]
    target: Target,
    /// For how long
    #[arg(long, value_name = "S", default_value_t = 60)]
    seconds: u64,
    /// Seed of the damage
    #[arg(long, value_name = "S", default_value_t = 1)]
    seed: u64,
    /// Where an input goes that a reader falls over
    #[arg(long, value_name = "FILE", default_value = "fuzz-crash.bin")]
    out: PathBuf,
}

/// The readers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Target {
    /// Safetensors files
    Safetensors,
    /// Pickles
    Pickle,
    /// Files of torch.save, with their zip archives
    Torch,
    /// Configurations of training runs and bundles
    Config,
}

impl Target {
    fn name(self) -> &'static str {
        match self {
            Self::Safetensors => "safetensors",
            Self::Pickle => "pickle",
            Self::Torch => "torch",
            Self::Config => "config",
        }
    }

    fn run(self, data: &[u8]) {
        match self {
            Self::Safetensors => entry::safetensors(data),
            Self::Pickle => entry::pickle(data),
            Self::Torch => entry::torch(data),
            Self::Config => entry::config(data),
        }
    }
}

/// Runs until time is up; an input that a reader falls over is written and is an error.
pub fn run(arguments: &Fuzz) -> Result<()> {
    let corpus = corpus(
        Path::new("crates/checkpoints/fuzz/corpus"),
        arguments.target,
    )?;
    let began = Instant::now();
    let mut random = Random(arguments.seed.wrapping_mul(2) | 1);
    let (mut count, mut again) = (0u64, 0u64);
    while began.elapsed() < Duration::from_secs(arguments.seconds) {
        let input = damaged(&corpus, &mut random);
        let mut done = timed(arguments.target, &input);
        // A busy machine can take the processor away for that long: what is slow is slow again.
        for _ in 0..2 {
            if done.is_some_and(|time| time > MOST_TIME) {
                (again, done) = (again + 1, timed(arguments.target, &input));
            }
        }
        if done.is_none_or(|time| time > MOST_TIME) {
            let out = &arguments.out;
            fs::write(out, &input).with_context(|| format!("cannot write {}", out.display()))?;
            let what = if done.is_none() {
                "panicked"
            } else {
                "took long"
            };
            bail!(
                "{} {what} on input {count}, which is now {}",
                arguments.target.name(),
                out.display()
            );
        }
        count += 1;
    }
    println!(
        "{}: {count} inputs in {} s, {again} tried again",
        arguments.target.name(),
        arguments.seconds
    );
    Ok(())
}

/// How long a reader took, unless it panicked.
fn timed(target: Target, input: &[u8]) -> Option<Duration> {
    let start = Instant::now();
    let done = panic::catch_unwind(|| target.run(input));
    done.ok().map(|()| start.elapsed())
}

/// The good files, sorted by name.
fn corpus(folder: &Path, target: Target) -> Result<Vec<Vec<u8>>> {
    let folder = folder.join(target.name());
    let list = fs::read_dir(&folder)
        .with_context(|| format!("cannot read {}; run it in the repository", folder.display()))?;
    let mut paths = list.map(|e| Ok(e?.path())).collect::<Result<Vec<_>>>()?;
    paths.sort();
    let files = paths
        .iter()
        .map(|path| Ok(fs::read(path)?))
        .collect::<Result<Vec<_>>>()?;
    ensure!(!files.is_empty(), "{} is empty", folder.display());
    Ok(files)
}

/// A generator that needs no care: what it finds is kept as a file.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % end.max(1)
    }
}

/// One of the files, damaged in a few places.
fn damaged(corpus: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    /// Numbers at which programs go wrong.
    const TELLING: [u64; 8] = [0, 1, 0x7f, 0xff, 0xffff, 0x7fff_ffff, 0xffff_ffff, u64::MAX];
    let mut bytes = corpus[random.below(corpus.len())].clone();
    for _ in 0..=random.below(6) {
        let at = random.below(bytes.len());
        let end = (at + 1 + random.below(16)).min(bytes.len());
        match random.below(7) {
            0 if at < bytes.len() => bytes[at] ^= 1 << random.below(8),
            1 if at < bytes.len() => bytes[at] = random.below(256) as u8,
            2 => drop(bytes.drain(at..end)),
            3 => {
                let copy = bytes[at..end].to_vec();
                let to = random.below(bytes.len());
                bytes.splice(to..to, copy);
            }
            4 => {
                let value = TELLING[random.below(TELLING.len())].to_le_bytes();
                let width = [1, 2, 4, 8][random.below(4)].min(bytes.len() - at);
                bytes[at..at + width].copy_from_slice(&value[..width]);
            }
            5 => {
                let other = &corpus[random.below(corpus.len())];
                let from = random.below(other.len());
                let piece = other[from..(from + 64).min(other.len())].to_vec();
                bytes.splice(at..end, piece);
            }
            _ if random.below(8) == 0 => bytes.truncate(at),
            _ => {}
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::ValueEnum;

    #[test]
    fn every_reader_survives_some_damage() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/checkpoints/fuzz/corpus");
        for target in Target::value_variants() {
            let corpus = corpus(&root, *target).unwrap();
            let mut random = Random(7);
            corpus.iter().for_each(|good| target.run(good));
            for _ in 0..200 {
                target.run(&damaged(&corpus, &mut random));
            }
        }
    }
}
