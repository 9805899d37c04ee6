//! `wmgm compare`: real pictures, small networks, a few steps.
#![cfg(unix)]

use super::common::{contents, fails, names, ok, repository, stderr, wmgm, write_weights};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::Instant;
use wmgm::compare::{CompareConfig, training_work};
use wmgm::config::RunConfig;

/// The small comparison of the assets, with less work.
fn started() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let configs = repository().join("assets/configs");
    for name in ["small-sgm.toml", "small-wsgm.toml", "small-wmgm.toml"] {
        fs::copy(configs.join(name), folder.path().join(name)).unwrap();
    }
    let text = fs::read_to_string(configs.join("compare-small.toml")).unwrap();
    assert!(text.contains("multiply_adds = 2e9"));
    let text = text.replace("multiply_adds = 2e9", "multiply_adds = 1e9");
    fs::write(folder.path().join("compare.toml"), text).unwrap();
    folder
}

/// What stands before the models in the comparison of `started`, with points at four passes alone.
fn head_of_few_points(at: &Path) -> String {
    let good = fs::read_to_string(at.join("compare.toml")).unwrap();
    good[..good.find("[[model]]").unwrap()]
        .replace("passes = [4, 8, 16]", "passes = [4]")
        .replace("sheet = 8", "sheet = 4")
}

fn compare(at: &Path, out: &str) -> Command {
    let pictures = repository().join("assets/pictures");
    let mut command = wmgm(at, ["compare", "compare.toml", "--out", out, "--data"]);
    command
        .arg(pictures)
        .env("RAYON_NUM_THREADS", "2")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

#[test]
fn a_killed_comparison_ends_with_the_same_results() {
    let folder = started();
    let at = folder.path();
    let began = Instant::now();
    let told = ok(compare(at, "once"));
    let whole = began.elapsed();
    assert!(told.contains("compared  7 models at "), "{told}");

    for (i, signal) in [Signal::KILL, Signal::TERM, Signal::KILL]
        .iter()
        .enumerate()
    {
        let mut child = compare(at, "parts").spawn().unwrap();
        sleep(whole.mul_f64(0.25 + 0.05 * i as f64));
        if child.try_wait().unwrap().is_none() {
            kill_process(Pid::from_child(&child), *signal).unwrap();
        }
        let output = child.wait_with_output().unwrap();
        let code = output.status.code();
        assert!(matches!(code, None | Some(0 | 130)), "{}", stderr(&output));
    }
    ok(compare(at, "parts"));
    let read = |run: &str, file: &str| fs::read(at.join(run).join(file)).unwrap();
    for file in ["results.json", "pictures.png", "ablations.png"] {
        assert!(read("once", file) == read("parts", file), "{file} differs");
    }
    for folder in ["once", "once/points"] {
        let other = folder.replace("once", "parts");
        assert_eq!(names(&at.join(folder)), names(&at.join(other)));
    }

    // Nothing is made again, and the results stay.
    let before = contents(&at.join("once/points"));
    let mut again = compare(at, "once");
    let output = again.output().unwrap();
    let text = stderr(&output);
    assert!(output.status.success(), "{text}");
    let points = text
        .lines()
        .filter(|line| line.contains(": point "))
        .count();
    let there = text
        .lines()
        .filter(|line| line.ends_with(", there already"))
        .count();
    assert!(points == there && points == before.len(), "{text}");
    assert!(contents(&at.join("once/points")) == before);

    reads_well(&at.join("once"));
    timed_again(at);

    // More work is another comparison.
    let text = fs::read_to_string(at.join("compare.toml")).unwrap();
    fs::write(at.join("compare.toml"), text.replace("= 1e9", "= 2e9")).unwrap();
    fails(
        compare(at, "once"),
        &["once/sgm/config.toml", "another configuration"],
    );
}

/// Points are timed again where that is asked for, and stay what they are.
fn timed_again(at: &Path) {
    let read = |file: &str| fs::read(at.join("once").join(file)).unwrap();
    let results = read("results.json");
    let before = json(&at.join("once/timings.json"));
    ok({
        let mut again = compare(at, "once");
        again.arg("--time-again");
        again
    });
    assert!(read("results.json") == results);
    let after = json(&at.join("once/timings.json"));
    let [before, after] = [&before, &after].map(|t| t["points"].as_array().unwrap().clone());
    assert_eq!(before.len(), after.len());
    let mut other = 0;
    for (before, after) in before.iter().zip(&after) {
        for field in ["model", "sampler", "passes", "seed", "pictures"] {
            assert_eq!(before[field], after[field]);
        }
        let seconds = |point: &Value| point["seconds"].as_f64().unwrap();
        assert!(seconds(after) > 0.0);
        other += usize::from(seconds(before) != seconds(after));
    }
    assert!(other > after.len() / 2, "{other} of {}", after.len());
}

/// What is trained elsewhere by the configurations of a plan is taken as it is.
#[test]
fn models_trained_elsewhere_are_not_trained_again() {
    let folder = started();
    let at = folder.path();
    let head = head_of_few_points(at);
    let model = "[[model]]\nname = \"wmgm\"\nconfig = \"small-wmgm.toml\"\n";
    fs::write(at.join("compare.toml"), format!("{head}{model}")).unwrap();
    ok(compare(at, "here"));

    ok(wmgm(at, ["compare", "compare.toml", "--configs", "plan"]));
    let pictures = repository().join("assets/pictures");
    for (stage, resume) in [("low", None), ("high", Some("--resume"))] {
        let mut train = wmgm(at, ["train", "plan/wmgm.toml", "--out", "there/wmgm"]);
        train.args(["--stage", stage]).args(resume);
        ok({
            train.arg("--data").arg(&pictures);
            train
        });
    }
    let output = compare(at, "there").output().unwrap();
    let text = stderr(&output);
    assert!(output.status.success(), "{text}");
    assert!(
        text.contains("model wmgm") && !text.contains("from step 0 "),
        "{text}"
    );
    for file in ["results.json", "pictures.png"] {
        let read = |out: &str| fs::read(at.join(out).join(file)).unwrap();
        assert!(read("here") == read("there"), "{file} differs");
    }
}

/// What the results say of themselves is so.
fn reads_well(out: &Path) {
    let results = json(&out.join("results.json"));
    let models = results["models"].as_array().unwrap();
    let named = |name: &str| models.iter().find(|m| m["name"] == name).unwrap();
    for model in models {
        let scale = if model["ablation"] == true { 0.2 } else { 1.0 };
        let work = model["training"].as_array().unwrap();
        let total: f64 = (work.iter())
            .map(|w| w["step"].as_f64().unwrap() * w["steps"].as_f64().unwrap())
            .sum();
        // Less than a step of each stage is left over.
        let steps: f64 = work.iter().map(|w| w["step"].as_f64().unwrap()).sum();
        assert!(
            total <= 1e9 * scale && total > 1e9 * scale - steps,
            "{model}"
        );
        for point in model["points"].as_array().unwrap() {
            let (passes, allowed) = (&point["cost"]["passes"], &point["allowed"]);
            assert!(passes.as_u64() <= allowed.as_u64(), "{point}");
            let distances = point["distances"]["band distance"].as_array().unwrap();
            assert_eq!(distances.len(), 2);
            assert!(distances.iter().all(|d| d.as_f64().unwrap() > 0.0));
        }
    }
    let passes = |name: &str| -> Vec<u64> {
        let points = named(name)["points"].as_array().unwrap();
        points
            .iter()
            .map(|p| p["cost"]["passes"].as_u64().unwrap())
            .collect()
    };
    // Heun's 2 n - 1; a third of the passes for each network; two for the generator.
    assert_eq!(passes("sgm"), [4, 8, 16, 3, 7, 15]);
    assert_eq!(passes("wsgm"), [3, 6, 15]);
    assert_eq!(passes("wmgm-small"), [4, 8, 16]);
    assert_eq!(passes("regression"), [8]);
    let text = fs::read_to_string(out.join("results.md")).unwrap();
    for part in [
        "## Models at 8 passes",
        "## Ablations at 8 passes",
        "| wmgm-large |",
        "ratio",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let timings = json(&out.join("timings.json"));
    assert!(timings["training"]["sgm"].as_f64().unwrap() > 0.0);
    let chart = image::open(out.join("curves-band-distance.png")).unwrap();
    assert_eq!((chart.width(), chart.height()), (3 * 760, 480));
    let sheet = image::open(out.join("pictures.png")).unwrap();
    assert_eq!((sheet.width(), sheet.height()), (8 * 34 + 2, 4 * 34 + 2));
}

/// Models of another run are told beside one's own, if they can be compared.
#[test]
fn results_of_other_runs_stand_beside_ones_own() {
    let folder = started();
    let at = folder.path();
    let head = head_of_few_points(at);
    let model =
        |name: &str| format!("[[model]]\nname = \"{name}\"\nconfig = \"small-wmgm.toml\"\n");
    fs::write(
        at.join("compare.toml"),
        format!("{head}{}", model("theirs")),
    )
    .unwrap();
    ok(compare(at, "there"));
    let beside = |out: &str, results: &str| {
        let mut command = compare(at, out);
        command.arg("--beside").arg(at.join(results));
        command
    };
    // The name is taken: told before anything is trained.
    let results = "there/results.json";
    fails(
        beside("here", results),
        &[results, "theirs", "another name"],
    );
    assert!(!at.join("here/theirs").exists());

    fs::write(at.join("compare.toml"), format!("{head}{}", model("mine"))).unwrap();
    ok(beside("here", results));
    let there = json(&at.join(results));
    let both = json(&at.join("here/results.json"));
    let [mine, theirs] = [0, 1].map(|i| &both["models"][i]);
    assert_eq!(mine["name"], "mine");
    assert_eq!(*theirs, there["models"][0]);
    let timings = |out: &str| json(&at.join(out).join("timings.json"));
    assert_eq!(timings("here")["points"][2], timings("there")["points"][0]);
    let row = || {
        let text = fs::read_to_string(at.join("here/results.md")).unwrap();
        assert!(text.contains("Of other runs: theirs."), "{text}");
        let row = text.lines().find(|l| l.starts_with("| theirs |"));
        let cells: Vec<String> = row.unwrap().split('|').map(|c| c.trim().into()).collect();
        // Seconds of training and of a picture.
        [cells[5].clone(), cells[9].clone()]
    };
    assert!(row().iter().all(|cell| cell.parse::<f64>().is_ok()));
    // Without their seconds.
    fs::create_dir(at.join("bare")).unwrap();
    fs::copy(at.join(results), at.join("bare/results.json")).unwrap();
    ok(beside("here", "bare/results.json"));
    assert_eq!(row(), ["-", "-"]);

    // What cannot be compared, or drawn.
    let text = fs::read_to_string(at.join(results)).unwrap();
    let fingerprint = there["fingerprint"].as_str().unwrap();
    for (what, from, to, told) in [
        ("pictures", fingerprint, "0123456789abcdef", "same pictures"),
        (
            "numbers",
            "\"pictures\": ",
            "\"pictures\": 1",
            "unequal numbers",
        ),
        (
            "measures",
            "\"band distance\": ",
            "\"other\": ",
            "no band distance",
        ),
        (
            "names",
            "\"name\": \"theirs\"",
            "\"name\": \"a/b\"",
            "is no name",
        ),
        (
            "identities",
            "512 quantiles",
            "256 quantiles",
            "with the same features and weights",
        ),
        ("costs", "\"passes\": 4", "\"passes\": 0", "costs nothing"),
        ("json", "{", "[", "bare/json.json"),
    ] {
        let changed = text.replace(from, to);
        assert!(changed != text, "{what}");
        let file = format!("bare/{what}.json");
        fs::write(at.join(&file), changed).unwrap();
        fails(beside("here", &file), &[&file, told]);
    }
    fs::write(at.join("bare/timings.json"), "{}").unwrap();
    fails(beside("here", "bare/results.json"), &["bare/timings.json"]);
    fails(beside("here", "none.json"), &["none.json"]);
}

#[test]
fn features_and_a_headline() {
    let folder = started();
    let at = folder.path();
    let text = fs::read_to_string(at.join("compare.toml")).unwrap();
    let models = text.find("[[model]]").unwrap();
    let small = text[..models]
        .replace("passes = [4, 8, 16]", "passes = [4]")
        .replace(
            "sheet = 8",
            "sheet = 4\nheadline = 12\nfeatures = [\"efficientnet-lite0\"]",
        )
        + "[[model]]\nname = \"wmgm\"\nconfig = \"small-wmgm.toml\"\n";
    fs::write(at.join("compare.toml"), &small).unwrap();
    let run = || {
        let mut command = compare(at, "out");
        command.env("XDG_CACHE_HOME", at.join("cache"));
        command
    };
    // Without the weights, before anything is trained.
    fails(run(), &["efficientnet-lite0", "feature-weights"]);
    assert!(!at.join("out/wmgm").exists());
    let weights = write_weights(at);
    ok(run());
    let results = json(&at.join("out/results.json"));
    let names = [
        "band distance",
        "Frechet distance (efficientnet-lite0)",
        "kernel distance (efficientnet-lite0)",
    ];
    assert_eq!(results["measures"], serde_json::json!(names));
    let model = &results["models"][0];
    for name in names {
        let curve = model["points"][0]["distances"][name].as_array().unwrap();
        assert_eq!(curve.len(), 2);
        assert_eq!(
            model["headline"]["distances"][name]
                .as_array()
                .unwrap()
                .len(),
            1
        );
    }
    let words = fs::read_to_string(at.join("out/results.md")).unwrap();
    assert!(
        words.contains("## 12 pictures of seed 0 at 4 passes"),
        "{words}"
    );
    assert!(
        at.join("out/curves-frechet-distance-efficientnet-lite0.png")
            .exists()
    );

    // The same weights elsewhere are the same measure: nothing is made again.
    let other = at.join("other.safetensors");
    fs::rename(&weights, &other).unwrap();
    let before = contents(&at.join("out/points"));
    let mut named = run();
    named
        .arg("--weights")
        .arg(format!("efficientnet-lite0={}", other.display()));
    ok(named);
    assert!(contents(&at.join("out/points")) == before);
}

#[test]
fn what_two_models_train_alike_is_trained_once() {
    let folder = started();
    let at = folder.path();
    let head = head_of_few_points(at);
    let wmgm = "[[model]]\nname = \"wmgm\"\nconfig = \"small-wmgm.toml\"\nshares = [2.0, 1.0]\n";
    let others = [
        "[[model]]\nname = \"wsgm\"\nconfig = \"small-wsgm.toml\"\nshares = [4.0, 1.0, 1.0]\n",
        "[[model]]\nname = \"regression\"\nconfig = \"small-wmgm.toml\"\nshares = [2.0, 1.0]\nset.high.adversarial = 0.0\n",
        "[[model]]\nname = \"db2\"\nconfig = \"small-wmgm.toml\"\nshares = [2.0, 1.0]\nset.wavelet = \"db2\"\n",
    ];
    let told = |text: String, out: &str| {
        fs::write(at.join("compare.toml"), text).unwrap();
        let output = compare(at, out).output().unwrap();
        let text = stderr(&output);
        assert!(output.status.success(), "{text}");
        text
    };
    let together = told(format!("{head}{wmgm}{}", others.concat()), "together");
    let alone = told(format!("{head}{}", others.concat()), "alone");
    let begun = |text: &str| text.matches("low: from step 0 to ").count();
    // The low band of another wavelet is another one. Alone, regression has that of wsgm.
    assert_eq!((begun(&together), begun(&alone)), (2, 2), "{together}");
    let mut equal = 0;
    for run in ["wsgm", "regression", "db2"] {
        for file in names(&at.join("alone").join(run)) {
            if file.ends_with(".checkpoint.safetensors") {
                let read = |out: &str| fs::read(at.join(out).join(run).join(&file)).unwrap();
                assert!(read("together") == read("alone"), "{run}/{file}");
                equal += 1;
            }
        }
    }
    assert_eq!(equal, 3 + 2 + 2);
}

#[test]
fn a_plan_tells_the_work_before_it_is_done() {
    let folder = started();
    let at = folder.path();
    let told = ok(wmgm(at, ["compare", "compare.toml"]));
    assert!(told.contains("wsgm") && told.contains("level2 "), "{told}");
    assert!(told.lines().last().unwrap().starts_with("all "), "{told}");
    // The comparisons of the paper's data can be planned, too: equal work for every model.
    for (file, models, each) in [
        ("compare-afhq-cat-128.toml", 4, 1.5e14),
        ("ablations-afhq-cat-128.toml", 8, 1.5e14),
        ("seeds-afhq-cat-128.toml", 4, 1.5e14),
    ] {
        let real = repository().join("assets/configs").join(file);
        let planned = CompareConfig::read(&real).unwrap().plan().unwrap();
        assert_eq!(planned.len(), models, "{file}");
        for plan in planned {
            let work = training_work(&plan.run).unwrap();
            let total: u64 = work.iter().map(|w| w.total()).sum();
            let part = total as f64 / each;
            assert!((part - 1.0).abs() < 0.001, "{file}: {}", plan.model.name);
        }
    }
}

/// A step of the smallest networks, written out.
#[test]
fn work_of_training_by_hand() {
    let config = RunConfig::parse(super::common::TINY).unwrap();
    let work = training_work(&config).unwrap();
    // 4 x 4 positions, 12 channels, width 32; every block 32 + its skip to 32, time 32 -> 128 -> 128 -> 64 in each.
    let res = |ci: u64| {
        let skip = if ci == 32 { 0 } else { ci * 32 * 16 };
        9 * (ci + 32) * 32 * 16 + 128 * 64 + skip
    };
    let attention = 4 * 32 * 32 * 16 + 2 * 32 * 16 * 16;
    let ends = 2 * 9 * 12 * 32 * 16;
    let time = 32 * 128 + 128 * 128;
    let pass = time + ends + res(32) + 2 * res(32) + attention + 2 * res(64);
    assert_eq!((work[0].step, work[0].steps), (3 * 4 * pass, 30));
    // Both levels in crops of 8 x 8, 3 items each: a generator and a discriminator as in the tests of msal-gan.
    let block = |ci: u64, co: u64, p: u64| {
        let skip = if ci == co { 0 } else { ci * co * p };
        9 * (ci + co) * co * p + skip
    };
    let generator = 9 * 7 * 8 * 64
        + block(8, 8, 64)
        + block(8, 16, 16)
        + block(16, 16, 16)
        + block(24, 8, 64)
        + 9 * 8 * 9 * 64;
    let judge = 9 * (14 * 8 * 64 + (8 * 8 + 8 * 8 + 8) * 16);
    assert_eq!(work[1].step, 6 * (3 * generator + 8 * judge));
}

#[test]
fn comparisons_that_cannot_be_made_are_refused() {
    let folder = started();
    let at = folder.path();
    let good = fs::read_to_string(at.join("compare.toml")).unwrap();
    for (from, to, expected) in [
        ("passes = [4, 8, 16]", "passes = [8, 4]", "passes is [8, 4]"),
        ("sheet = 8", "sheet = 5", "sheet 5"),
        ("seeds = [0, 1]", "seeds = [1, 1]", "seeds is [1, 1]"),
        ("pictures = 8", "pictures = 1", "pictures is 1"),
        (
            "multiply_adds = 1e9",
            "multiply_adds = 1e3",
            "pays for 0 steps",
        ),
        (
            "multiply_adds = 1e9",
            "multiply_adds = nan",
            "multiply_adds is NaN",
        ),
        (
            "pictures = 8",
            "pictures = 8\nheadline = 1",
            "headline is 1",
        ),
        (
            "pictures = 8",
            "pictures = 8\nheadline = 8",
            "headline is 8, it must be more than pictures (8)",
        ),
        ("\"heun\"", "\"magic\"", "unknown sampler \"magic\""),
        // Two steps and two levels.
        (
            "passes = [4, 8, 16]\npictures = 8\nseeds = [0, 1]\nbatch = 8\nsheet = 8",
            "passes = [3]\npictures = 8\nseeds = [0, 1]\nbatch = 8\nsheet = 3",
            "as the model wmgm-small: it takes at least 4 passes",
        ),
        (
            "pictures = 8",
            "pictures = 8\nfeatures = [\"vgg\"]",
            "each of efficientnet-lite0",
        ),
        ("name = \"sgm\"", "name = \"../sgm\"", "cannot be named so"),
        ("name = \"sgm\"", "name = \"wsgm\"", "two models are named"),
        ("\"small-sgm.toml\"", "\"none.toml\"", "none.toml"),
        ("shares = [2.0, 1.0]", "shares = [2.0]", "low, high"),
        ("scale = 0.2", "scale = 2.0", "scale is 2"),
        (
            "set.wavelet = \"db2\"",
            "set.wavelet = \"cats\"",
            "as the model db2: wavelet",
        ),
        (
            "set.wavelet = \"db2\"",
            "set.size = 64",
            "only pictures of one size",
        ),
        (
            "batch = 8",
            "batch = 8\ncolour = 1",
            "unknown field `colour`",
        ),
    ] {
        assert!(good.contains(from), "{from}");
        fs::write(at.join("compare.toml"), good.replacen(from, to, 1)).unwrap();
        fails(compare(at, "out"), &[expected]);
        assert!(!at.join("out").exists(), "{from}");
    }
}

/// What was trained for longer than its steps tell is no part of an equal comparison.
#[test]
fn a_model_that_began_from_another_is_refused() {
    let folder = started();
    let at = folder.path();
    let head = head_of_few_points(at);
    let text = format!("{head}[[model]]\nname = \"mine\"\nconfig = \"small-wmgm.toml\"\n");
    fs::write(at.join("compare.toml"), text).unwrap();
    ok(wmgm(at, ["compare", "compare.toml", "--configs", "plan"]));
    let train = |out: &str, more: &[&str]| {
        let mut command = wmgm(at, ["train", "plan/mine.toml", "--out", out, "--data"]);
        command.arg(repository().join("assets/pictures"));
        command.args(more);
        ok(command)
    };
    train("first", &[]);
    train("out/mine", &["--init", "first/bundle"]);
    fails(
        compare(at, "out"),
        &["out/mine/config.toml", "from the model"],
    );
    train("other/mine", &[]);
    ok(compare(at, "other"));
}
