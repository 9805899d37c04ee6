//! Pictures of twice, four times ... the size: a picture is taken for the low band of a larger one, and the generator of
//! details adds what is missing, a level at a time.
//!
//! Any picture will do, of any size. Its pixels times 2^k are the low band LL of level k of a picture 2^k times as large (a
//! transform's low band grows by 2 per level). Going up by K levels, step k = K .. 1 uses the generator at level min(k, L) of
//! the model's L levels, with that level's statistics: the last step is that of the training pictures' finest details, and
//! steps beyond the model's coarsest level are done as if they were the coarsest.
//!
//! The network works on tiles of the low band that overlap, by default as large as those of the model's finest level, and the
//! details are blended before the inverse transform. Noise belongs to positions of the picture, so that
//! tiles agree where they overlap, and the result depends on neither their order nor the batch. Memory is that of the
//! result, about 27 bytes per pixel of it, and of one batch of tiles.

mod tiles;

use crate::error::{Error, Result};
use crate::model::HighModel;
use crate::picture::{self, RgbImage};
use crate::pipeline::Wmgm;
use candle_core::{Device, Tensor};
use nn_ops::noise;
use rayon::prelude::*;
use std::ops::ControlFlow;
use tiles::{Tile, axis};

/// The most pixels of a result.
pub const MAX_PIXELS: u64 = 1 << 25;
/// The most levels at once.
pub const MAX_LEVELS: usize = 8;
/// The noise of step k is stream `NOISE + k`, its cells of `CELL` x `CELL` positions numbered row by row in steps of 2^24.
const NOISE: u32 = 300;
const CELL: usize = 16;

/// How to enlarge.
#[derive(Debug, Clone, PartialEq)]
pub struct UpscaleOptions {
    /// Levels of details to add: sides grow by 2^levels.
    pub levels: usize,
    /// Seed of the details.
    pub seed: u64,
    /// Strength of the generator's noise, 0 to 2: 1 as trained, below it smoother and nearer to the mean.
    pub noise: f64,
    /// Side of the tiles in pixels of the low band; that of the model's finest low band unless given. No influence on pictures
    /// whose low bands are no larger.
    pub tile: Option<usize>,
    /// Tiles at a time; no influence on the result.
    pub batch: usize,
}

impl Default for UpscaleOptions {
    /// Two levels of seed 0.
    fn default() -> Self {
        Self {
            levels: 2,
            seed: 0,
            noise: 1.0,
            tile: None,
            batch: 4,
        }
    }
}

/// How far it is, in tiles of all levels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UpscaleProgress {
    /// Tiles done.
    pub done: usize,
    /// Tiles in all.
    pub total: usize,
}

/// Called after every batch of tiles; a break cancels.
pub type Watch<'a> = &'a dyn Fn(UpscaleProgress) -> ControlFlow<()>;

/// Planes (3, height, width) in [-1, 1], or whatever inverse transforms make of them.
struct Planes {
    values: Vec<f32>,
    size: [usize; 2],
}

impl Wmgm {
    /// `picture` enlarged by 2^levels, with details that the model makes up.
    ///
    /// # Errors
    /// Options out of range, a result of more than [`MAX_PIXELS`]; [`Error::Cancelled`] when `watch` breaks.
    pub fn upscale(
        &self,
        picture: &RgbImage,
        options: &UpscaleOptions,
        watch: Watch<'_>,
    ) -> Result<RgbImage> {
        let high = &self.bundle().high;
        let side = options.tile.unwrap_or(self.bundle().config.size / 2);
        let unit = 1 << (high.generator.config().widths.len() - 1);
        let (width, height) = picture.dimensions();
        check(options, side, unit, [height, width])?;
        let side = side.next_multiple_of(unit);
        let grids: Vec<[Vec<Tile>; 2]> = (0..options.levels)
            .map(|step| {
                [height, width].map(|length| {
                    let length = (length as usize) << step;
                    axis(length.next_multiple_of(unit), side, unit)
                })
            })
            .collect();
        let total = grids
            .iter()
            .map(|[rows, columns]| rows.len() * columns.len())
            .sum();
        let mut done = 0;
        let mut planes = Planes {
            values: picture::to_values(picture),
            size: [height as usize, width as usize],
        };
        for (grid, k) in grids.iter().zip((1..=options.levels).rev()) {
            let step = Step {
                high,
                options,
                k,
                level: k.min(high.stats.len()),
                unit,
                device: self.device(),
            };
            planes = step.enlarge(planes, grid, &mut |tiles| {
                done += tiles;
                watch(UpscaleProgress { done, total })
            })?;
        }
        let [height, width] = planes.size.map(|side| side as u32);
        let made = picture::from_values(&planes.values, width, height, 0)?;
        made.into_iter()
            .next()
            .ok_or_else(|| picture::PictureError::Empty.into())
    }
}

fn check(options: &UpscaleOptions, side: usize, unit: usize, size: [u32; 2]) -> Result<()> {
    let refuse = |text: String| Err(Error::Argument(text));
    let [height, width] = size.map(u64::from);
    if !(1..=MAX_LEVELS).contains(&options.levels) {
        return refuse(format!(
            "levels is {}, it must be 1 to {MAX_LEVELS}",
            options.levels
        ));
    }
    if height * width == 0 {
        return refuse("the picture has no pixels".into());
    }
    let pixels = (height * width).saturating_mul(1 << (2 * options.levels));
    if pixels > MAX_PIXELS {
        return refuse(format!(
            "levels is {}: a picture of {width} x {height} would become {} x {}, more than the {MAX_PIXELS} pixels that are \
             made at once; use fewer levels, or cut the picture up",
            options.levels,
            width << options.levels,
            height << options.levels
        ));
    }
    if !(0.0..=2.0).contains(&options.noise) {
        return refuse(format!("noise is {}, it must be 0 to 2", options.noise));
    }
    if !(2 * unit..=1024).contains(&side) {
        return refuse(format!("tile is {side}, it must be {} to 1024", 2 * unit));
    }
    if options.batch == 0 {
        return refuse("batch is 0, it must be at least 1".into());
    }
    Ok(())
}

/// One step up.
struct Step<'a> {
    high: &'a HighModel,
    options: &'a UpscaleOptions,
    /// Steps left, this one included: what addresses its noise.
    k: usize,
    /// The model's level that it is done as.
    level: usize,
    /// What the generator's sides must divide by.
    unit: usize,
    device: &'a Device,
}

impl Step<'_> {
    fn enlarge(
        &self,
        planes: Planes,
        [rows, columns]: &[Vec<Tile>; 2],
        tell: &mut dyn FnMut(usize) -> ControlFlow<()>,
    ) -> Result<Planes> {
        let Planes { mut values, size } = planes;
        let [height, width] = size;
        let stats = &self.high.stats[self.level - 1];
        // The low band as the generator knows it, and its continuation by mirrors to whole units.
        let gain = (1u32 << self.level) as f32;
        values.iter_mut().for_each(|v| *v *= gain);
        let padded = self.padded(&values, size, |low| stats.standardise_low(low));
        let mut high = vec![0f32; 9 * height * width];
        let places: Vec<(&Tile, &Tile)> = rows
            .iter()
            .flat_map(|row| columns.iter().map(move |column| (row, column)))
            .collect();
        for places in places.chunks(self.options.batch) {
            let made = self.details(&padded, places)?;
            // In the order of the tiles, whatever the batch.
            for (made, (row, column)) in made.iter().zip(places) {
                blend(made, row, column, size, &mut high);
            }
            if tell(places.len()).is_break() {
                return Err(Error::Cancelled);
            }
        }
        drop(padded);
        stats.restore_high(&mut high);
        let mut merged = self.high.transform.merge_planes(&values, &high, 3, size)?;
        merged.par_iter_mut().for_each(|v| *v *= 2.0 / gain);
        Ok(Planes {
            values: merged,
            size: size.map(|side| 2 * side),
        })
    }

    /// Planes continued by their mirror images at the right and below, to sides that divide by the unit.
    fn padded(&self, values: &[f32], size: [usize; 2], then: impl Fn(&mut [f32])) -> Planes {
        let sides = size.map(|side| side.next_multiple_of(self.unit));
        let mirrored = |i: usize, n: usize| {
            let i = i % (2 * n);
            i.min(2 * n - 1 - i)
        };
        let mut out = Vec::with_capacity(3 * sides[0] * sides[1]);
        for plane in values.chunks_exact(size[0] * size[1]) {
            for y in 0..sides[0] {
                let row = &plane[mirrored(y, size[0]) * size[1]..][..size[1]];
                out.extend((0..sides[1]).map(|x| row[mirrored(x, size[1])]));
            }
        }
        then(&mut out);
        Planes {
            values: out,
            size: sides,
        }
    }

    /// The generator's details (9, rows, columns) of every tile.
    fn details(&self, low: &Planes, places: &[(&Tile, &Tile)]) -> Result<Vec<Vec<f32>>> {
        let channels = self.high.generator.config().noise_channels;
        let Some((row, column)) = places.first() else {
            return Ok(Vec::new());
        };
        let (h, w) = (row.weights.len(), column.weights.len());
        let inputs: Vec<(Vec<f32>, Vec<f32>)> = places
            .par_iter()
            .map(|(row, column)| {
                let at = [row.start, column.start];
                (cut(low, at, [h, w]), self.noise(at, [h, w], channels))
            })
            .collect();
        let (lows, noise): (Vec<_>, Vec<_>) = inputs.into_iter().unzip();
        let n = places.len();
        let lows = Tensor::from_vec(lows.concat(), (n, 3, h, w), self.device)?;
        let noise = Tensor::from_vec(noise.concat(), (n, channels, h, w), self.device)?;
        let made = self.high.generator.forward(&lows, &noise, self.level)?;
        let values = made.flatten_all()?.to_vec1::<f32>()?;
        Ok(values
            .chunks_exact(9 * h * w)
            .map(<[f32]>::to_vec)
            .collect())
    }

    /// The noise (channels, h, w) of the positions from `at`.
    fn noise(&self, at: [usize; 2], [h, w]: [usize; 2], channels: usize) -> Vec<f32> {
        let mut out = vec![0f32; channels * h * w];
        let mut cell = vec![0f32; channels * CELL * CELL];
        let cells = |from: usize, n: usize| from / CELL..(from + n).div_ceil(CELL);
        for cy in cells(at[0], h) {
            for cx in cells(at[1], w) {
                let index = (cy as u64) << 24 | cx as u64;
                let stream = NOISE + self.k as u32;
                noise::fill_normal(self.options.seed, index, stream, 0, &mut cell);
                let part = |c: usize, from: usize, n: usize| {
                    (c * CELL).max(from)..((c + 1) * CELL).min(from + n)
                };
                for z in 0..channels {
                    for y in part(cy, at[0], h) {
                        for x in part(cx, at[1], w) {
                            let value = cell[(z * CELL + y % CELL) * CELL + x % CELL];
                            out[(z * h + y - at[0]) * w + x - at[1]] = value;
                        }
                    }
                }
            }
        }
        let strength = self.options.noise as f32;
        out.iter_mut().for_each(|v| *v *= strength);
        out
    }
}

/// The part (3, h, w) of planes from `at`.
fn cut(planes: &Planes, at: [usize; 2], [h, w]: [usize; 2]) -> Vec<f32> {
    let [height, width] = planes.size;
    let mut out = Vec::with_capacity(3 * h * w);
    for plane in planes.values.chunks_exact(height * width) {
        for y in at[0]..at[0] + h {
            out.extend_from_slice(&plane[y * width + at[1]..][..w]);
        }
    }
    out
}

/// Adds a tile's details (9, h, w) by its weights to those of the picture, (9, height, width); what lies beyond is left out.
fn blend(made: &[f32], row: &Tile, column: &Tile, [height, width]: [usize; 2], out: &mut [f32]) {
    let (h, w) = (row.weights.len(), column.weights.len());
    let pairs = made
        .par_chunks_exact(h * w)
        .zip(out.par_chunks_exact_mut(height * width));
    pairs.for_each(|(made, out)| {
        let rows = made.chunks_exact(w).zip(&row.weights).enumerate();
        for (y, (made, wy)) in rows.filter(|(y, _)| row.start + y < height) {
            let out = &mut out[(row.start + y) * width..][..width];
            let out = out.get_mut(column.start..).unwrap_or_default();
            for ((o, v), wx) in out.iter_mut().zip(made).zip(&column.weights) {
                *o += wy * wx * v;
            }
        }
    });
}
