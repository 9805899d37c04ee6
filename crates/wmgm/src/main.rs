//! The program `wmgm`: train, sample, look.

mod cli;

use std::panic;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};

/// Exit codes: 0 done, 2 an error, 130 stopped by Ctrl-C or SIGTERM.
fn main() -> ExitCode {
    nn_ops::memory::keep_freed_memory();
    let last_panic = remember_panics();
    match panic::catch_unwind(|| cli::Cli::from_command_line().run()) {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(wmgm::Error::Cancelled)) => {
            cli::warn("stopped");
            ExitCode::from(130)
        }
        Ok(Err(error)) => {
            cli::warn(&format!("error: {error}"));
            ExitCode::from(2)
        }
        Err(_) => {
            let what = last_panic.lock().unwrap_or_else(PoisonError::into_inner);
            cli::warn(&format!(
                "error: a fault in the program itself: {what}; please report it with the command that led here"
            ));
            ExitCode::from(2)
        }
    }
}

/// Keeps the message of the last panic instead of printing it: decoders and drivers may panic inside calls that turn it
/// into an error, and everything else is told by `main`.
fn remember_panics() -> Arc<Mutex<String>> {
    let last = Arc::new(Mutex::new(String::new()));
    let writer = last.clone();
    panic::set_hook(Box::new(move |info| {
        *writer.lock().unwrap_or_else(PoisonError::into_inner) = info.to_string();
    }));
    last
}
