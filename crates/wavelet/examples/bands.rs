//! Where a picture's energy lies: bands of a synthetic picture, level by level, and what is left without details.
//!
//! `cargo run -p wavelet --example bands [WAVELET] [MODE]`

use candle_core::{Device, Tensor};
use wavelet::{Dwt, Mode, Moments, Wavelet};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let wavelet = Wavelet::new(&args.next().unwrap_or("db4".into()))?;
    let mode: Mode = args.next().unwrap_or("symmetric".into()).parse()?;
    let dwt = Dwt::new(wavelet, mode);

    // A disc on a slope, of odd size.
    let (h, w) = (121, 97);
    let value = |y: usize, x: usize| {
        let (dy, dx) = (y as f32 / h as f32 - 0.5, x as f32 / w as f32 - 0.5);
        0.5 * dy + if dy * dy + dx * dx < 0.09 { 1.0 } else { 0.0 }
    };
    let pixels: Vec<f32> = (0..h * w).map(|i| value(i / w, i % w)).collect();
    let x = Tensor::from_vec(pixels, (1, 1, h, w), &Device::Cpu)?;

    let mut pyramid = dwt.wavedec2(&x, None)?;
    println!(
        "{} with {}, {} levels",
        dwt.wavelet(),
        dwt.mode(),
        pyramid.levels()
    );
    for (level, high) in pyramid.high.iter().enumerate() {
        for (i, name) in ["LH", "HL", "HH"].iter().enumerate() {
            let mut m = Moments::default();
            m.add(&high.get_on_dim(1, i)?.flatten_all()?.to_vec1::<f32>()?);
            let s = m.stats();
            println!(
                "level {} {name}: deviation {:.4}, kurtosis {:.1}",
                level + 1,
                s.std,
                s.kurtosis
            );
        }
    }
    let rms = |t: Tensor| -> candle_core::Result<f32> { t.sqr()?.mean_all()?.to_scalar::<f32>() };
    println!(
        "back: rms error {:.1e}",
        rms((dwt.waverec2(&pyramid)? - &x)?)?.sqrt()
    );
    if let Some(finest) = pyramid.high.first_mut() {
        *finest = finest.zeros_like()?;
    }
    println!(
        "without the finest details: {:.1e}",
        rms((dwt.waverec2(&pyramid)? - &x)?)?.sqrt()
    );
    Ok(())
}
