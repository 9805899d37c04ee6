//! `wmgm train` and `wmgm bundle`, from a folder of pictures to a model that samples.

use super::common::{
    TINY, contents, fails, names, ok, patterned, tiny_bundle, tiny_with, wmgm, write_pictures,
};
use image::{DynamicImage, Rgba, RgbaImage};
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::process::Command;

fn train(at: &Path, args: &[&str]) -> Command {
    let mut command = wmgm(
        at,
        ["train", "config.toml", "--data", "pictures", "--out", "run"],
    );
    command.args(args);
    command
}

/// Pictures of every kind, and one file that is none.
fn mixed_pictures(at: &Path) {
    let folder = write_pictures(at, 110);
    let save = |name: &str, picture: DynamicImage| picture.save(folder.join(name)).unwrap();
    let large = DynamicImage::ImageRgb8(patterned(3, 150, 90));
    save("grey.png", large.grayscale());
    save("sixteen.png", DynamicImage::ImageRgb16(large.to_rgb16()));
    save("large.jpg", large.clone());
    save("numbers.gif", large.clone());
    let alpha = |x, y| Rgba([x as u8, y as u8, 99, (x * y) as u8]);
    save("alpha.png", RgbaImage::from_fn(40, 70, alpha).into());
    for name in ["palette.png", "cmyk.jpg", "progressive.jpg", "turned.jpg"] {
        let case = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/cases")
            .join(name);
        fs::copy(case, folder.join(name)).unwrap();
    }
    fs::write(folder.join("broken.jpg"), "no picture").unwrap();
    fs::write(folder.join("notes.txt"), "not meant as a picture").unwrap();
}

/// The lines of metrics without the seconds, which no two runs share.
pub fn metrics(run: &Path, stage: &str) -> Vec<Value> {
    let text = fs::read_to_string(run.join(format!("{stage}.metrics.jsonl"))).unwrap();
    let parse = |line| {
        let mut line: Value = serde_json::from_str(line).unwrap();
        assert!(line["seconds"].take().as_f64().unwrap() >= 0.0);
        line
    };
    text.lines().map(parse).collect()
}

#[test]
fn from_pictures_to_a_model_that_samples() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    mixed_pictures(at);
    fs::write(at.join("config.toml"), TINY).unwrap();
    let output = train(at, &[]).output().unwrap();
    let text = super::common::stderr(&output);
    assert!(output.status.success(), "{text}");
    assert!(text.contains("skipped broken.jpg (not a picture"), "{text}");
    assert!(!text.contains("notes.txt"), "{text}");
    assert!(
        text.contains("low: from step 0 to 30") && text.contains("steps/s, eta"),
        "{text}"
    );
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "bundle    run/bundle\n"
    );

    let run = at.join("run");
    assert_eq!(
        names(&run),
        [
            ".lock",
            "bands.json",
            "bundle",
            "config.toml",
            "high-0000015.png",
            "high-0000030.png",
            "high-curves.png",
            "high.checkpoint.safetensors",
            "high.metrics.jsonl",
            "low-0000015.png",
            "low-0000030.png",
            "low-curves.png",
            "low.checkpoint.safetensors",
            "low.metrics.jsonl",
        ]
    );
    for (stage, values) in [
        ("low", &["loss", "grad_norm", "lr"][..]),
        ("high", &["d_loss", "adversarial", "l1", "lr"]),
    ] {
        let lines = metrics(&run, stage);
        let steps: Vec<u64> = lines.iter().map(|l| l["step"].as_u64().unwrap()).collect();
        assert_eq!(steps, [5, 10, 15, 20, 25, 30]);
        for line in &lines {
            assert_eq!(line["stage"], stage);
            assert!(
                values.iter().all(|v| line[v].as_f64().unwrap().is_finite()),
                "{line}"
            );
        }
        let sheet = image::open(run.join(format!("{stage}-0000030.png"))).unwrap();
        assert!(sheet.width() > 100 && sheet.height() > 60);
    }
    let info = ok(wmgm(at, ["info", "run/bundle"]));
    assert!(info.contains("119 pictures (fingerprint "), "{info}");
    assert!(
        info.contains("score: 30 steps of 4; generator: 30 steps of 3"),
        "{info}"
    );
    ok(wmgm(
        at,
        ["sample", "--model", "run/bundle", "--count", "2"],
    ));
    // The same in half the bytes.
    ok(wmgm(at, ["bundle", "run", "--out", "small"]));
    ok(wmgm(
        at,
        [
            "sample",
            "--model",
            "small",
            "--count",
            "2",
            "--out",
            "small.png",
        ],
    ));
    let bytes = |folder: &str| {
        fs::metadata(at.join(folder).join("score.safetensors"))
            .unwrap()
            .len()
    };
    assert!(bytes("small") < bytes("run/bundle") * 6 / 10);
    let error = wmgm(at, ["bundle", "run", "--out", "pictures"]);
    fails(error, &["will not replace the folder pictures"]);
}

/// Any wavelet of the `wavelet` crate: the same way from pictures to pictures.
#[test]
fn other_wavelets_and_generators_of_each_level_sample_alike() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    write_pictures(at, 4);
    for (name, shared) in [("db3", true), ("bior4.4", false)] {
        let wavelet = format!("levels = 2\nwavelet = \"{name}\"");
        let generator = format!("[high.generator]\nshared = {shared}");
        let few = "steps = 3\n";
        let config = tiny_with(&[
            ("levels = 2", &wavelet),
            ("[high.generator]", &generator),
            ("steps = 30\n", few),
            ("steps = 30\n", few),
        ]);
        fs::write(at.join("config.toml"), config).unwrap();
        ok(train(at, &[]));
        let text = fs::read_to_string(at.join("run/bundle/config.json")).unwrap();
        assert_eq!(text.contains("\"shared\": false"), !shared, "{text}");
        let info = ok(wmgm(at, ["info", "run/bundle"]));
        assert!(info.contains(&format!("{name}, 2 levels")), "{info}");
        let sample = |out: &str, batch: &str, threads: &str| {
            let args = ["--model", "run/bundle", "--files", "--count", "3"];
            let mut command = wmgm(at, ["sample"]);
            command.args(args).args(["--batch", batch, "--out", out]);
            command.env("RAYON_NUM_THREADS", threads);
            ok(command);
            contents(&at.join(out))
        };
        assert!(sample("one", "1", "1") == sample("all", "3", "3"), "{name}");
        fs::remove_dir_all(at.join("run")).unwrap();
    }
}

/// Training must learn: the loss falls, and what is averaged follows.
#[test]
fn the_losses_fall() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    write_pictures(at, 4);
    let config = tiny_with(&[
        ("steps = 30", "steps = 400"),
        ("steps = 30", "steps = 150"),
        ("dropout = 0.1", ""),
        ("l1 = 1.0", "l1 = 100.0"), // hardly any adversary: its part may rise while it is learning
    ]);
    fs::write(at.join("config.toml"), config).unwrap();
    ok(train(at, &[]));
    for (stage, loss) in [("low", "loss"), ("high", "l1")] {
        let lines = metrics(&at.join("run"), stage);
        let mean = |lines: &[Value]| {
            lines.iter().map(|l| l[loss].as_f64().unwrap()).sum::<f64>() / lines.len() as f64
        };
        let (first, last) = (mean(&lines[..4]), mean(&lines[lines.len() - 10..]));
        assert!(last < 0.8 * first, "{stage}: {first} to {last}");
    }
}

/// The official program's losses with our networks: pictures come nearer, and nothing of the other losses counts.
#[test]
fn the_official_losses_train_our_networks() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    write_pictures(at, 4);
    let run = |extra: &str, l1: &str| {
        let config = tiny_with(&[
            ("crop = 8", &format!("crop = 8\nofficial = {extra}")),
            ("l1 = 1.0", l1),
            ("steps = 30", "steps = 1"),
            ("steps = 30", "steps = 150"),
        ]);
        fs::write(at.join("config.toml"), config).unwrap();
        ok(train(at, &["--stage", "high"]));
        let metrics = metrics(&at.join("run"), "high");
        fs::remove_dir_all(at.join("run")).unwrap();
        metrics
    };
    let lines = run("{ alpha = 0.01 }", "l1 = 1.0");
    let mean = |lines: &[Value]| {
        let distances = lines.iter().map(|l| l["distance"].as_f64().unwrap());
        distances.sum::<f64>() / lines.len() as f64
    };
    let (first, last) = (mean(&lines[..2]), mean(&lines[lines.len() - 3..]));
    assert!(last < 0.8 * first, "{first} to {last}");
    // Sigmoids: between -1 and 0 for each of the two levels.
    let adversarial = |l: &Value| l["adversarial"].as_f64().unwrap();
    assert!(lines.iter().all(|l| (-2.0..0.0).contains(&adversarial(l))));
    assert_eq!(lines, run("{ alpha = 0.01 }", "l1 = 7.0"));
    assert_ne!(lines, run("{}", "l1 = 1.0"));
    let config = tiny_with(&[("crop = 8", "crop = 8\nofficial = { nu = -1.0 }")]);
    fs::write(at.join("config.toml"), config).unwrap();
    fails(train(at, &[]), &["high.official.nu is -1"]);
}

#[test]
fn stages_can_be_trained_one_by_one() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    write_pictures(at, 5);
    fs::write(at.join("config.toml"), TINY).unwrap();
    ok(train(at, &[]));
    let together = contents(&at.join("run/bundle"));
    fs::rename(at.join("run"), at.join("whole")).unwrap();
    let text = ok(train(at, &["--stage", "high"]));
    assert!(text.contains("no bundle yet"), "{text}");
    let rest = |of: &str| {
        let args = ["bundle", "run", "--f32", "--out", "b", "--rest", of];
        wmgm(at, args)
    };
    ok(rest("whole/bundle"));
    assert!(together == contents(&at.join("b")));
    fs::remove_dir_all(at.join("b")).unwrap();
    write_pictures(&at.join("more"), 6);
    let args = [
        "train",
        "config.toml",
        "--data",
        "more/pictures",
        "--out",
        "other",
    ];
    ok(wmgm(at, args));
    fails(rest("other/bundle"), &["trained on other pictures"]);
    fails(
        wmgm(at, ["bundle", "run", "--out", "b"]),
        &["low.checkpoint.safetensors"],
    );
    ok(train(at, &["--stage", "low"]));
    assert!(together == contents(&at.join("run/bundle")));
    fails(
        train(at, &[]),
        &["low.checkpoint.safetensors exists already", "--resume"],
    );
    ok(train(at, &["--resume"])); // nothing left to do
    assert!(together == contents(&at.join("run/bundle")));
}

#[test]
fn a_resumed_run_must_be_the_same_run() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    write_pictures(at, 5);
    let config =
        |changes: &[(&str, &str)]| fs::write(at.join("config.toml"), tiny_with(changes)).unwrap();
    config(&[]);
    ok(train(at, &["--stage", "low"]));
    let before = contents(&at.join("run"));
    for (change, expected) in [
        (
            ("model_channels = 32", "model_channels = 64"),
            "low.unet.model_channels = 32, but now it is 64",
        ),
        (("seed = 5", "seed = 6"), "seed = 5, but now it is 6"),
        (
            ("fold = 1\n", "fold = 1\nedm = { sigma_data = 0.5 }\n"),
            "low.edm.sigma_data",
        ),
    ] {
        config(&[change]);
        fails(train(at, &["--resume"]), &["run/config.toml", expected]);
    }
    config(&[]);
    patterned(9, 40, 40)
        .save(at.join("pictures/new.png"))
        .unwrap();
    fails(
        train(at, &["--resume"]),
        &["the pictures are not those", "5 with fingerprint", "6 with"],
    );
    fs::remove_file(at.join("pictures/new.png")).unwrap();
    assert!(
        before == contents(&at.join("run")),
        "a refused run must change nothing"
    );
    // No bundle of a network that has not come to its end.
    config(&[("steps = 30", "steps = 31")]);
    let text = ok(train(at, &["--resume", "--stage", "high"]));
    assert!(text.contains("no bundle yet"), "{text}");
    for file in ["high.checkpoint.safetensors", "high.metrics.jsonl"] {
        fs::remove_file(at.join("run").join(file)).unwrap();
    }
    // The other network is free to change, and a run may go on for longer.
    config(&[
        ("widths = [8, 16]", "widths = [16, 16]"),
        ("steps = 30", "steps = 35"),
    ]);
    ok(train(at, &["--resume"]));
    let info = ok(wmgm(at, ["info", "run/bundle"]));
    assert!(
        info.contains("widths [16, 16]") && info.contains("score: 35 steps"),
        "{info}"
    );
    // A damaged checkpoint is named.
    let path = at.join("run/low.checkpoint.safetensors");
    let bytes = fs::read(&path).unwrap();
    fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
    fails(
        train(at, &["--resume"]),
        &["run/low.checkpoint.safetensors"],
    );
}

#[test]
fn a_run_can_start_from_a_bundle() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    write_pictures(at, 5);
    fs::write(at.join("config.toml"), TINY).unwrap();
    ok(train(at, &[]));
    fs::rename(at.join("run"), at.join("first")).unwrap();
    // One step of no length: the start's weights come out as they went in.
    let still = tiny_with(&[
        ("steps = 30", "steps = 1"),
        ("lr = 1e-3", "lr = 1e-12"),
        ("steps = 30", "steps = 1"),
        ("lr = 1e-3\nema", "lr = 1e-12\nema"),
    ]);
    fs::write(at.join("config.toml"), still).unwrap();
    let from = ["--init", "first/bundle"];
    ok(train(at, &from));
    for file in ["score.safetensors", "generator.safetensors"] {
        let read = |run: &str| {
            let path = at.join(run).join("bundle").join(file);
            candle_core::safetensors::load(path, &candle_core::Device::Cpu).unwrap()
        };
        let (old, new) = (read("first"), read("run"));
        assert_eq!(old.len(), new.len());
        for (name, t) in old {
            let change = (&t - &new[&name]).unwrap().abs().unwrap();
            let change = change.max_all().unwrap().to_scalar::<f32>().unwrap();
            assert!(change < 1e-9, "{file} {name}: {change}");
        }
    }
    fs::remove_dir_all(at.join("run")).unwrap();
    // A few more steps, in one go and interrupted: the same, and the bundle says where it came from.
    let short = tiny_with(&[("steps = 30", "steps = 8"), ("steps = 30", "steps = 8")]);
    fs::write(at.join("config.toml"), short).unwrap();
    ok(train(at, &from));
    let once = contents(&at.join("run/bundle"));
    fs::remove_dir_all(at.join("run")).unwrap();
    ok(train(at, &[&from[..], &["--stage", "high"]].concat()));
    ok(train(
        at,
        &[&from[..], &["--stage", "low", "--resume"]].concat(),
    ));
    assert!(once == contents(&at.join("run/bundle")));
    // Nothing is left to take from another model, and the run keeps its provenance.
    ok(train(at, &[&from[..], &["--resume"]].concat()));
    fails(
        train(at, &["--init", "run/bundle", "--resume"]),
        &["nothing would be taken from --init"],
    );
    let info = ok(wmgm(at, ["info", "run/bundle"]));
    assert!(
        info.contains("started from tiny (score: 30 steps, generator: 30"),
        "{info}"
    );
    fs::remove_dir_all(at.join("run")).unwrap();
    fails(
        train(at, &["--init", "nowhere"]),
        &["nowhere", "is not a folder"],
    );
    for (change, expected) in [
        (("model_channels = 32", "model_channels = 64"), "has shape"),
        (
            ("size = 32", "size = 32\nwavelet = \"db2\""),
            "has wavelet haar, the configuration db2",
        ),
    ] {
        fs::write(at.join("config.toml"), tiny_with(&[change])).unwrap();
        fails(train(at, &from), &[expected]);
    }
}

/// A student of four steps: it needs a teacher, comes nearer to it, and goes on after a stop as if there had been none.
#[test]
fn a_model_can_be_distilled_into_fewer_steps() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    write_pictures(at, 5);
    let config = |steps: &str, sampler: &str| {
        let config = tiny_with(&[
            (
                "[low.optim]",
                "[low.edm]\nsigma_min = 0.4\n\n[low.distill]\nsteps = 4\nsubsteps = 2\n\n[low.optim]",
            ),
            ("steps = 30", steps),
            ("steps = 30", "steps = 1"),
            ("dropout = 0.1", ""),
        ]);
        let config = config.replace("dpmpp-2m", sampler);
        fs::write(at.join("config.toml"), config).unwrap();
    };
    fs::write(at.join("config.toml"), TINY).unwrap();
    ok(train(at, &[]));
    fs::rename(at.join("run"), at.join("teacher")).unwrap();
    config("steps = 60", "dpmpp-2m");
    let from = ["--init", "teacher/bundle"];
    fails(train(at, &from), &["low.distill", "euler"]);
    config("steps = 60", "euler");
    fails(train(at, &[]), &["low is to be taught", "--init"]);
    ok(train(at, &from));
    let lines = metrics(&at.join("run"), "low");
    let loss = |l: &Value| l["loss"].as_f64().unwrap();
    let (first, last) = (loss(&lines[0]), loss(&lines[lines.len() - 1]));
    assert!(last < first, "{first} to {last}");
    let student = || fs::read(at.join("run/bundle/score.safetensors")).unwrap();
    let together = student();
    let text = ok(wmgm(
        at,
        [
            "sample",
            "--model",
            "run/bundle",
            "--count",
            "2",
            "--out",
            "s.png",
        ],
    ));
    assert!(text.contains("euler, 4 steps: 4 evaluations"), "{text}");
    fs::remove_dir_all(at.join("run")).unwrap();
    config("steps = 25", "euler");
    ok(train(at, &from));
    config("steps = 60", "euler");
    ok(train(at, &["--resume"]));
    assert!(together == student());
}

/// What two networks say together is what a third learns to say alone, and goes on after a stop as if there had been none.
#[test]
fn a_guided_model_can_be_taught_to_one_network() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    write_pictures(at, 5);
    let model = |name: &str, low_steps: &str| {
        let text = tiny_with(&[("steps = 30", low_steps), ("steps = 30", "steps = 1")]);
        fs::write(at.join("config.toml"), text).unwrap();
        ok(train(at, &[]));
        fs::rename(at.join("run"), at.join(name)).unwrap();
    };
    model("worse", "steps = 8");
    model("teacher", "steps = 30");
    let config = |steps: &str, weight: &str| {
        let config = tiny_with(&[
            (
                "[low.optim]",
                &format!("[low.guide]\nweight = {weight}\n\n[low.optim]"),
            ),
            ("steps = 30", steps),
            ("steps = 30", "steps = 1"),
            ("dropout = 0.1", ""),
        ]);
        fs::write(at.join("config.toml"), config).unwrap();
    };
    let from = ["--init", "teacher/bundle", "--guide", "worse/bundle"];
    config("steps = 60", "0.5");
    fails(train(at, &from), &["low.guide.weight is 0.5"]);
    config("steps = 60", "3.0");
    fails(
        train(at, &from[..2]),
        &["low is to be taught by a guided", "--guide"],
    );
    fails(train(at, &from[2..]), &["low is to be taught", "--init"]);
    ok(train(at, &from));
    let values = |args: &[&str]| {
        let mut command = wmgm(at, ["sample", "--count", "4", "--files", "--out", "s"]);
        command.args(args);
        ok(command);
        let picture = |i| image::open(at.join(format!("s/00000{i}.png"))).unwrap();
        let bytes = (0..4).flat_map(|i| picture(i).to_rgb8().into_raw());
        bytes.map(f64::from).collect::<Vec<f64>>()
    };
    let apart =
        |a: &[f64], b: &[f64]| -> f64 { a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum() };
    let teacher = ["--model", "teacher/bundle"];
    let guided = values(&[teacher, ["--guide", "worse/bundle"], ["--guidance", "3"]].concat());
    let (before, after) = (values(&teacher), values(&["--model", "run/bundle"]));
    assert!(apart(&after, &guided) < 0.5 * apart(&before, &guided));

    let student = || fs::read(at.join("run/bundle/score.safetensors")).unwrap();
    let together = student();
    fs::remove_dir_all(at.join("run")).unwrap();
    config("steps = 25", "3.0");
    ok(train(at, &from));
    config("steps = 60", "3.0");
    ok(train(at, &["--resume"]));
    assert!(together == student());

    // A guided teacher of steps teaches otherwise than one alone.
    let steps = |guide: &str, args: &[&str]| {
        fs::remove_dir_all(at.join("run")).unwrap();
        let lesson = format!(
            "{guide}[low.edm]\nsigma_min = 0.4\n\n[low.distill]\nsteps = 2\nsubsteps = 1\n\n[low.optim]"
        );
        let config = tiny_with(&[
            ("[low.optim]", &lesson),
            ("steps = 30", "steps = 5"),
            ("steps = 30", "steps = 1"),
        ]);
        let config = config
            .replace("dpmpp-2m", "euler")
            .replace("steps = 4", "steps = 2");
        fs::write(at.join("config.toml"), config).unwrap();
        ok(train(at, args));
        student()
    };
    let guided = steps("[low.guide]\nweight = 3.0\n\n", &from);
    assert!(guided != steps("", &from[..2]));
}

/// A model led away from itself is itself; the work of both is told.
#[test]
fn a_worse_model_guides_a_better_one() {
    let folder = tiny_bundle();
    let at = folder.path();
    let sample = |args: &[&str]| {
        let mut command = wmgm(
            at,
            [
                "sample", "--model", "bundle", "--count", "2", "--out", "s.png",
            ],
        );
        command.args(args);
        (ok(command), fs::read(at.join("s.png")).unwrap())
    };
    let plain = sample(&[]);
    let guided = sample(&["--guide", "bundle", "--guidance", "3"]);
    assert!(
        guided.0.contains("and as many of its guide"),
        "{}",
        guided.0
    );
    assert!(plain.1 == guided.1);
    for (args, expected) in [
        (
            &["--guide", "bundle", "--guidance", "nan"][..],
            "the weight is NaN",
        ),
        (&["--guide", "nowhere"], "nowhere"),
    ] {
        let mut command = wmgm(at, ["sample", "--model", "bundle"]);
        command.args(args);
        fails(command, &[expected]);
    }
    // The one inside the program has other bands.
    let mut command = wmgm(at, ["sample", "--guide", "bundle"]);
    command.args(["--count", "1"]);
    fails(command, &["guide: its wavelet, side"]);
}

#[test]
fn low_bands_shown_to_the_generator_can_be_noisy() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    write_pictures(at, 5);
    let generator = |low_noise: &str| {
        let config = tiny_with(&[("crop = 8", &format!("crop = 8\nlow_noise = {low_noise}"))]);
        fs::write(at.join("config.toml"), config).unwrap();
        ok(train(at, &["--stage", "high"]));
        let metrics = metrics(&at.join("run"), "high");
        fs::remove_dir_all(at.join("run")).unwrap();
        metrics
    };
    let (plain, noisy) = (generator("0.0"), generator("0.2"));
    assert_ne!(plain, noisy);
    assert_eq!(noisy, generator("0.2"));
    let config = tiny_with(&[("crop = 8", "crop = 8\nlow_noise = 2.0")]);
    fs::write(at.join("config.toml"), config).unwrap();
    fails(train(at, &[]), &["high.low_noise is 2"]);
}

#[test]
fn data_that_cannot_be_used_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    fs::write(at.join("config.toml"), TINY).unwrap();
    fails(train(at, &[]), &["cannot read the folder pictures"]);
    fs::create_dir(at.join("pictures")).unwrap();
    fs::write(at.join("pictures/notes.txt"), "").unwrap();
    fails(
        train(at, &[]),
        &["no pictures in pictures", "1 other files"],
    );
    write_pictures(at, 110);
    fs::write(at.join("pictures/bad-1.png"), "no picture").unwrap();
    fs::write(at.join("pictures/bad-2.png"), "").unwrap();
    fails(
        train(at, &[]),
        &[
            "2 of 112 pictures",
            "bad-1.png (not a picture",
            "bad-2.png (the file is empty)",
        ],
    );
    fs::remove_dir_all(at.join("pictures")).unwrap();
    fs::create_dir(at.join("pictures")).unwrap();
    image::RgbImage::new(40, 40)
        .save(at.join("pictures/black.png"))
        .unwrap();
    fails(
        train(at, &[]),
        &[
            "the pictures in pictures: the band LL",
            "without any detail",
        ],
    );
}

#[test]
fn configurations_that_cannot_be_used_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    write_pictures(at, 3);
    let path = at.join("config.toml");
    fails(train(at, &[]), &["cannot read config.toml"]);
    for (from, to, expected) in [
        ("seed = 5", "seed = -1", "seed"),
        ("seed = 5", "seed = 5\ncolour = 1", "unknown field `colour`"),
        ("size = 32", "size = \"32\"", "size"),
        ("size = 32", "size = 34", "size 34 does not divide"),
        ("size = 32", "size = 1000000000000", "size is 1000000000000"),
        ("levels = 2", "levels = 0", "levels is 0"),
        ("levels = 2", "levels = 1", "high.generator.levels is 2"),
        ("levels = 2", "levels = 2\nwavelet = \"cats\"", "wavelet: "),
        ("fold = 1", "fold = 0", "low.unet: in_channels is 12"),
        ("fold = 1", "fold = 9", "low.fold is 9"),
        (
            "[low.optim]",
            "[low.distill]\nsteps = 0\nsubsteps = 1\n[low.optim]",
            "low.distill.steps is 0",
        ),
        (
            "[low.optim]",
            "[low.distill]\nsteps = 4\nsubsteps = 2\nsigma_min = 9.0\n[low.optim]",
            "low.distill.sigma_min is 9",
        ),
        (
            "[low.optim]",
            "[low.guide]\nweight = nan\n[low.optim]",
            "low.guide.weight is NaN",
        ),
        (
            "[high.generator]",
            "[high.official]\nnu = -1.0\n[high.generator]",
            "high.official.nu is -1",
        ),
        (
            "widths = [8, 8, 8]",
            "widths = [8, 8, 8]\nconvs = 0",
            "high.discriminator.convs is 0",
        ),
        (
            "model_channels = 32",
            "model_channels = 1099511627776",
            "low.unet.model_channels",
        ),
        (
            "model_channels = 32",
            "model_channels = 8192",
            "low.unet: a network of",
        ),
        (
            "model_channels = 32",
            "model_channels = 40",
            "multiple of 32",
        ),
        ("num_heads = 2", "num_heads = 3", "3 heads do not divide"),
        ("dropout = 0.1", "dropout = nan", "dropout"),
        ("batch = 4", "batch = 0", "low.optim.batch is 0"),
        ("steps = 30", "steps = 0", "low.optim.steps is 0"),
        ("lr = 1e-3", "lr = nan", "low.optim.lr is NaN"),
        ("ema = 0.9", "ema = 1.0", "low.optim.ema is 1"),
        (
            "discriminator_lr = 1e-3",
            "discriminator_lr = inf",
            "high.discriminator_lr is inf",
        ),
        ("l1 = 1.0", "l1 = nan", "high.l1 is NaN"),
        ("crop = 8", "crop = 7", "high.crop is 7"),
        ("widths = [8, 16]", "widths = [8, 12]", "high.generator: "),
        ("widths = [8, 16]", "widths = []", "high.generator.widths"),
        ("widths = [8, 8, 8]", "widths = [8]", "high.discriminator: "),
        (
            "sampler = \"dpmpp-2m\"",
            "sampler = \"magic\"",
            "sample: unknown sampler",
        ),
        (
            "[low.optim]",
            "[low.edm]\nsigma_min = -1.0\n[low.optim]",
            "low.edm.sigma_min is -1",
        ),
    ] {
        fs::write(&path, tiny_with(&[(from, to)])).unwrap();
        fails(train(at, &[]), &["config.toml", expected]);
    }
    fs::write(&path, [0xff, 0xfe, 0]).unwrap();
    fails(train(at, &[]), &["config.toml", "utf-8"]);
    fs::write(&path, &TINY[..TINY.len() / 3]).unwrap();
    fails(train(at, &[]), &["config.toml"]);
    assert_eq!(names(at), ["config.toml", "pictures"]);
}

#[test]
fn runs_that_cannot_be_written_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    write_pictures(at, 3);
    fs::write(at.join("config.toml"), TINY).unwrap();
    for out in ["config.toml", "config.toml/below"] {
        fails(
            wmgm(
                at,
                ["train", "config.toml", "--data", "pictures", "--out", out],
            ),
            &[out],
        );
    }
    #[cfg(unix)]
    {
        // The disk fills up at the first checkpoint.
        let args = ["train", "config.toml", "--data", "pictures", "--out", "run"];
        fails(
            super::common::limited(at, "-f 64", args),
            &["cannot write run/low.checkpoint.safetensors"],
        );
        assert_eq!(
            names(&at.join("run")),
            [".lock", "bands.json", "config.toml", "low.metrics.jsonl"]
        );
        ok(train(at, &["--resume"])); // space was made
    }
}
