//! The program `wmgm`: train, sample, look.

mod cli;

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    nn_ops::memory::keep_freed_memory();
    match cli::Cli::parse().run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(wmgm::Error::Cancelled) => {
            eprintln!("stopped; what was done is saved");
            ExitCode::from(130)
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(2)
        }
    }
}
