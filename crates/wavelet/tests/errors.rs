//! Bad input is an error that names the values.

use candle_core::{DType, Device, Tensor};
use wavelet::{Dwt, Error, Mode, Pyramid, Wavelet, haar};

fn zeros(shape: &[usize]) -> Tensor {
    Tensor::zeros(shape, DType::F32, &Device::Cpu).unwrap()
}

fn db2(mode: Mode) -> Dwt {
    Dwt::new(Wavelet::new("db2").unwrap(), mode)
}

/// The error's message contains all of these.
#[track_caller]
fn names<T: std::fmt::Debug>(result: Result<T, Error>, parts: &[&str]) {
    let message = result.unwrap_err().to_string();
    for part in parts {
        assert!(message.contains(part), "{message:?} lacks {part:?}");
    }
}

#[test]
fn unknown_names() {
    names(
        Wavelet::new("db39"),
        &["\"db39\"", "db1 to db38", "bior1.1", "dmey"],
    );
    names(
        "Symmetric".parse::<Mode>(),
        &["\"Symmetric\"", "symmetric", "antireflect"],
    );
    let two = || vec![1.0, 1.0];
    let odd = Wavelet::from_filters("mine", vec![1.0], two(), two(), two());
    names(odd, &["mine", "[1, 2, 2, 2]"]);
    let nan = Wavelet::from_filters("mine", vec![1.0, f64::NAN], two(), two(), two());
    names(nan, &["mine", "NaN"]);
}

#[test]
fn too_short_for_the_mode() {
    for mode in [Mode::Reflect, Mode::Antireflect] {
        let result = db2(mode).dwt2(&zeros(&[1, 3, 1, 8]));
        names(
            result,
            &[
                "dwt2",
                "length 1",
                "[1, 3, 1, 8]",
                mode.name(),
                "at least 2",
            ],
        );
    }
    assert!(db2(Mode::Smooth).dwt2(&zeros(&[1, 3, 1, 8])).is_ok());
    names(
        db2(Mode::Zero).dwt(&zeros(&[3, 0]), 1),
        &["dwt", "length 0", "at least 1"],
    );
}

#[test]
fn wrong_rank_and_type() {
    names(
        db2(Mode::Zero).dwt2(&zeros(&[8])),
        &["dwt2", "[8]", "height"],
    );
    names(
        db2(Mode::Zero).wavedec2(&zeros(&[8]), None),
        &["wavedec2", "[8]"],
    );
    names(db2(Mode::Zero).dwt(&zeros(&[8]), 1), &["dwt"]);
    let ints = zeros(&[4, 4]).to_dtype(DType::U32).unwrap();
    names(db2(Mode::Zero).dwt2(&ints), &["dwt2", "U32", "f32 or f64"]);
}

#[test]
fn bands_that_do_not_match() {
    let dwt = db2(Mode::Symmetric);
    let low = zeros(&[2, 3, 9, 9]);
    let flat = dwt.idwt2(&low, &zeros(&[2, 9, 9, 9]), None);
    names(
        flat,
        &["idwt2", "[2, 3, 9, 9]", "[2, 9, 9, 9]", "[2, 3, 3, 9, 9]"],
    );
    let mixed = zeros(&[2, 3, 3, 9, 9]).to_dtype(DType::F64).unwrap();
    names(dwt.idwt2(&low, &mixed, None), &["idwt2", "F32", "F64"]);
    names(
        dwt.idwt(&zeros(&[4]), &zeros(&[5]), 0, None),
        &["idwt", "[4]", "[5]"],
    );
}

#[test]
fn sizes_that_cannot_be() {
    let dwt = db2(Mode::Symmetric);
    let (low, high) = (zeros(&[1, 9, 9]), zeros(&[3, 1, 9, 9]));
    let wrong = dwt.idwt2(&low, &high, Some([16, 17]));
    names(wrong, &["idwt2", "length 9", "15 or 16", "not 17"]);
    let short = dwt.idwt(&zeros(&[1]), &zeros(&[1]), 0, None);
    names(short, &["idwt", "length 1", "shorter than any"]);
    let pyramid = Pyramid {
        low: zeros(&[1, 9, 9]),
        high: vec![zeros(&[3, 1, 9, 9])],
        sizes: vec![],
    };
    names(dwt.waverec2(&pyramid), &["waverec2", "1 levels", "of 0"]);
}

#[test]
fn slices_of_the_wrong_length() {
    let (mut low, mut high) = (vec![0.0; 4], vec![0.0; 12]);
    let odd = haar::analyze_into(&[0.0; 20], [1, 1, 5, 4], &mut low, &mut high);
    names(odd, &["analyze_into", "5 x 4", "even"]);
    let short = haar::analyze_into(&[0.0; 15], [1, 1, 4, 4], &mut low, &mut high);
    names(short, &["pictures has 15", "[1, 1, 4, 4]", "16"]);
    let high = haar::synthesize_into(&low, &[0.0; 9], [1, 1, 4, 4], &mut [0.0; 16]);
    names(high, &["synthesize_into", "high has 9", "12"]);
}
