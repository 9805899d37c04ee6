//! The program's commands.

mod compare;
#[cfg(test)]
mod docs;
mod embedded;
mod info;
mod place;
mod progress;
mod regenerate;
mod sample;
mod say;
mod train;

pub use say::warn;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use wmgm::error::{Error, Result};

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
    Train(train::TrainArgs),
    Compare(compare::CompareArgs),
    Bundle(train::BundleArgs),
    Info(info::InfoArgs),
}

/// Where to compute.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum DeviceChoice {
    /// A GPU if this program was built for one and it is there, else the CPU.
    Auto,
    /// The CPU.
    Cpu,
    /// An NVIDIA GPU.
    Cuda,
    /// An Apple GPU.
    Metal,
}

/// Parses a number that 0 makes no sense for.
fn at_least_1(text: &str) -> std::result::Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("it must be at least 1".into()),
        Ok(n) => Ok(n),
        Err(e) => Err(format!("{e}")),
    }
}

impl DeviceChoice {
    fn open(self) -> Result<candle_core::Device> {
        use candle_core::Device;
        // A missing CUDA library panics inside candle instead of returning an error.
        let guarded = |open: fn(usize) -> candle_core::Result<Device>| {
            std::panic::catch_unwind(|| open(0)).unwrap_or_else(|_| {
                Err(candle_core::Error::Msg(
                    "the driver's library could not be loaded".into(),
                ))
            })
        };
        let named = |name: &str, open| {
            guarded(open).map_err(|e| {
                Error::Argument(format!(
                    "--device {name}: {e}; use --device cpu, or a program built with the feature {name}"
                ))
            })
        };
        match self {
            Self::Cpu => Ok(Device::Cpu),
            Self::Cuda => named("cuda", Device::new_cuda),
            Self::Metal => named("metal", Device::new_metal),
            Self::Auto if candle_core::utils::cuda_is_available() => {
                Ok(guarded(Device::new_cuda).unwrap_or(Device::Cpu))
            }
            Self::Auto if candle_core::utils::metal_is_available() => {
                Ok(guarded(Device::new_metal).unwrap_or(Device::Cpu))
            }
            Self::Auto => Ok(Device::Cpu),
        }
    }
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
            Command::Train(args) => args.run(),
            Command::Compare(args) => args.run(),
            Command::Bundle(args) => args.run(),
            Command::Info(args) => args.run(),
        }
    }
}
