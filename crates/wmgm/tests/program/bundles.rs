//! Bundles that are wrong, damaged or hostile: an error that names what is off, little memory, nothing written.

use super::common::{contents, fails, names, ok, tiny_bundle};
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;

/// `wmgm sample` on the bundle, with less memory than a hostile size asks for.
#[cfg(target_os = "linux")]
fn sample(at: &Path) -> std::process::Command {
    super::common::limited(
        at,
        "-v 3000000",
        ["sample", "--model", "bundle", "--count", "1"],
    )
}
#[cfg(not(target_os = "linux"))]
fn sample(at: &Path) -> std::process::Command {
    super::common::wmgm(at, ["sample", "--model", "bundle", "--count", "1"])
}

/// Checks that the bundle is refused with these words and nothing is written, then puts the good files back.
#[track_caller]
fn refused(at: &Path, good: &[(String, Vec<u8>)], expected: &[&str]) {
    fails(sample(at), expected);
    assert_eq!(names(at), ["bundle"]);
    for (name, bytes) in good {
        fs::write(at.join("bundle").join(name), bytes).unwrap();
    }
}

#[test]
fn configurations_that_cannot_be_used_are_refused() {
    let folder = tiny_bundle();
    let at = folder.path();
    let good = contents(&at.join("bundle"));
    let file = at.join("bundle/config.json");
    let original: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    let huge = json!(1u64 << 62);
    let cases: &[(&str, Value, &str)] = &[
        ("/format", json!(99), "format is 99"),
        ("/size", json!(33), "33 does not divide"),
        ("/size", huge.clone(), "size 4611686018427387904"),
        ("/levels", json!(0), "levels is 0"),
        ("/levels", json!(3), "bands has 2 entries"),
        ("/levels", huge.clone(), "levels is 4611686018427387904"),
        ("/wavelet", json!("cats"), "cats"),
        ("/bands", json!([]), "bands has 0 entries"),
        ("/bands/0/low/std", json!(0.0), "bands[0]: the band LL"),
        ("/bands/1/high/2/std", json!(-1.0), "bands[1]: the band HH"),
        (
            "/bands/1/high/0/mean",
            json!(1e300),
            "bands[1]: the band LH",
        ),
        (
            "/bands/0/low/std",
            json!("NaN"),
            "invalid type: string \"NaN\"",
        ),
        (
            "/score/model_channels",
            huge.clone(),
            "score.model_channels",
        ),
        ("/score/model_channels", json!(48), "multiple of 32"),
        (
            "/score/model_channels",
            json!(64),
            "tensor input_blocks.0.0.weight has shape",
        ),
        (
            "/score/channel_mult",
            json!([1u64 << 40]),
            "score.channel_mult",
        ),
        ("/score/channel_mult", json!([]), "score.channel_mult"),
        (
            "/score/channel_mult",
            json!(vec![1; 100_000]),
            "score.channel_mult",
        ),
        (
            "/score/num_res_blocks",
            huge.clone(),
            "score.num_res_blocks",
        ),
        ("/score/num_heads", json!(0), "num_heads"),
        (
            "/score/num_heads",
            json!(3),
            "3 heads do not divide the width 32",
        ),
        ("/score/num_classes", json!(10), "score.num_classes"),
        ("/score/in_channels", huge.clone(), "in_channels"),
        ("/score/dropout", json!(2.0), "dropout is 2"),
        ("/fold", huge.clone(), "fold is"),
        ("/fold", json!(0), "RGB folded 0 times has 3"),
        ("/edm/sigma_min", json!(0.0), "edm.sigma_min is 0"),
        ("/edm/sigma_min", json!(90.0), "must be below sigma_max"),
        ("/edm/rho", json!(1e300), "edm.rho"),
        ("/generator/channels", json!(4), "generator.channels is 4"),
        ("/generator/levels", json!(1), "generator.levels is 1"),
        (
            "/generator/widths",
            json!([8, 1u64 << 60]),
            "generator.widths",
        ),
        (
            "/generator/widths",
            json!([8, 12]),
            "12 is not a multiple of 8",
        ),
        (
            "/generator/widths",
            json!([8, 8, 8, 8, 8, 8]),
            "must divide by 32",
        ),
        (
            "/generator/noise_channels",
            huge.clone(),
            "generator.noise_channels",
        ),
        ("/generator/blocks", huge.clone(), "generator.blocks"),
        (
            "/sample/sampler",
            json!("magic"),
            "unknown sampler \"magic\"",
        ),
        ("/sample/steps", json!(1), "steps is 1"),
        ("/sample/steps", huge, "steps is 4611686018427387904"),
        ("/name", json!(7), "invalid type"),
    ];
    for (field, value, expected) in cases {
        let mut changed = original.clone();
        *changed
            .pointer_mut(field)
            .unwrap_or_else(|| panic!("no {field}")) = value.clone();
        fs::write(&file, changed.to_string()).unwrap();
        refused(at, &good, &["bundle/", expected]);
    }
    let mut added = original.clone();
    added["more"] = json!(1);
    let text = original.to_string();
    for (bytes, expected) in [
        (added.to_string().into_bytes(), "unknown field `more`"),
        (Vec::new(), "EOF"),
        (text.as_bytes()[..text.len() / 2].to_vec(), "EOF"),
        (vec![0xff; 100], "expected value"),
        (vec![b'['; 1 << 20], "invalid type"),
        (vec![b' '; (1 << 20) + 1], "larger than"),
    ] {
        fs::write(&file, bytes).unwrap();
        refused(at, &good, &["bundle/config.json", expected]);
    }
    ok(sample(at));
}

#[test]
fn missing_files_are_named() {
    let folder = tiny_bundle();
    let at = folder.path();
    let good = contents(&at.join("bundle"));
    for (name, _) in &good {
        fs::remove_file(at.join("bundle").join(name)).unwrap();
        refused(at, &good, &[&format!("cannot read bundle/{name}")]);
    }
    for (name, _) in &good {
        fs::remove_file(at.join("bundle").join(name)).unwrap();
        fs::create_dir(at.join("bundle").join(name)).unwrap();
        fails(sample(at), &[&format!("cannot read bundle/{name}")]);
        fs::remove_dir(at.join("bundle").join(name)).unwrap();
        fs::write(
            at.join("bundle").join(name),
            &good.iter().find(|g| &g.0 == name).unwrap().1,
        )
        .unwrap();
    }
}

/// A safetensors file of this header, with so many bytes of zeros behind it.
fn with_header(header: &str, data: usize) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.resize(bytes.len() + data, 0);
    bytes
}

/// The file with one tensor changed, removed (`None`) or added.
fn with_tensor(file: &[u8], name: &str, tensor: Option<(Dtype, Vec<usize>, Vec<u8>)>) -> Vec<u8> {
    let all = SafeTensors::deserialize(file).unwrap();
    let mut views: Vec<(&str, TensorView<'_>)> = all.iter().filter(|(n, _)| *n != name).collect();
    if let Some((dtype, shape, data)) = &tensor {
        views.push((name, TensorView::new(*dtype, shape.clone(), data).unwrap()));
    }
    safetensors::serialize(views, None).unwrap()
}

#[test]
fn damaged_and_hostile_weights_are_refused() {
    let folder = tiny_bundle();
    let at = folder.path();
    let good = contents(&at.join("bundle"));
    for (file, first) in [
        ("score.safetensors", "input_blocks.0.0.weight"),
        ("generator.safetensors", "first.weight"),
    ] {
        let path = at.join("bundle").join(file);
        let bytes = fs::read(&path).unwrap();
        let shape = SafeTensors::deserialize(&bytes)
            .unwrap()
            .tensor(first)
            .unwrap()
            .shape()
            .to_vec();
        let count: usize = shape.iter().product();
        let mut nan = vec![0u8; 4 * count];
        nan[8..12].copy_from_slice(&f32::NAN.to_le_bytes());
        let mut inf = vec![0u8; 2 * count];
        inf[2..4].copy_from_slice(&0x7c00u16.to_le_bytes());
        let mut turned = shape.clone();
        turned.reverse();
        let f16 = |shape: &[usize]| {
            Some((
                Dtype::F16,
                shape.to_vec(),
                vec![0; 2 * shape.iter().product::<usize>()],
            ))
        };
        let offsets = |a: &str, b: &str| {
            format!(
                r#"{{"a":{{"dtype":"F32","shape":[4],"data_offsets":{a}}},"b":{{"dtype":"F32","shape":[4],"data_offsets":{b}}}}}"#
            )
        };
        let shaped = |shape: &str| {
            format!(r#"{{"a":{{"dtype":"F32","shape":{shape},"data_offsets":[0,16]}}}}"#)
        };
        let named = format!("tensor {first}");
        let cases: Vec<(Vec<u8>, &str)> = vec![
            (Vec::new(), "0 bytes"),
            (bytes[..7].to_vec(), "7 bytes"),
            (bytes[..bytes.len() / 2].to_vec(), "cut off"),
            (bytes[..bytes.len() - 1].to_vec(), "cut off"),
            ([&bytes[..], &[0]].concat(), "damaged"),
            (
                [&[0xff; 8], &bytes[8..]].concat(),
                "claims 18446744073709551615 bytes",
            ),
            (
                [&(1u64 << 40).to_le_bytes(), &bytes[8..]].concat(),
                "claims 1099511627776 bytes",
            ),
            (with_header(&" ".repeat(9 << 20), 0), "8388608 are allowed"),
            (with_header("{", 0), "damaged"),
            (with_header(&"[".repeat(1 << 20), 0), "damaged"),
            (with_header(&offsets("[0,16]", "[8,24]"), 24), "damaged"),
            (
                with_header(&offsets("[0,16]", "[16,4294967296]"), 32),
                "damaged",
            ),
            (with_header(&offsets("[16,0]", "[16,32]"), 32), "damaged"),
            (
                with_header(
                    &offsets("[0,16]", "[18446744073709551600,18446744073709551615]"),
                    32,
                ),
                "damaged",
            ),
            (
                with_header(&shaped("[9223372036854775807,9223372036854775807]"), 16),
                "damaged",
            ),
            (with_header(&shaped("[1099511627776]"), 16), "damaged"),
            (with_header(&shaped("[0,1099511627776]"), 16), "damaged"),
            (with_header(&shaped("[4]"), 16), "is missing"),
            (with_tensor(&bytes, first, None), &named),
            (with_tensor(&bytes, first, f16(&turned)), "has shape"),
            (
                with_tensor(
                    &bytes,
                    first,
                    Some((Dtype::F64, shape.clone(), vec![0; 8 * count])),
                ),
                "is F64",
            ),
            (
                with_tensor(
                    &bytes,
                    first,
                    Some((Dtype::I32, shape.clone(), vec![0; 4 * count])),
                ),
                "is I32",
            ),
            (
                with_tensor(
                    &bytes,
                    first,
                    Some((Dtype::F8_E4M3, shape.clone(), vec![0; count])),
                ),
                "is F8_E4M3",
            ),
            (
                with_tensor(&bytes, first, Some((Dtype::F32, shape.clone(), nan))),
                "holds NaN at position 2",
            ),
            (
                with_tensor(&bytes, first, Some((Dtype::F16, shape.clone(), inf))),
                "holds inf at position 1",
            ),
            (
                with_tensor(&bytes, "more", f16(&[3])),
                "tensor more belongs to no layer",
            ),
        ];
        for (changed, expected) in cases {
            fs::write(&path, changed).unwrap();
            refused(at, &good, &[&format!("bundle/{file}"), expected]);
        }
    }
    ok(sample(at));
}

/// Finite weights can still be absurd: what they compute must be finite, too.
#[test]
fn weights_that_overflow_are_told_by_their_picture() {
    let folder = tiny_bundle();
    let at = folder.path();
    let good = contents(&at.join("bundle"));
    let path = at.join("bundle/generator.safetensors");
    let bytes = fs::read(&path).unwrap();
    let all = SafeTensors::deserialize(&bytes).unwrap();
    let shape = all.tensor("last.bias").unwrap().shape().to_vec();
    let values: Vec<u8> = (0..shape[0]).flat_map(|_| f32::MAX.to_le_bytes()).collect();
    let bias = Some((Dtype::F32, shape, values));
    fs::write(&path, with_tensor(&bytes, "last.bias", bias)).unwrap();
    let file = at.join("bundle/config.json");
    let mut config: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    config["bands"][0]["high"][0]["std"] = json!(1e6);
    fs::write(&file, config.to_string()).unwrap();
    refused(
        at,
        &good,
        &["picture 0", "the weights or the input are broken"],
    );
}

/// Any damage at all: an error or a bundle, never a panic or a lot of memory.
#[test]
fn random_damage_does_no_harm() {
    let folder = tiny_bundle();
    let good = contents(&folder.path().join("bundle"));
    let mut words = vec![0u32; 4 * 600];
    nn_ops::noise::fill_words(9, 0, 0, 0, &mut words);
    let mut refused = 0;
    for w in words.chunks_exact(4) {
        let mut files: Vec<Vec<u8>> = good.iter().map(|(_, bytes)| bytes.clone()).collect();
        let file = &mut files[w[0] as usize % 3];
        let head = file.len().min(4000); // where the structure is
        for place in [w[1], w[2]] {
            file[place as usize % head] ^= 1 << (w[3] % 8);
        }
        if w[3].is_multiple_of(5) {
            file.truncate(w[2] as usize % head);
        }
        let bytes = wmgm::bundle::BundleBytes {
            config: &files[0],
            generator: &files[1],
            score: &files[2],
        };
        let name = Path::new("damaged");
        refused +=
            usize::from(wmgm::Bundle::from_bytes(bytes, name, &candle_core::Device::Cpu).is_err());
    }
    assert!(refused > 300, "only {refused} of 600 were refused");
}
