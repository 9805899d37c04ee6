//! Maintenance tasks of the workspace: `cargo xtask --help`.

mod afhq;
mod split;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "xtask", about = "Maintenance tasks of the workspace")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

/// One variant per task; each task is a module with its arguments and a `run`.
#[derive(Subcommand)]
enum Task {
    /// Make the 128x128 training and held-out pictures from the original AFHQ data set
    PrepareAfhq(afhq::PrepareAfhq),
}

fn main() -> ExitCode {
    let done = match Arguments::parse().task {
        Task::PrepareAfhq(arguments) => afhq::run(&arguments),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("error: {e:#}");
            ExitCode::from(2)
        }
    }
}
