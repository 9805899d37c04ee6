//! Bars for a person at a terminal, silence for everyone else; signals that ask a run to stop.

use indicatif::{ProgressBar, ProgressStyle};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use wmgm::train::{Progress, TrainEvent};

/// A flag that Ctrl-C and SIGTERM raise. A second signal ends the program at once.
pub fn stop_flag() -> Arc<AtomicBool> {
    let flag = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        // Where handlers cannot be installed the default, ending at once, is what remains.
        let _ = signal_hook::flag::register_conditional_shutdown(signal, 130, flag.clone());
        let _ = signal_hook::flag::register(signal, flag.clone());
    }
    flag
}

/// A bar with rate and time left; hidden when standard error is not a terminal.
pub fn bar(len: u64, what: &str) -> ProgressBar {
    let style = ProgressStyle::with_template(
        "{prefix:>8} {wide_bar} {pos}/{len} {per_sec} eta {eta} {msg}",
    )
    .unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(len)
        .with_style(style)
        .with_prefix(what.to_owned())
}

/// Shows a training run.
pub struct TrainBars {
    bar: Mutex<ProgressBar>,
    stop: Arc<AtomicBool>,
}

impl TrainBars {
    /// Bars that also listen to signals.
    pub fn new(stop: Arc<AtomicBool>) -> Self {
        Self {
            bar: Mutex::new(ProgressBar::hidden()),
            stop,
        }
    }
}

impl Progress for TrainBars {
    fn event(&self, event: TrainEvent<'_>) {
        let mut current = self
            .bar
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        match event {
            TrainEvent::Loading { done, total } => {
                if done == 1 {
                    *current = bar(total as u64, "reading");
                }
                current.set_position(done as u64);
            }
            TrainEvent::Skipped(broken) => current.suspend(|| eprintln!("skipped {broken}")),
            TrainEvent::Stage { name, from, steps } => {
                current.finish_and_clear();
                *current = bar(steps, name).with_position(from);
                current.reset_eta();
                if current.is_hidden() {
                    eprintln!("{name}: from step {from} to {steps}");
                }
            }
            TrainEvent::Step { step, values } => {
                current.set_position(step);
                let text: Vec<String> = values
                    .iter()
                    .map(|(name, value)| format!("{name} {value:.4}"))
                    .collect();
                current.set_message(text.join(" "));
            }
            TrainEvent::Bundle(path) => {
                current.finish();
                println!("bundle: {}", path.display());
            }
            _ => {}
        }
    }

    fn stop(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}
