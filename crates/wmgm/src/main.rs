//! The program `wmgm`: train, sample, look.

mod cli;

use std::process::ExitCode;

fn main() -> ExitCode {
    nn_ops::memory::keep_freed_memory();
    match cli::Cli::from_command_line().run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(wmgm::Error::Cancelled) => {
            eprintln!("stopped");
            ExitCode::from(130)
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(2)
        }
    }
}
