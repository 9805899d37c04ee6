//! Equal to PyWavelets, to 1e-10 in f64: every wavelet x mode x an odd and an even length, pictures and pyramids.
//!
//! The cases are written by scripts/golden.py, which says what each holds.

use candle_core::{Device, Tensor};
use std::collections::HashMap;
use std::path::Path;
use wavelet::{Dwt, Mode, Wavelet};

const LENGTHS: [usize; 2] = [7, 20];
const LONG: usize = 151;
const TOLERANCE: f64 = 1e-10;

struct Cases(HashMap<String, Vec<f64>>);

impl Cases {
    fn load() -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases/pywavelets.safetensors");
        let tensors = candle_core::safetensors::load(path, &Device::Cpu).unwrap();
        let values = |(name, t): (String, Tensor)| (name, t.to_vec1::<f64>().unwrap());
        Self(tensors.into_iter().map(values).collect())
    }

    fn get(&self, name: &str) -> &[f64] {
        self.0.get(name).unwrap_or_else(|| panic!("no case {name}"))
    }

    /// Names and values of the cases of one kind.
    fn of<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = (&'a str, &'a [f64])> {
        let strip = move |name: &'a str| name.strip_prefix(kind)?.strip_prefix('/');
        let cases = self.0.iter();
        cases.filter_map(move |(name, v)| Some((strip(name)?, v.as_slice())))
    }

    fn signal(&self, from: usize, shape: &[usize]) -> Tensor {
        let len = shape.iter().product::<usize>();
        let values = &self.get("signal")[from..][..len];
        Tensor::from_slice(values, shape, &Device::Cpu).unwrap()
    }
}

/// Checks values in the order of the case.
struct Reader<'a> {
    name: String,
    rest: &'a [f64],
}

impl Reader<'_> {
    fn next(&mut self, got: &Tensor, what: &str) {
        let got = got.flatten_all().unwrap().to_vec1::<f64>().unwrap();
        let name = &self.name;
        assert!(
            got.len() <= self.rest.len(),
            "{name} {what}: {} values",
            got.len()
        );
        let (want, rest) = self.rest.split_at(got.len());
        for (i, (g, w)) in got.iter().zip(want).enumerate() {
            let bound = TOLERANCE * w.abs().max(1.0);
            assert!(
                (g - w).abs() <= bound,
                "{name} {what}, value {i}: {g}, PyWavelets {w}"
            );
        }
        self.rest = rest;
    }

    fn end(self) {
        assert!(
            self.rest.is_empty(),
            "{}: {} values left",
            self.name,
            self.rest.len()
        );
    }
}

/// Both paths of every transform.
fn both(wavelet: &Wavelet, mode: Mode) -> [Dwt; 2] {
    let dwt = Dwt::new(wavelet.clone(), mode);
    [dwt.clone(), dwt.reference()]
}

#[test]
fn every_wavelet_is_known_and_covered() {
    let cases = Cases::load();
    let mut covered: Vec<&str> = cases.of("dwt").map(|(name, _)| name).collect();
    covered.sort_unstable();
    let mut names: Vec<&str> = Wavelet::names().iter().map(String::as_str).collect();
    names.sort_unstable();
    assert_eq!(covered, names);
    assert_eq!(names.len(), 106);
}

#[test]
fn dwt_of_every_wavelet_and_mode() {
    let cases = Cases::load();
    for (name, want) in cases.of("dwt") {
        let wavelet = Wavelet::new(name).unwrap();
        for path in 0..2 {
            let mut reader = Reader {
                name: name.into(),
                rest: want,
            };
            for mode in Mode::ALL {
                for n in LENGTHS {
                    let dwt = &both(&wavelet, mode)[path];
                    let (low, high) = dwt.dwt(&cases.signal(0, &[n]), 0).unwrap();
                    reader.next(&low, &format!("low, {mode}, {n}"));
                    reader.next(&high, &format!("high, {mode}, {n}"));
                }
            }
            reader.end();
        }
    }
}

#[test]
fn idwt_of_every_wavelet_and_mode() {
    let cases = Cases::load();
    for (name, want) in cases.of("idwt") {
        let wavelet = Wavelet::new(name).unwrap();
        for path in 0..2 {
            let mut reader = Reader {
                name: name.into(),
                rest: want,
            };
            for mode in Mode::ALL {
                for n in LENGTHS {
                    let m = mode.band_len(n, wavelet.filter_len());
                    let (low, high) = (cases.signal(0, &[m]), cases.signal(m, &[m]));
                    let dwt = &both(&wavelet, mode)[path];
                    let x = dwt.idwt(&low, &high, 0, None).unwrap();
                    reader.next(&x, &format!("{mode}, {n}"));
                }
            }
            reader.end();
        }
    }
}

#[test]
fn long_signals_of_every_wavelet() {
    let cases = Cases::load();
    for (name, want) in cases.of("long") {
        let dwt = Dwt::new(Wavelet::new(name).unwrap(), Mode::Symmetric);
        let x = cases.signal(0, &[LONG]);
        let (low, high) = dwt.dwt(&x, 0).unwrap();
        let mut reader = Reader {
            name: name.into(),
            rest: want,
        };
        reader.next(&low, "low");
        reader.next(&high, "high");
        reader.end();
    }
}

/// Name, height and width of a case `NAME/HxW`.
fn picture(case: &str) -> (&str, [usize; 2]) {
    let (name, size) = case.rsplit_once('/').unwrap();
    let (h, w) = size.split_once('x').unwrap();
    (name, [h.parse().unwrap(), w.parse().unwrap()])
}

#[test]
fn dwt2_of_odd_and_even_sizes() {
    let cases = Cases::load();
    for (case, want) in cases.of("dwt2") {
        let (name, size) = picture(case);
        for path in 0..2 {
            let mut reader = Reader {
                name: case.into(),
                rest: want,
            };
            for mode in Mode::ALL {
                let dwt = &both(&Wavelet::new(name).unwrap(), mode)[path];
                let (low, high) = dwt.dwt2(&cases.signal(0, &size)).unwrap();
                reader.next(&low, &format!("LL, {mode}"));
                reader.next(&high, &format!("LH, HL, HH, {mode}"));
            }
            reader.end();
        }
    }
}

#[test]
fn wavedec2_of_odd_and_even_sizes() {
    let cases = Cases::load();
    for (case, want) in cases.of("wavedec2") {
        let (name, size) = picture(case);
        let mut reader = Reader {
            name: case.into(),
            rest: want,
        };
        for mode in Mode::ALL {
            let dwt = Dwt::new(Wavelet::new(name).unwrap(), mode);
            let x = cases.signal(0, &size);
            let pyramid = dwt.wavedec2(&x, Some(2)).unwrap();
            reader.next(&pyramid.low, &format!("low, {mode}"));
            for level in [2, 1] {
                reader.next(&pyramid.high[level - 1], &format!("level {level}, {mode}"));
            }
            let back = dwt.waverec2(&pyramid).unwrap();
            let mut back_reader = Reader {
                name: format!("{case} back, {mode}"),
                rest: &x.flatten_all().unwrap().to_vec1::<f64>().unwrap(),
            };
            back_reader.next(&back, "picture");
            back_reader.end();
        }
        reader.end();
    }
}

#[test]
fn max_level_is_pywavelets() {
    for ((n, filter), want) in [
        ((128, 2), 7),
        ((128, 8), 4),
        ((127, 8), 4),
        ((7, 8), 0),
        ((6, 8), 0),
        ((14, 8), 1),
        ((1, 2), 0),
        ((0, 2), 0),
        ((1000, 76), 3),
    ] {
        assert_eq!(wavelet::dwt_max_level(n, filter), want, "{n}, {filter}");
    }
}
