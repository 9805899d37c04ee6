//! `bands`: do generated details have the size and the tails of real ones?

use std::fmt::Write;
use std::path::PathBuf;

use anyhow::{Context, Result};
use wmgm::bands::LevelStats;
use wmgm::data::{LoadOptions, PictureSet, quiet};
use wmgm::transform::Transform;

/// Arguments of the task.
#[derive(clap::Args)]
pub struct Bands {
    /// Folder of pictures to judge
    samples: PathBuf,
    /// Folder of pictures to compare them with
    reference: PathBuf,
    /// Side that all pictures are brought to
    #[arg(long, default_value_t = 128)]
    size: u32,
    /// Wavelet levels
    #[arg(long, default_value_t = 2)]
    levels: usize,
    /// Wavelet, by its PyWavelets name
    #[arg(long, default_value = "haar")]
    wavelet: String,
}

/// Prints standard deviation and kurtosis of every band, pooled over channels and pictures.
pub fn run(arguments: &Bands) -> Result<()> {
    let transform = Transform::new(&arguments.wavelet)?;
    let measure = |folder: &PathBuf| -> Result<Vec<LevelStats>> {
        let (set, broken) =
            PictureSet::load(folder, arguments.size, &LoadOptions::default(), &quiet)
                .with_context(|| format!("in {}", folder.display()))?;
        broken.iter().for_each(|b| eprintln!("skipped {b}"));
        Ok(transform.statistics(&set, arguments.levels)?)
    };
    print!(
        "{}",
        table(
            &measure(&arguments.samples)?,
            &measure(&arguments.reference)?
        )
    );
    Ok(())
}

fn table(samples: &[LevelStats], reference: &[LevelStats]) -> String {
    let mut out =
        String::from("level band       std  reference     ratio  kurtosis  reference     ratio\n");
    for (level, (a, b)) in samples.iter().zip(reference).enumerate() {
        for (name, a, b) in
            [("LH", 0), ("HL", 1), ("HH", 2)].map(|(name, i)| (name, a.high[i], b.high[i]))
        {
            // Writing to a string cannot fail.
            let _ = writeln!(
                out,
                "{:5} {name:4} {:9.4}  {:9.4} {:9.3} {:9.2}  {:9.2} {:9.3}",
                level + 1,
                a.std,
                b.std,
                a.std / b.std,
                a.kurtosis,
                b.kurtosis,
                a.kurtosis / b.kurtosis
            );
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use wmgm::bands::BandStats;

    #[test]
    fn every_band_gets_a_line_with_its_ratios() {
        let level = |std, kurtosis| {
            let band = BandStats {
                mean: 0.0,
                std,
                kurtosis,
            };
            LevelStats {
                low: band,
                high: [band; 3],
            }
        };
        let text = table(
            &[level(0.5, 6.0), level(1.0, 3.0)],
            &[level(0.25, 8.0), level(1.0, 3.0)],
        );
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 7);
        assert!(
            lines[1].contains("1 LH") && lines[1].contains("2.000") && lines[1].ends_with("0.750"),
            "{text}"
        );
        assert!(
            lines[6].contains("2 HH") && lines[6].ends_with("1.000"),
            "{text}"
        );
    }
}
