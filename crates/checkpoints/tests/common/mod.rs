//! Cases, and makers of archives and pickles that no tool would make.
#![allow(dead_code, missing_docs)] // Each test binary uses a part of it.

use candle_core::{Device, Tensor};
use checkpoints::Checkpoint;
use std::path::{Path, PathBuf};

pub fn case(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/cases")
        .join(name)
}

/// Files below the golden folder, where it exists.
pub fn golden(name: &str) -> Option<PathBuf> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/golden");
    let path = std::env::var_os("WMGM_GOLDEN")
        .map_or(beside, PathBuf::from)
        .join(name);
    if !path.exists() {
        eprintln!("no {}: skipped", path.display());
        return None;
    }
    Some(path)
}

/// The same type, shape and bits.
#[track_caller]
pub fn same(what: &str, a: &Checkpoint, b: &Checkpoint, name_a: &str, name_b: &str) {
    let (a, b) = (a.get(name_a), b.get(name_b));
    let (Some(a), Some(b)) = (a, b) else {
        panic!("{what}: {name_a} is {a:?} and {name_b} is {b:?}");
    };
    assert_eq!(
        (a.dtype(), a.shape()),
        (b.dtype(), b.shape()),
        "{what}: {name_a}"
    );
    assert_eq!(a.bytes().unwrap(), b.bytes().unwrap(), "{what}: {name_a}");
}

pub fn values(t: &Tensor) -> Vec<f64> {
    let t = t.to_dtype(candle_core::DType::F64).unwrap();
    t.flatten_all().unwrap().to_vec1().unwrap()
}

pub fn cpu() -> Device {
    Device::Cpu
}

/// One record of an archive to be made: name, contents, and what may be wrong with it.
#[derive(Clone)]
pub struct Part {
    pub name: String,
    pub bytes: Vec<u8>,
    pub deflate: bool,
    /// Lengths and place in the 64-bit field.
    pub wide: bool,
    /// The length it claims, if another than its own.
    pub claims: Option<u64>,
}

pub fn part(name: &str, bytes: &[u8]) -> Part {
    Part {
        name: name.into(),
        bytes: bytes.into(),
        deflate: false,
        wide: false,
        claims: None,
    }
}

/// An archive of these records; `wide` puts the end record into its 64-bit form.
pub fn zip(parts: &[Part], wide: bool) -> Vec<u8> {
    let mut out = Vec::new();
    let mut directory = Vec::new();
    for part in parts {
        let packed = if part.deflate {
            let mut encoder =
                flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::best());
            std::io::Write::write_all(&mut encoder, &part.bytes).unwrap();
            encoder.finish().unwrap()
        } else {
            part.bytes.clone()
        };
        let place = out.len() as u64;
        let length = part.claims.unwrap_or(part.bytes.len() as u64);
        let method = if part.deflate { 8u16 } else { 0 };
        let checksum = crc32fast::hash(&part.bytes);
        let (short_length, short_packed, short_place) = if part.wide {
            (u32::MAX, u32::MAX, u32::MAX)
        } else {
            (length as u32, packed.len() as u32, place as u32)
        };
        let mut extra = Vec::new();
        if part.wide {
            extra.extend([0x99, 0x99, 2, 0, 7, 7]); // another field before it
            extra.extend([1, 0, 24, 0]);
            for value in [length, packed.len() as u64, place] {
                extra.extend(value.to_le_bytes());
            }
        }
        let common = |out: &mut Vec<u8>| {
            out.extend([0, 0, 0, 0]);
            out.extend(method.to_le_bytes());
            out.extend([0; 4]);
            out.extend(checksum.to_le_bytes());
            out.extend(short_packed.to_le_bytes());
            out.extend(short_length.to_le_bytes());
            out.extend((part.name.len() as u16).to_le_bytes());
        };
        out.extend(b"PK\x03\x04");
        common(&mut out);
        out.extend([3, 0]); // and its own extra field
        out.extend(part.name.as_bytes());
        out.extend([0; 3]);
        out.extend(&packed);
        directory.extend(b"PK\x01\x02");
        directory.extend([0, 0]);
        common(&mut directory);
        directory.extend((extra.len() as u16).to_le_bytes());
        directory.extend([0; 10]);
        directory.extend(short_place.to_le_bytes());
        directory.extend(part.name.as_bytes());
        directory.extend(&extra);
    }
    let (start, length) = (out.len() as u64, directory.len() as u64);
    out.extend(&directory);
    let count = parts.len() as u64;
    if wide {
        let at = out.len() as u64;
        out.extend(b"PK\x06\x06");
        out.extend(44u64.to_le_bytes());
        out.extend([45, 0, 45, 0]);
        out.extend([0; 8]);
        for value in [count, count, length, start] {
            out.extend(value.to_le_bytes());
        }
        out.extend(b"PK\x06\x07");
        out.extend([0; 4]);
        out.extend(at.to_le_bytes());
        out.extend(1u32.to_le_bytes());
    }
    out.extend(b"PK\x05\x06");
    out.extend([0; 4]);
    let short = |value: u64, most: u64| if wide { most } else { value };
    out.extend((short(count, 0xffff) as u16).to_le_bytes());
    out.extend((short(count, 0xffff) as u16).to_le_bytes());
    out.extend((short(length, 0xffff_ffff) as u32).to_le_bytes());
    out.extend((short(start, 0xffff_ffff) as u32).to_le_bytes());
    out.extend([0, 0]);
    out
}

/// A file of torch.save with this pickle and one storage `0` of these bytes.
pub fn torch(pickle: &[u8], storage: &[u8]) -> Vec<u8> {
    zip(
        &[
            part("a/data.pkl", pickle),
            part("a/byteorder", b"little"),
            part("a/data/0", storage),
        ],
        false,
    )
}

/// Assembles a pickle.
#[derive(Clone)]
pub struct Pickle(pub Vec<u8>);

impl Default for Pickle {
    fn default() -> Self {
        Self(vec![0x80, 2])
    }
}

impl Pickle {
    pub fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend(bytes);
        self
    }

    pub fn text(self, text: &str) -> Self {
        self.raw(b"X")
            .raw(&(text.len() as u32).to_le_bytes())
            .raw(text.as_bytes())
    }

    pub fn int(self, value: i64) -> Self {
        self.raw(&[0x8a, 8]).raw(&value.to_le_bytes())
    }

    pub fn ints(self, values: &[i64]) -> Self {
        values
            .iter()
            .fold(self.raw(b"("), |p, &v| p.int(v))
            .raw(b"t")
    }

    pub fn global(self, name: &str) -> Self {
        let (module, name) = name.rsplit_once('.').unwrap();
        self.raw(format!("c{module}\n{name}\n").as_bytes())
    }

    pub fn storage(self, class: &str, key: &str, count: i64) -> Self {
        self.raw(b"(")
            .text("storage")
            .global(class)
            .text(key)
            .text("cpu")
            .int(count)
            .raw(b"tQ")
    }

    pub fn tensor(
        self,
        class: &str,
        count: i64,
        offset: i64,
        shape: &[i64],
        strides: &[i64],
    ) -> Self {
        self.global("torch._utils._rebuild_tensor_v2")
            .raw(b"(")
            .storage(class, "0", count)
            .int(offset)
            .ints(shape)
            .ints(strides)
            .raw(b"\x89")
            .global("collections.OrderedDict")
            .raw(b")RtR")
    }

    pub fn end(self) -> Vec<u8> {
        self.raw(b".").0
    }
}
