//! Files that are cut off, damaged or made to harm: an error with the file's name, soon, in little memory, no panic.

mod common;

use checkpoints::{Bytes, Checkpoint, Error};
use common::{Part, Pickle, case, cpu, part, torch, zip};
use proptest::prelude::*;
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// Opens, and reads every tensor.
fn read_all(name: &str, bytes: impl Into<Bytes>) -> Result<HashMap<String, Vec<u8>>, Error> {
    let file = Checkpoint::from_bytes(name, bytes)?;
    let mut all = HashMap::new();
    for (tensor, stored) in file.iter() {
        // Types that candle has not are no fault of the file.
        if let Err(e) = file.tensor(tensor, &cpu())
            && stored.bytes().is_err()
        {
            return Err(e);
        }
        let bytes = stored.bytes().map_err(|reason| Error::Tensor {
            path: name.into(),
            name: tensor.into(),
            reason,
        })?;
        all.insert(tensor.to_owned(), bytes.into_owned());
    }
    Ok(all)
}

#[track_caller]
fn refused(name: &str, bytes: Vec<u8>, expected: &str) {
    let began = Instant::now();
    let error = match read_all(name, bytes) {
        Ok(all) => panic!("{expected:?}: read {} tensors", all.len()),
        Err(e) => e.to_string(),
    };
    assert!(
        began.elapsed() < Duration::from_secs(1),
        "{:?}: {error}",
        began.elapsed()
    );
    assert!(error.starts_with(name), "no file in: {error}");
    assert!(error.contains(expected), "{expected:?} is not in: {error}");
    assert!(error.len() < 1000, "{} bytes of words", error.len());
    little_memory();
}

/// The most memory this process has ever held stays far below what these files claim.
fn little_memory() {
    #[cfg(target_os = "linux")]
    {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let peak = status
            .lines()
            .find_map(|l| l.strip_prefix("VmHWM:"))
            .unwrap();
        let kilobytes: u64 = peak.trim().trim_end_matches(" kB").trim().parse().unwrap();
        assert!(kilobytes < 1_500_000, "{kilobytes} kB");
    }
}

/// A dictionary with one entry, in a file with a storage of 16 bytes.
#[track_caller]
fn refused_entry(entry: impl Fn(Pickle) -> Pickle, expected: &str) {
    let pickle = entry(Pickle::default().raw(b"}").text("a")).raw(b"s").end();
    refused("f.pth", torch(&pickle, &[0; 16]), expected);
}

#[test]
fn nothing_is_run_and_what_would_be_is_named() {
    for (module, name) in [
        ("os", "system"),
        ("posix", "system"),
        ("builtins", "eval"),
        ("__builtin__", "exec"),
        ("subprocess", "Popen"),
        ("torch.storage", "_load_from_bytes"),
        ("torch", "load"),
        ("torch.hub", "load"),
        ("collections", "Counter"),
        ("numpy.core.multiarray", "fromfile"),
        ("torch", ""),
        ("torch", "Storage"),
    ] {
        let call = |p: Pickle| {
            p.raw(format!("c{module}\n{name}\n").as_bytes())
                .raw(b"(")
                .text("touch /tmp/x")
                .raw(b"tR")
        };
        refused_entry(
            call,
            &format!("its pickle wants {module}.{name}, which no file of tensors needs"),
        );
        let by_stack = |p: Pickle| p.text(module).text(name).raw(b"\x93(").text("x").raw(b"tR");
        refused_entry(by_stack, &format!("{module}.{name}"));
    }
    let opaque = std::fs::read(case("opaque.pth")).unwrap();
    refused("opaque.pth", opaque, "__main__.Opaque");
    refused_entry(|p| p.raw(b"(iposix\nsystem\n"), "the instruction INST");
    refused_entry(|p| p.raw(b"\x82\x01"), "the instruction EXT1");
    refused_entry(|p| p.text("f").raw(b")R"), "to call text");
    refused_entry(
        |p| p.global("torch.FloatStorage").raw(b")R"),
        "to call a type of torch",
    );
    refused_entry(
        |p| p.global("collections.OrderedDict"),
        "a function or class as a value",
    );
    refused_entry(|p| p.raw(b"]}b"), "to set the state of a list");
    refused_entry(
        |p| {
            p.raw(b"cnumpy.core.multiarray\n_reconstruct\n(")
                .text("touch /tmp/x")
                .raw(b"tR")
        },
        "_reconstruct is called with other arguments",
    );
    let array = |p: Pickle| {
        let p = p.raw(b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\n");
        p.raw(b"K\0\x85C\x01b\x87R")
    };
    refused_entry(array, "a numpy array without values as a value");
    refused_entry(|p| array(p).raw(b"}b"), "to set the state of a numpy array");
    // An array that claims more than its bytes hold.
    let filled = |p: Pickle, shape: &[u8], code: &str| {
        let p = array(p).raw(b"(K\x01").raw(shape).raw(b"cnumpy\ndtype\n");
        p.text(code).raw(b"\x85R\x89C\x04\0\0\0\0tb")
    };
    refused_entry(
        |p| filled(p, b"K\x02\x85", "f4"),
        "beyond a record of 4 bytes",
    );
    refused_entry(
        |p| filled(p, b"K\x01\x85", "O8"),
        "a numpy array of type O8",
    );
    refused_entry(|p| p.raw(b"cnumpy\nndarray\n)R"), "to call numpy.ndarray");
    refused_entry(
        |p| p.raw(b"(").text("module").raw(b"tQ"),
        "not that of a storage",
    );
    refused_entry(
        |p| {
            let p = p.raw(b"(").text("module").global("torch.FloatStorage");
            p.text("0").text("cpu").int(4).raw(b"tQ")
        },
        "a persistent module",
    );
}

#[test]
fn pickles_that_claim_and_nest_too_much() {
    let u32max = u32::MAX.to_le_bytes();
    refused_entry(
        |p| p.raw(b"X").raw(&u32max),
        "cut off: 4294967295 bytes are needed",
    );
    refused_entry(
        |p| p.raw(b"\x8d").raw(&(1u64 << 63).to_le_bytes()),
        "cut off: 9223372036854775808",
    );
    refused_entry(|p| p.raw(b"\x8e").raw(&[0xff; 8]), "cut off");
    refused_entry(|p| p.raw(b"B").raw(&u32max), "cut off");
    refused_entry(|p| p.raw(b"\x8b").raw(&u32max), "cut off");
    refused_entry(
        |p| p.raw(b"\x8b").raw(&[100, 0, 0, 0]).raw(&[1; 100]),
        "an integer of 100 bytes",
    );
    refused_entry(
        |p| p.raw(b"\x95").raw(&[0xff; 8]).raw(b"N\xff"),
        "is no instruction",
    );
    refused_entry(|p| p.raw(b"X\x02\0\0\0\xff\xff"), "is not UTF-8");
    refused_entry(|p| p.raw(b"0000"), "takes more from its stack");
    refused_entry(|p| p.raw(b"t"), "a mark that is not there");
    refused_entry(|p| p.raw(b"h\x09"), "recalls 9");
    refused_entry(|p| p.raw(b"c").raw(&[b'x'; 5000]), "does not end");
    refused_entry(
        |p| p.raw(&b"]".repeat(200_000)).raw(&b"a".repeat(199_999)),
        "deeper than 64",
    );
    refused_entry(|p| p.raw(b"]q\x00h\x00a"), "holds itself");
    refused_entry(
        |p| p.raw(b"}q\x00").text("k").raw(b"h\x00s"),
        "holds itself",
    );
    refused_entry(
        |p| p.raw(b"N").raw(&b"2".repeat(2 << 20)),
        "stack holds more than",
    );
    refused_entry(|p| p.raw(&b"N".repeat(2 << 20)), "more than");
    refused_entry(|p| p.raw(&b"(".repeat(2 << 20)), "stack holds more than");
    refused_entry(
        |p| p.raw(b"N").raw(&b"\x94".repeat(2 << 20)),
        "keeps more than",
    );
    refused_entry(
        |p| p.raw(b"]q\x00").raw(&b"h\x00h\x00\x86".repeat(1_100_000)),
        "more than",
    );
    refused(
        "f.pth",
        torch(&vec![b'N'; 33 << 20], &[]),
        "data.pkl has 34603008 bytes",
    );
    // Each of thirty lists holds the one before ten times.
    let tower = |p: Pickle| {
        (0..30u8).fold(p.raw(b"Nq\x00"), |p, i| {
            p.raw(b"0](")
                .raw(&[b'h', i].repeat(10))
                .raw(&[b'e', b'q', i + 1])
        })
    };
    refused_entry(tower, "by too many ways");
    // The same where an old file has its version.
    let magic = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.";
    let version = tower(Pickle::default()).end();
    refused(
        "f.pt",
        [&magic[..], &version].concat(),
        "the file's version is a list",
    );
    // Each of many dictionaries holds the one before; the root holds them all, the deepest last, so that each is finished
    // when the next is.
    let refer = |code: u8, i: u32| [&[code][..], &i.to_le_bytes()].concat();
    let chain = |p: Pickle| {
        let p = (0..50_000u32).fold(p, |p, i| {
            let p = p.raw(b"}");
            let p = match i.checked_sub(1) {
                Some(before) => p.text("").raw(&refer(b'j', before)).raw(b"s"),
                None => p,
            };
            p.raw(&refer(b'r', i)).raw(b"0")
        });
        (0..50_000u32).fold(p.raw(b"}"), |p, i| {
            p.text("").raw(&refer(b'j', i)).raw(b"s")
        })
    };
    refused_entry(chain, "deeper than 64");
    // One text, made into bytes again and again.
    let encoded = |p: Pickle| {
        let p = p.text(&"x".repeat(1 << 20)).raw(b"q\x010](");
        let p = (0..3000).fold(p, |p, _| {
            p.global("_codecs.encode")
                .raw(b"h\x01")
                .text("latin1")
                .raw(b"\x86R")
        });
        p.raw(b"e")
    };
    refused_entry(encoded, "make more bytes than it has");
    // One long list, made into a dictionary again and again.
    let copies = |p: Pickle| {
        let pairs = (0..20_000).fold(p.raw(b"]("), |p, _| p.text("k").raw(b"N\x86"));
        let p = pairs.raw(b"eq\x010N");
        (0..300).fold(p, |p, _| {
            p.raw(b"0")
                .global("collections.OrderedDict")
                .raw(b"h\x01\x85R")
        })
    };
    refused_entry(copies, "lists have more than");
    refused_entry(|p| p.raw(b"}").raw(b"K\x01\x85Ns"), "a tuple as a key");
    refused_entry(|p| p.raw(b"](NNu"), "sets a key of a list");
    refused_entry(|p| p.raw(b"}(Nu"), "a key of a dictionary has no value");
    refused_entry(|p| p.raw(b"}Na"), "adds an item to a dictionary");
}

#[test]
fn tensors_that_lead_out_of_their_file() {
    let tensor = |count, offset, shape: &'static [i64], strides: &'static [i64]| {
        move |p: Pickle| p.tensor("torch.FloatStorage", count, offset, shape, strides)
    };
    for (entry, expected) in [
        (
            tensor(5, 0, &[4], &[1]),
            "storage 0 claims 20 bytes, its record has 16",
        ),
        (tensor(1 << 62, 0, &[4], &[1]), "storage 0 claims"),
        (tensor(-1, 0, &[4], &[1]), "storage 0 claims -1"),
        (tensor(4, 1, &[4], &[1]), "lead beyond a record of 16 bytes"),
        (tensor(4, -1, &[4], &[1]), "has -1 as a size"),
        (tensor(4, 0, &[-4], &[1]), "has -4 as a size"),
        (tensor(4, 0, &[4], &[-1]), "has -1 as a size"),
        (tensor(4, 0, &[2, 2], &[3, 1]), "lead beyond"),
        (tensor(4, 0, &[4], &[i64::MAX]), "lead beyond"),
        (
            tensor(4, 0, &[1 << 40], &[0]),
            "values in a record of 16 bytes",
        ),
        (
            tensor(4, 0, &[1 << 31, 1 << 31, 4], &[0, 0, 0]),
            "more than any memory holds",
        ),
        (tensor(4, 0, &[4, 1], &[1]), "as many strides"),
        (tensor(4, 0, &[1; 65], &[1; 65]), "65 dimensions"),
    ] {
        refused_entry(entry, expected);
    }
    refused_entry(
        |p| p.storage("torch.FloatStorage", "7", 4),
        "no record data/7",
    );
    refused_entry(
        |p| p.storage("torch.FloatStorage", "../../x", 4),
        "no record data/../../x",
    );
    refused_entry(
        |p| p.storage("torch.FloatStorage", "0", 4),
        "a storage as a value",
    );
    // Ten thousand tensors of a million values each, all in one small file.
    let many = |p: Pickle| {
        let p = p
            .raw(b"](")
            .tensor("torch.ByteStorage", 16, 0, &[1 << 20], &[0])
            .raw(b"q\x01");
        p.raw(&b"h\x01".repeat(10_000)).raw(b"e")
    };
    refused_entry(many, "which a file of");
    let twice = Pickle::default()
        .raw(b"}(")
        .text("a.b")
        .tensor("torch.FloatStorage", 4, 0, &[4], &[1])
        .text("a")
        .raw(b"}")
        .text("b")
        .tensor("torch.FloatStorage", 4, 0, &[4], &[1])
        .raw(b"su")
        .end();
    refused(
        "f.pth",
        torch(&twice, &[0; 16]),
        "tensor a.b is there twice",
    );
}

/// A whole file of one tensor, in parts.
fn parts() -> Vec<Part> {
    let pickle =
        Pickle::default()
            .raw(b"}")
            .text("a")
            .tensor("torch.FloatStorage", 4, 0, &[4], &[1]);
    vec![
        part("a/data.pkl", &pickle.raw(b"s").end()),
        part("a/byteorder", b"little"),
        part("a/data/0", &[0; 16]),
    ]
}

#[test]
fn archives_that_are_damaged_or_bombs() {
    assert_eq!(read_all("good", zip(&parts(), false)).unwrap().len(), 1);
    let with = |change: &dyn Fn(&mut Vec<Part>)| {
        let mut parts = parts();
        change(&mut parts);
        zip(&parts, false)
    };
    for (change, expected) in [
        (
            &(|p: &mut Vec<Part>| p[1].bytes = b"big".to_vec()) as &dyn Fn(&mut Vec<Part>),
            "big-endian",
        ),
        (&|p| p.push(part("a/constants.pkl", b"")), "TorchScript"),
        (
            &|p| p.push(part("b/data.pkl", b"N.")),
            "no data.pkl, or several",
        ),
        (&|p| p[0].name = "a/b/data.pkl".into(), "no data.pkl"),
        (
            &|p| p.push(part("a/data/0", &[0; 16])),
            "two records are named a/data/0",
        ),
        (
            &|p| p[2].claims = Some(17),
            "stored in 16 bytes and claims 17",
        ),
        (
            &|p| p[2].claims = Some(u64::from(u32::MAX) - 1),
            "claims 4294967294",
        ),
        (
            &|p| {
                p[2].bytes = vec![0; 100 << 20];
                p[2].deflate = true;
            },
            "more than 64 times as many",
        ),
        (
            &|p| {
                // It claims little and inflates to much.
                p[2].bytes = vec![0; 100 << 20];
                p[2].deflate = true;
                p[2].claims = Some(16);
            },
            "it inflates to 17 bytes or more, not to the 16",
        ),
        (
            &|p| {
                p[0].bytes = b"N".repeat(10 << 20);
                p[0].deflate = true;
            },
            "more than 64 times",
        ),
    ] {
        refused("f.pth", with(change), expected);
    }
    let good = zip(&parts(), false);
    let find = |bytes: &[u8], what: &[u8], nth: usize| {
        let at = bytes
            .windows(what.len())
            .enumerate()
            .filter(|(_, w)| *w == what);
        at.map(|(i, _)| i).nth(nth).unwrap()
    };
    let patched = |at: usize, with: &[u8]| {
        let mut bytes = good.clone();
        bytes[at..at + with.len()].copy_from_slice(with);
        bytes
    };
    let directory = find(&good, b"PK\x01\x02", 0);
    let third = find(&good, b"PK\x01\x02", 2);
    let end = find(&good, b"PK\x05\x06", 0);
    for (bytes, expected) in [
        (patched(end + 10, &[0xff, 0xff]), "claims 65535 records"),
        (patched(end + 10, &[2, 0]), "directory ends at"),
        (
            patched(end + 12, &[0xff; 4]),
            "does not reach its end record",
        ),
        (patched(end + 16, &[0; 4]), "does not reach its end record"),
        (patched(end + 4, &[1, 0]), "several files"),
        (patched(directory + 8, &[1, 0]), "it is encrypted"),
        (patched(directory + 10, &[12, 0]), "compressed by method 12"),
        (
            patched(directory + 28, &[0xff, 0xff]),
            "directory is damaged",
        ),
        (
            patched(directory + 42, &[9, 0, 0, 0]),
            "its header is not where the directory says",
        ),
        (patched(third + 42, &[0; 4]), "its header has another name"),
        (
            patched(third + 20, &[0xff, 0xff, 0, 0]),
            "do not fit before the directory",
        ),
        ([&good[..], &[0]].concat(), "no end record"),
        (
            [&b"PK"[..], &good].concat(),
            "does not reach its end record",
        ),
        (b"PK".to_vec(), "cut off"),
        (b"PK\x05\x06".repeat(1 << 20), "no end record"),
    ] {
        refused("f.pth", bytes, expected);
    }
    // A record that reaches into the next one.
    let second = find(&good, b"PK\x01\x02", 1);
    let mut overlapping = patched(second + 20, &[20, 0, 0, 0]);
    overlapping[second + 24] = 20;
    refused(
        "f.pth",
        overlapping,
        "the records a/byteorder and a/data/0 overlap",
    );
}

/// A safetensors file of this header, with so many bytes of zeros behind it.
fn with_header(header: &str, data: usize) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.resize(bytes.len() + data, 0);
    bytes
}

#[test]
fn safetensors_whose_header_lies() {
    let one = |dtype: &str, shape: &str, offsets: &str| {
        format!(r#"{{"a":{{"dtype":"{dtype}","shape":{shape},"data_offsets":{offsets}}}}}"#)
    };
    let two = |a: &str, b: &str| {
        format!(
            r#"{{"a":{{"dtype":"F32","shape":[4],"data_offsets":{a}}},"b":{{"dtype":"F32","shape":[4],"data_offsets":{b}}}}}"#
        )
    };
    for (bytes, expected) in [
        (vec![], "0 bytes"),
        (vec![1; 7], "7 bytes"),
        (vec![0xff; 100], "claims 18446744073709551615 bytes"),
        (with_header(&" ".repeat(9 << 20), 0), "8388608 are allowed"),
        (with_header(&"[".repeat(8 << 20), 0), "damaged"),
        (
            with_header(
                &format!("{}1{}", r#"{"a":"#.repeat(100_000), "}".repeat(100_000)),
                0,
            ),
            "damaged",
        ),
        (with_header(&two("[0,16]", "[8,24]"), 24), "damaged"),
        (with_header(&two("[0,16]", "[0,16]"), 16), "damaged"),
        (with_header(&two("[0,16]", "[32,48]"), 48), "damaged"),
        (
            with_header(&one("F32", "[4]", "[0,18446744073709551615]"), 16),
            "damaged",
        ),
        (
            with_header(
                &one("F32", "[9223372036854775807,9223372036854775807]", "[0,16]"),
                16,
            ),
            "damaged",
        ),
        (
            with_header(&one("F32", "[1099511627776]", "[0,16]"), 16),
            "damaged",
        ),
        (with_header(&one("F32", "[-4]", "[0,16]"), 16), "damaged"),
        (with_header(&one("F33", "[4]", "[0,16]"), 16), "damaged"),
        (
            with_header(&one("F32", "[4]", "[0,16]"), 15),
            "damaged or cut off",
        ),
        (with_header(&one("F32", "[4]", "[0,16]"), 17), "damaged"),
        (
            with_header(&one("F4", "[32]", "[0,16]"), 16),
            "tensor a: F4 has 4 bits",
        ),
        (
            with_header(&one("F32", &format!("{:?}", [1; 65]), "[0,4]"), 4),
            "tensor a: it claims 65 dimensions",
        ),
    ] {
        refused("f.safetensors", bytes, expected);
    }
    refused("notes.txt", b"Dear diary".to_vec(), "begins as neither");
}

/// Everything the file can be cut to is refused, and every single bit that is turned is found or does not matter.
#[test]
fn cut_off_and_bit_flipped_files() {
    for name in [
        "mixed.pth",
        "mixed-4.pth",
        "deflated.pth",
        "legacy.pt",
        "mixed.safetensors",
    ] {
        let good = std::fs::read(case(name)).unwrap();
        let values = read_all(name, good.clone()).unwrap();
        for length in (0..good.len())
            .step_by(7)
            .chain(good.len() - 40..good.len())
        {
            let cut = good[..length].to_vec();
            assert!(read_all(name, cut).is_err(), "{name} cut to {length}");
        }
        let checked = name.ends_with(".pth");
        for at in (0..good.len()).step_by(3) {
            let mut bad = good.clone();
            bad[at] ^= 1 << (at % 8);
            match read_all(name, bad) {
                Ok(read) if checked => assert_eq!(read, values, "{name}, byte {at}"),
                _ => {} // without checksums values can change; the file stays one
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    /// Any damage at all: an error or tensors, soon.
    #[test]
    fn random_damage_does_no_harm(
        file in prop::sample::select(vec!["mixed.pth", "mixed-4.pth", "deflated.pth", "legacy.pt", "mixed.safetensors"]),
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<[u8; 4]>(), 0..4u8), 1..6),
    ) {
        let mut bytes = std::fs::read(case(file)).unwrap();
        for (at, with, how) in edits {
            let at = at.index(bytes.len().max(1)).min(bytes.len().saturating_sub(4));
            let end = (at + 4).min(bytes.len());
            match how {
                0 => bytes[at..end].copy_from_slice(&with[..end - at]),
                1 => { bytes.splice(at..at, with); }
                2 => { bytes.drain(at..end); }
                _ => { let copy = bytes[at..].to_vec(); bytes.splice(at..at, copy.into_iter().take(64)); }
            }
        }
        let began = Instant::now();
        let _ = read_all(file, bytes);
        prop_assert!(began.elapsed() < Duration::from_secs(1));
        little_memory();
    }

    /// Pickles of valid instructions in any order.
    #[test]
    fn random_programs_do_no_harm(
        steps in prop::collection::vec(prop::sample::select(vec![
            b"N".to_vec(), b"(".to_vec(), b"t".to_vec(), b"]".to_vec(), b"}".to_vec(), b")".to_vec(), b"a".to_vec(),
            b"e".to_vec(), b"s".to_vec(), b"u".to_vec(), b"0".to_vec(), b"2".to_vec(), b"K\x02".to_vec(), b"\x85".to_vec(),
            b"\x86".to_vec(), b"q\x01".to_vec(), b"h\x01".to_vec(), b"\x94".to_vec(), b"R".to_vec(), b"b".to_vec(),
            b"Q".to_vec(), b"l".to_vec(), b"d".to_vec(), b"X\x01\0\0\0k".to_vec(), b"X\x01\0\0\x000".to_vec(),
            b"X\x07\0\0\0storage".to_vec(), b"ctorch\nFloatStorage\n".to_vec(), b"ccollections\nOrderedDict\n".to_vec(),
            b"ctorch._utils\n_rebuild_tensor_v2\n".to_vec(), b"cnumpy\ndtype\n".to_vec(), b"ctorch\nSize\n".to_vec(),
            b"C\x04abcd".to_vec(), b"X\x06\0\0\0latin1".to_vec(), b"c_codecs\nencode\n".to_vec(),
            b"cnumpy\nndarray\n".to_vec(), b"cnumpy.core.multiarray\n_reconstruct\n".to_vec(), b"K\x00\x85".to_vec(),
        ]), 0..60),
    ) {
        let pickle = steps.into_iter().fold(Pickle::default(), |p, step| p.raw(&step)).end();
        let _ = read_all("f.pth", torch(&pickle, &[0; 16]));
        little_memory();
    }
}
