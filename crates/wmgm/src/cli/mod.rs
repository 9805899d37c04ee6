//! The program's commands.

mod analyze;
mod compare;
mod device;
#[cfg(test)]
mod docs;
mod embedded;
mod eval;
mod info;
mod place;
mod progress;
mod regenerate;
mod sample;
mod say;
mod train;
mod upscale;
mod weights;

pub use say::warn;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use std::path::Path;
use wmgm::error::Result;

/// Fast multi-scale image generation in the wavelet domain.
///
/// A diffusion model makes the small low band of a picture's wavelet transform, a generator adds the details of every
/// level in one pass each.
#[derive(Debug, Parser)]
#[command(
    name = "wmgm",
    version,
    after_help = "Exit codes: 0 done, 2 an error, 130 stopped by Ctrl-C or SIGTERM."
)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

/// One variant per command; each module's arguments hold its help.
#[derive(Debug, Subcommand)]
enum Command {
    Sample(sample::SampleArgs),
    Regenerate(regenerate::RegenerateArgs),
    Upscale(upscale::UpscaleArgs),
    Train(train::TrainArgs),
    Compare(compare::CompareArgs),
    Bundle(train::BundleArgs),
    Eval(eval::EvalArgs),
    Info(info::InfoArgs),
    Analyze(analyze::AnalyzeArgs),
}

/// Parses a number that 0 makes no sense for.
fn at_least_1(text: &str) -> std::result::Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("it must be at least 1".into()),
        Ok(n) => Ok(n),
        Err(e) => Err(format!("{e}")),
    }
}

/// Whether both paths lead to one place; one that does not exist yet is no other's.
fn same_place(a: &Path, b: &Path) -> bool {
    matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b)
}

impl Cli {
    /// Reads the command line; a wrong one ends the program with a message and exit code 2.
    pub fn from_command_line() -> Self {
        let matches = Self::command()
            .long_version(embedded::version())
            .get_matches();
        Self::from_arg_matches(&matches).unwrap_or_else(|e| e.exit())
    }

    /// Carries out the command.
    pub fn run(self) -> Result<()> {
        match self.command {
            Command::Sample(args) => args.run(),
            Command::Regenerate(args) => args.run(),
            Command::Upscale(args) => args.run(),
            Command::Train(args) => args.run(),
            Command::Compare(args) => args.run(),
            Command::Bundle(args) => args.run(),
            Command::Eval(args) => args.run(),
            Command::Info(args) => args.run(),
            Command::Analyze(args) => args.run(),
        }
    }
}
