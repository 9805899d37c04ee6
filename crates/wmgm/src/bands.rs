//! Bands as the networks see them: standardised by the statistics of the training pictures, the low band folded.

use crate::error::{Error, Result};
use wavelet::haar::{analyze_into, synthesize_into};
pub use wavelet::{BandStats, LevelMoments, LevelStats, Moments};

/// One level of the pyramid of one picture: planes (C, h, w) each.
#[derive(Debug, Clone, Default)]
pub struct Level {
    /// LL, C planes.
    pub low: Vec<f32>,
    /// LH, HL, HH, C planes each.
    pub high: Vec<f32>,
}

/// Whether a level's numbers can standardise bands, in f32, too.
///
/// # Errors
/// Names the band whose mean or standard deviation cannot be meant.
pub(crate) fn check_stats(level: &LevelStats) -> std::result::Result<(), String> {
    let bands = [level.low].into_iter().chain(level.high);
    let mut named = ["LL", "LH", "HL", "HH"].iter().zip(bands);
    named.try_for_each(|(name, b)| check_band_stats(&format!("the band {name}"), &b))
}

/// Whether the numbers of what is called `name` can standardise it.
pub(crate) fn check_band_stats(name: &str, b: &BandStats) -> std::result::Result<(), String> {
    // Bands of pictures in [-1, 1] stay within 2^levels; the rest is damage, or pictures of one colour.
    if !(-1e6..=1e6).contains(&b.mean) || !(1e-9..=1e6).contains(&b.std) {
        return Err(format!(
            "{name} has mean {} and standard deviation {}; the first must be -1e6 to 1e6, the second 1e-9 to 1e6 (0 is that of pictures without any detail)",
            b.mean, b.std
        ));
    }
    Ok(())
}

/// `times` Haar transforms of every plane, the bands kept as channels: (C, side, side) to
/// (4^times C, side / 2^times, side / 2^times).
///
/// An orthonormal change of coordinates: white noise stays white noise of the same strength, so that a diffusion in
/// folded coordinates is the diffusion of the band itself, seen by a network that works at a smaller size.
///
/// # Errors
/// A side that does not divide by 2^times, a length that is not C side^2.
pub fn fold(x: Vec<f32>, channels: usize, side: usize, times: usize) -> Result<Vec<f32>> {
    (0..times).try_fold(x, |x, i| {
        let (c, s) = (channels << (2 * i), side >> i);
        let mut out = vec![0f32; x.len()];
        let (low, high) = out.split_at_mut(x.len() / 4);
        analyze_into(&x, [1, c, s, s], low, high).map_err(failed)?;
        Ok(out)
    })
}

/// The inverse of [`fold`]; `channels` and `side` are those of the unfolded band.
///
/// # Errors
/// As [`fold`].
pub fn unfold(x: Vec<f32>, channels: usize, side: usize, times: usize) -> Result<Vec<f32>> {
    (0..times).rev().try_fold(x, |x, i| {
        let (c, s) = (channels << (2 * i), side >> i);
        let mut out = vec![0f32; x.len()];
        let (low, high) = x.split_at(x.len() / 4);
        synthesize_into(low, high, [1, c, s, s], &mut out).map_err(failed)?;
        Ok(out)
    })
}

/// Opponent colours: their sum, red against blue, and green against both; an orthonormal change of coordinates.
const COLOURS: [[f64; 3]; 3] = {
    const THIRD: f64 = 0.577_350_269_189_625_8;
    const HALF: f64 = std::f64::consts::FRAC_1_SQRT_2;
    const SIXTH: f64 = 0.408_248_290_463_863;
    [
        [THIRD, THIRD, THIRD],
        [HALF, 0.0, -HALF],
        [SIXTH, -2.0 * SIXTH, SIXTH],
    ]
};

/// Turns the planes (3, n) of a picture's colours into opponent colours, or back. White noise stays white noise, and of pictures
/// nearly everything is in the first.
pub(crate) fn turn_colours(x: &mut [f32], back: bool) {
    let (r, rest) = x.split_at_mut(x.len() / 3);
    let (g, b) = rest.split_at_mut(r.len());
    for ((r, g), b) in r.iter_mut().zip(g).zip(b) {
        let seen = [*r, *g, *b].map(f64::from);
        let turned = |i: usize| -> f32 {
            let factor = |j: usize| if back { COLOURS[j][i] } else { COLOURS[i][j] };
            (0..3).map(|j| factor(j) * seen[j]).sum::<f64>() as f32
        };
        (*r, *g, *b) = (turned(0), turned(1), turned(2));
    }
}

pub(crate) fn failed(error: wavelet::Error) -> Error {
    Error::Argument(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folding_turns_squares_into_channels_and_back() {
        let mut x = vec![0f32; 3 * 16 * 16];
        nn_ops::noise::fill_normal(1, 2, 3, 4, &mut x);
        let energy = |x: &[f32]| x.iter().map(|v| f64::from(v * v)).sum::<f64>();
        for times in 0..=4 {
            let folded = fold(x.clone(), 3, 16, times).unwrap();
            assert!((energy(&folded) / energy(&x) - 1.0).abs() < 1e-5);
            let back = unfold(folded, 3, 16, times).unwrap();
            let worst = x
                .iter()
                .zip(&back)
                .map(|(a, b)| (a - b).abs())
                .fold(0f32, f32::max);
            assert!(worst < 1e-5, "{times}: {worst}");
        }
        // One plane of 2 x 2: its sum, and the three differences.
        let folded = fold(vec![1.0, 3.0, 5.0, 7.0], 1, 2, 1).unwrap();
        assert_eq!(folded, [8.0, -4.0, -2.0, 0.0]);
        assert!(fold(x.clone(), 3, 16, 5).is_err() && fold(vec![0.0; 9], 1, 3, 1).is_err());
        assert!(unfold(x[1..].to_vec(), 3, 16, 1).is_err());
    }

    #[test]
    fn colours_turn_and_come_back() {
        let mut x = vec![0f32; 3 * 50];
        nn_ops::noise::fill_normal(1, 2, 3, 4, &mut x);
        let (before, energy) = (x.clone(), |x: &[f32]| x.iter().map(|v| v * v).sum::<f32>());
        turn_colours(&mut x, false);
        assert!((energy(&x) / energy(&before) - 1.0).abs() < 1e-5 && x != before);
        turn_colours(&mut x, true);
        assert!(x.iter().zip(&before).all(|(a, b)| (a - b).abs() < 1e-6));
        let mut grey = [0.5f32; 3];
        turn_colours(&mut grey, false);
        assert!((grey[0] - 0.75f32.sqrt()).abs() < 1e-6 && grey[1].abs() + grey[2].abs() < 1e-6);
    }

    #[test]
    fn statistics_that_cannot_be_used_are_named() {
        let good = BandStats {
            mean: 0.0,
            std: 1.0,
            kurtosis: 3.0,
        };
        let level = |std| LevelStats {
            low: good,
            high: [good, BandStats { std, ..good }, good],
        };
        check_stats(&level(1.0)).unwrap();
        for std in [0.0, -1.0, f64::NAN, f64::INFINITY, 1e300] {
            assert!(
                check_stats(&level(std))
                    .unwrap_err()
                    .contains("the band HL")
            );
        }
    }
}
