//! Pictures from a model, with progress and an end after ten seconds: `cargo run --release -p wmgm --example sample`.
//!
//! Arguments: the folder of a bundle (the shipped one unless given) and the sheet to write (`samples.png`).

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use wmgm::pipeline::SampleEvent;
use wmgm::{Error, SampleOptions, Wmgm, picture};

fn main() -> wmgm::Result<()> {
    let mut args = std::env::args_os().skip(1).map(PathBuf::from);
    let shipped = concat!(env!("CARGO_MANIFEST_DIR"), "/../../assets/model");
    let bundle = args.next().unwrap_or_else(|| shipped.into());
    let out = args.next().unwrap_or_else(|| "samples.png".into());

    let model = Wmgm::from_bundle(bundle)?;
    let options = SampleOptions {
        seed: 1,
        pictures: 0..9,
        batch: 3,
        sampler: Some("heun".into()),
        steps: Some(6),
        class: None,
    };
    let began = Instant::now();
    let watch = |event| {
        if let SampleEvent::Done { done, total } = event {
            println!("{done} of {total} after {:.2?}", began.elapsed());
        }
        match began.elapsed() < Duration::from_secs(10) {
            true => ControlFlow::Continue(()),
            false => ControlFlow::Break(()),
        }
    };
    let mut pictures = Vec::new();
    let made = model.sample_each(&options, &watch, |_, picture| {
        pictures.push(picture);
        Ok(())
    });
    match made {
        Ok(()) => {}
        Err(Error::Cancelled) if !pictures.is_empty() => println!("out of time"),
        Err(error) => return Err(error),
    }
    picture::save_png(
        &out,
        &picture::sheet(&pictures, picture::Layout::default())?,
    )?;
    println!("{}", out.display());
    Ok(())
}
