//! The library: a model in five lines, events, cancellation.

use super::common::{TINY, tiny_bundle, write_pictures};
use candle_core::Device;
use std::ops::ControlFlow;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use wmgm::config::RunConfig;
use wmgm::pipeline::SampleEvent;
use wmgm::train::{Progress, StageChoice, TrainEvent, TrainOptions, train};
use wmgm::{Error, SampleOptions, Wmgm};

#[test]
fn five_lines_make_pictures() -> wmgm::Result<()> {
    let folder = tiny_bundle();
    let pictures =
        Wmgm::from_bundle(folder.path().join("bundle"))?.sample(&SampleOptions::default())?;
    assert_eq!(pictures.len(), 16);
    assert!(pictures.iter().all(|p| p.dimensions() == (32, 32)));
    Ok(())
}

fn three() -> SampleOptions {
    SampleOptions {
        pictures: 4..7,
        batch: 2,
        steps: Some(3),
        ..SampleOptions::default()
    }
}

#[test]
fn events_tell_every_step_and_batch() {
    let folder = tiny_bundle();
    let model = Wmgm::from_bundle(folder.path().join("bundle")).unwrap();
    let seen = Mutex::new(Vec::new());
    let watch = |event| {
        seen.lock().unwrap().push(event);
        ControlFlow::Continue(())
    };
    let watched = model.sample_with(&three(), &watch).unwrap();
    assert!(watched == model.sample(&three()).unwrap());
    let batch = |done| {
        let steps = (1..=3).map(|step| SampleEvent::Step { step, steps: 3 });
        steps.chain([SampleEvent::Done { done, total: 3 }])
    };
    let expected: Vec<SampleEvent> = batch(2).chain(batch(3)).collect();
    assert_eq!(*seen.lock().unwrap(), expected);
    let mut numbers = Vec::new();
    let each = |i, _| {
        numbers.push(i);
        Ok(())
    };
    model
        .sample_each(&three(), &|_| ControlFlow::Continue(()), each)
        .unwrap();
    assert_eq!(numbers, [4, 5, 6]);
}

#[test]
fn a_break_cancels_at_once() {
    let folder = tiny_bundle();
    let model = Wmgm::from_bundle(folder.path().join("bundle")).unwrap();
    for last in [
        SampleEvent::Step { step: 1, steps: 3 },
        SampleEvent::Step { step: 3, steps: 3 },
        SampleEvent::Done { done: 2, total: 3 },
    ] {
        let seen = Mutex::new(Vec::new());
        let watch = |event| {
            seen.lock().unwrap().push(event);
            if event == last {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        };
        let error = model.sample_with(&three(), &watch).unwrap_err();
        assert!(matches!(error, Error::Cancelled), "{error}");
        assert_eq!(seen.lock().unwrap().last(), Some(&last));
    }
    // An error of the receiver comes back as it is.
    let error = model
        .sample_each(&three(), &|_| ControlFlow::Continue(()), |_, _| {
            Err(Error::Argument("enough".into()))
        })
        .unwrap_err();
    assert_eq!(error.to_string(), "enough");
}

#[test]
fn options_out_of_range_are_errors() {
    let folder = tiny_bundle();
    let model = Wmgm::from_bundle(folder.path().join("bundle")).unwrap();
    for (options, expected) in [
        (
            SampleOptions {
                batch: 0,
                ..three()
            },
            "batch is 0",
        ),
        (
            SampleOptions {
                steps: Some(1),
                ..three()
            },
            "steps is 1",
        ),
        (
            SampleOptions {
                sampler: Some("x".into()),
                ..three()
            },
            "unknown sampler",
        ),
        (
            SampleOptions {
                pictures: 1 << 48..(1 << 48) + 1,
                ..three()
            },
            "2^48",
        ),
    ] {
        let error = model.sample(&options).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    assert!(
        model
            .sample(&SampleOptions {
                pictures: 3..3,
                ..three()
            })
            .unwrap()
            .is_empty()
    );
}

/// Writes events down in words and stops at the step asked for.
struct Watcher {
    seen: Mutex<Vec<String>>,
    step: AtomicU64,
    stop_at: u64,
}

impl Progress for Watcher {
    fn event(&self, event: TrainEvent<'_>) {
        let line = match event {
            TrainEvent::Loading { done, total } => format!("{done}/{total}"),
            TrainEvent::Stage { name, from, steps } => format!("{name} {from}-{steps}"),
            TrainEvent::Step { step, values } => {
                self.step.store(step, Ordering::Relaxed);
                assert!(values.iter().all(|(_, v)| v.is_finite()));
                return;
            }
            TrainEvent::Saved { name, step } => format!("{name} saved {step}"),
            TrainEvent::Bundle(_) => "bundle".into(),
            _ => return,
        };
        self.seen.lock().unwrap().push(line);
    }
    fn stop(&self) -> bool {
        self.step.load(Ordering::Relaxed) == self.stop_at
    }
}

#[test]
fn training_tells_and_can_be_stopped() {
    let folder = tempfile::tempdir().unwrap();
    let pictures = write_pictures(folder.path(), 2);
    let config = RunConfig::parse(TINY).unwrap();
    let run = |stop_at, resume| {
        let watcher = Watcher {
            seen: Mutex::default(),
            step: AtomicU64::new(0),
            stop_at,
        };
        let options = TrainOptions {
            data: &pictures,
            out: &folder.path().join("run"),
            stage: StageChoice::Low,
            resume,
            init: None,
            guide: None,
            finished: &[],
        };
        let done = train(&config, options, &Device::Cpu, &watcher);
        (done, watcher.seen.into_inner().unwrap())
    };
    let (done, seen) = run(9, false);
    assert!(matches!(done, Err(Error::Cancelled)));
    assert_eq!(
        seen,
        ["1/2", "2/2", "low 0-30", "low saved 7", "low saved 9"]
    );
    let (done, seen) = run(u64::MAX, true);
    done.unwrap();
    let saved = [
        "low saved 14",
        "low saved 21",
        "low saved 28",
        "low saved 30",
    ];
    assert_eq!(seen, [&["1/2", "2/2", "low 9-30"][..], &saved[..]].concat());
    // Stopped while it reads.
    let (done, _) = run(0, true);
    assert!(matches!(done, Err(Error::Cancelled)));
}
