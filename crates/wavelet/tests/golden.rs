//! Equal to the official WMGM code's transform, from the golden folder (WMGM_GOLDEN, by default ../shared/golden).

use candle_core::{Device, Result, Tensor};
use std::path::{Path, PathBuf};
use wavelet::{Dwt, Mode, Wavelet};

fn folder() -> Option<PathBuf> {
    let default = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/golden");
    let golden = std::env::var_os("WMGM_GOLDEN").map_or_else(default, PathBuf::from);
    Some(golden.join("wmgm-wavelet")).filter(|p| p.is_dir())
}

fn distance(a: &Tensor, b: &Tensor) -> Result<f32> {
    (a - b)?.abs()?.max_all()?.to_scalar()
}

/// The official code's details are flat, [LH(RGB), HL(RGB), HH(RGB)]: ours with two dimensions joined.
#[test]
fn two_levels_of_the_official_code() -> Result<()> {
    let Some(folder) = folder() else {
        eprintln!("skipped: no golden folder; set WMGM_GOLDEN");
        return Ok(());
    };
    let case = candle_core::safetensors::load(folder.join("io.safetensors"), &Device::Cpu)?;
    let haar = Dwt::new(Wavelet::new("db1").unwrap(), Mode::Periodization);
    let pyramid = haar.wavedec2(&case["img"], Some(2)).unwrap();
    for (level, name) in [(0, "details1"), (1, "details2")] {
        let flat = pyramid.high[level].flatten(1, 2)?;
        assert!(distance(&flat, &case[name])? < 1e-6, "{name}");
    }
    assert!(distance(&pyramid.low, &case["ll2"])? < 1e-6);
    let (low, high) = haar.dwt2(&case["img"]).unwrap();
    assert!(distance(&low, &case["ll1"])? < 1e-6);
    let back = haar.idwt2(&low, &high, None).unwrap();
    assert!(distance(&back, &case["rec1"])? < 1e-6);
    Ok(())
}
