//! The generator as super-resolution beside Lanczos: every picture of a folder is reduced fourfold and enlarged again.
//!
//! `cargo run --release -p wmgm --example upscale -- FOLDER` prints the mean PSNR and SSIM (and the spread of one picture's
//! PSNR), and LPIPS where its weights are (`cargo xtask feature-weights`, docs/metrics.md), of the shipped model, with and without noise, and of Pillow's Lanczos filter, for pictures of 128 x 128 reduced by
//! averages over 4 x 4 pixels, which are the model's own low band, and by Lanczos' filter. A second argument names another
//! bundle, a third the PNG of a sheet: original, reduced, Lanczos, model without and with noise.

use candle_core::{Device, Tensor};
use gen_metrics::net::Lpips;
use gen_metrics::{Picture, lpips_diversity};
use rayon::prelude::*;
use std::ops::ControlFlow;
use std::path::PathBuf;
use wmgm::data::{LoadOptions, PictureSet, quiet};
use wmgm::eval::{Network, find_weights};
use wmgm::picture::{self, Layout, RgbImage};
use wmgm::transform::Transform;
use wmgm::{Error, Result, UpscaleOptions, Wmgm};

const LEVELS: usize = 2;
const SHOWN: usize = 8;

fn main() -> Result<()> {
    let mut args = std::env::args_os().skip(1).map(PathBuf::from);
    let folder = args.next().ok_or_else(|| {
        Error::Argument("name a folder of pictures, and perhaps a bundle and a sheet".into())
    })?;
    let shipped = concat!(env!("CARGO_MANIFEST_DIR"), "/../../assets/model");
    let model = Wmgm::from_bundle(args.next().unwrap_or_else(|| shipped.into()))?;
    let size = model.bundle().config.size as u32;
    let (set, _) = PictureSet::load(folder, size, &LoadOptions::default(), &quiet)?;
    let originals = (0..set.len())
        .map(|i| Ok(set.picture(i)?))
        .collect::<Result<Vec<_>>>()?;

    let lpips = lpips()?;
    println!(
        "| reduced by | enlarged by | PSNR | its spread | SSIM | LPIPS |\n|---|---|---|---|---|---|"
    );
    let mut shown: Vec<Vec<RgbImage>> = Vec::new();
    for (name, reduce) in [
        (
            "averages (the Haar low band)",
            averages as fn(&RgbImage) -> Result<RgbImage>,
        ),
        ("Lanczos", lanczos),
    ] {
        let reduced = originals
            .par_iter()
            .map(reduce)
            .collect::<Result<Vec<_>>>()?;
        let up = |noise: f64| -> Result<Vec<RgbImage>> {
            let one = |(i, small): (usize, &RgbImage)| {
                let options = UpscaleOptions {
                    levels: LEVELS,
                    seed: i as u64,
                    noise,
                    ..UpscaleOptions::default()
                };
                model.upscale(small, &options, &|_| ControlFlow::Continue(()))
            };
            reduced.par_iter().enumerate().map(one).collect()
        };
        let large = |p: &RgbImage| picture::resize(p, size, size);
        let ways = [
            ("Lanczos", reduced.par_iter().map(large).collect()),
            ("model, noise 0", up(0.0)?),
            ("model, noise 1", up(1.0)?),
        ];
        for (way, made) in &ways {
            let (psnr, spread, ssim) = quality(made, &originals)?;
            let seen = match &lpips {
                Some(net) => format!("{:.4}", looks(net, made, &originals)?),
                None => String::new(),
            };
            println!("| {name} | {way} | {psnr:.2} | {spread:.2} | {ssim:.4} | {seen} |");
        }
        if shown.is_empty() {
            let nearest = |p: &RgbImage| {
                image::imageops::resize(p, size, size, image::imageops::FilterType::Nearest)
            };
            shown = (0..originals.len().min(SHOWN))
                .map(|i| {
                    let ways = ways.iter().map(|(_, made)| made[i].clone());
                    [originals[i].clone(), nearest(&reduced[i])]
                        .into_iter()
                        .chain(ways)
                        .collect()
                })
                .collect();
        }
    }
    if let Some(path) = args.next() {
        let layout = Layout {
            columns: shown.first().map(Vec::len),
            ..Layout::default()
        };
        picture::save_png(path, &picture::sheet(&shown.concat(), layout)?)?;
    }
    Ok(())
}

/// The model's own low band as a picture: means over squares, which the Haar transform's LL is up to a factor.
fn averages(picture: &RgbImage) -> Result<RgbImage> {
    let side = picture.width() as usize;
    let levels = Transform::new("haar")?.pyramid(&picture::to_values(picture), 3, side, LEVELS)?;
    let gain = (1 << LEVELS) as f32;
    let low: Vec<f32> = levels[LEVELS - 1].low.iter().map(|v| v / gain).collect();
    let side = (side >> LEVELS) as u32;
    Ok(picture::from_values(&low, side, side, 0)?.remove(0))
}

fn lanczos(picture: &RgbImage) -> Result<RgbImage> {
    let side = picture.width() >> LEVELS;
    Ok(picture::resize(picture, side, side))
}

/// The network of LPIPS, if its weights are there.
fn lpips() -> Result<Option<Lpips>> {
    let file = match find_weights(Network::Lpips, None) {
        Ok(file) => file,
        Err(e) => {
            eprintln!("without LPIPS: {e}");
            return Ok(None);
        }
    };
    let (weights, _) = gen_metrics::weights::open(&file, &Device::Cpu)?;
    Ok(Some(Lpips::new(weights.builder(&Device::Cpu))?))
}

/// Mean LPIPS between pictures and originals.
fn looks(net: &Lpips, made: &[RgbImage], originals: &[RgbImage]) -> Result<f64> {
    fn picture(p: &RgbImage) -> Result<Picture<'_>> {
        let (width, height) = (p.width() as usize, p.height() as usize);
        Ok(Picture::new(width, height, p.as_raw())?)
    }
    let pairs = made.iter().zip(originals);
    let pairs = pairs
        .map(|(a, b)| Ok([picture(a)?, picture(b)?]))
        .collect::<Result<Vec<_>>>()?;
    Ok(lpips_diversity(net, &pairs, &Device::Cpu)?.mean)
}

/// Mean PSNR in dB, its standard deviation, and mean SSIM.
fn quality(made: &[RgbImage], originals: &[RgbImage]) -> Result<(f64, f64, f64)> {
    let one = |(a, b): (&RgbImage, &RgbImage)| -> Result<(f64, f64)> {
        let pairs = a.as_raw().iter().zip(b.as_raw());
        let square: f64 = pairs.map(|(a, b)| f64::from(a.abs_diff(*b)).powi(2)).sum();
        let mse = square / a.as_raw().len() as f64;
        let tensor = |p: &RgbImage| {
            let shape = (1, 3, p.height() as usize, p.width() as usize);
            Tensor::from_vec(picture::to_values(p), shape, &Device::Cpu)?.affine(0.5, 0.5)
        };
        let ssim = msal_gan::ssim::ssim(&tensor(a)?, &tensor(b)?)?;
        let psnr = 10.0 * (255.0 * 255.0 / mse.max(1e-12)).log10();
        Ok((psnr, f64::from(ssim.to_scalar::<f32>()?)))
    };
    let all = made
        .par_iter()
        .zip(originals)
        .map(one)
        .collect::<Result<Vec<_>>>()?;
    let n = all.len() as f64;
    let psnr = all.iter().map(|q| q.0).sum::<f64>() / n;
    let spread = all.iter().map(|q| (q.0 - psnr).powi(2)).sum::<f64>() / n;
    Ok((
        psnr,
        spread.sqrt(),
        all.iter().map(|q| q.1).sum::<f64>() / n,
    ))
}
