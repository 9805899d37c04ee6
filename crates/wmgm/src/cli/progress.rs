//! Bars for a person at a terminal, few lines for everyone else; signals that ask a run to stop.

use super::say::warn;
use indicatif::{HumanDuration, ProgressBar, ProgressStyle};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
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

/// Seconds between lines where no bar can be shown.
const QUIET: Duration = Duration::from_secs(30);

/// Shows a training run: a bar at a terminal, else a line now and then.
pub struct TrainBars {
    shown: Mutex<Shown>,
    stop: Arc<AtomicBool>,
}

/// What is on the screen, and what is needed to show the next.
struct Shown {
    bar: ProgressBar,
    stage: &'static str,
    from: u64,
    steps: u64,
    began: Instant,
    last_line: Instant,
    bundle: Option<PathBuf>,
}

impl TrainBars {
    /// Bars that also listen to signals.
    pub fn new(stop: Arc<AtomicBool>) -> Self {
        let now = Instant::now();
        let shown = Shown {
            bar: ProgressBar::hidden(),
            stage: "",
            from: 0,
            steps: 0,
            began: now,
            last_line: now,
            bundle: None,
        };
        Self {
            shown: Mutex::new(shown),
            stop,
        }
    }

    /// What a finished run leaves, for standard output.
    pub fn summary(&self) -> String {
        match &self.lock().bundle {
            Some(path) => format!("bundle    {}\n", path.display()),
            None => {
                "no bundle yet: another network of this folder is not trained to its end\n".into()
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Shown> {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shown {
    fn step(&mut self, step: u64, values: &[(&str, f64)]) {
        let values: Vec<String> = values
            .iter()
            .map(|(name, value)| format!("{name} {value:.4}"))
            .collect();
        let values = values.join(" ");
        self.bar.set_position(step);
        if self.bar.is_hidden() && (self.last_line.elapsed() >= QUIET || step == self.steps) {
            self.last_line = Instant::now();
            let rate = (step - self.from) as f64 / self.began.elapsed().as_secs_f64().max(1e-9);
            let left = Duration::from_secs_f64(((self.steps - step) as f64 / rate).min(1e9));
            warn(&format!(
                "{} {step}/{}: {values}, {rate:.2} steps/s, eta {}",
                self.stage,
                self.steps,
                HumanDuration(left)
            ));
        }
        self.bar.set_message(values);
    }
}

impl Progress for TrainBars {
    fn event(&self, event: TrainEvent<'_>) {
        let mut shown = self.lock();
        match event {
            TrainEvent::Loading { done, total } => {
                if done == 1 {
                    shown.bar = bar(total as u64, "reading");
                }
                shown.bar.set_position(done as u64);
            }
            TrainEvent::Skipped(broken) => {
                shown.bar.suspend(|| warn(&format!("skipped {broken}")));
            }
            TrainEvent::Stage { name, from, steps } => {
                shown.bar.finish_and_clear();
                let now = Instant::now();
                *shown = Shown {
                    bar: bar(steps, name).with_position(from),
                    stage: name,
                    from,
                    steps,
                    began: now,
                    last_line: now,
                    bundle: None,
                };
                shown.bar.reset_eta();
                if shown.bar.is_hidden() {
                    warn(&format!("{name}: from step {from} to {steps}"));
                }
            }
            TrainEvent::Step { step, values } => shown.step(step, values),
            TrainEvent::Saved { name, step } if self.stop() => {
                let line = format!("{name}: saved at step {step}; --resume goes on from there");
                shown.bar.suspend(|| warn(&line));
            }
            TrainEvent::Bundle(path) => {
                shown.bar.finish_and_clear();
                shown.bundle = Some(path.to_owned());
            }
            _ => {}
        }
    }

    fn stop(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

/// A bar for every file that is downloaded.
#[cfg(feature = "hub")]
pub struct Downloads {
    bar: Mutex<ProgressBar>,
    stop: Arc<AtomicBool>,
}

#[cfg(feature = "hub")]
impl Downloads {
    /// Bars that also listen to signals.
    pub fn new() -> Self {
        Self {
            bar: Mutex::new(ProgressBar::hidden()),
            stop: stop_flag(),
        }
    }
}

#[cfg(feature = "hub")]
impl checkpoints::hub::Progress for Downloads {
    fn event(&self, event: checkpoints::hub::Event<'_>) {
        use checkpoints::hub::Event;
        let mut shown = self.bar.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            Event::Started { file, have, size } => {
                shown.finish_and_clear();
                *shown = bar(size, file).with_position(have);
                shown.reset_eta();
            }
            Event::Bytes { done, .. } => shown.set_position(done),
            Event::Retrying { wait, reason, .. } => {
                let line = format!("{reason}; again in {} s", wait.as_secs_f64());
                shown.suspend(|| warn(&line));
            }
            Event::Waiting { file } => {
                let line = format!("waiting for another process that downloads {file}");
                shown.suspend(|| warn(&line));
            }
            Event::Done { .. } => shown.finish_and_clear(),
            _ => {}
        }
    }

    fn stop(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}
