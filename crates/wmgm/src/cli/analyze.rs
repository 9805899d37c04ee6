//! `wmgm analyze`.

use super::progress;
use super::say::{say, warn};
use std::fmt::Write;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use wmgm::analyze::{Analysis, AnalyzeEvent, AnalyzeOptions, analyze, check_out, write};
use wmgm::error::Result;

/// Measure what pictures say about wavelets: spectra, condition numbers, divergences, sparsity.
///
/// Of every band of the wavelet transform, as numbers (analysis.json) and charts: the spectrum and condition number as a
/// stationary law, how far it is from a Gaussian by scale and picture size, how sparse its values are, when it drowns in a
/// diffusion; and how many levels to take, with the reason. Pictures of any size are scaled and cropped; broken ones are
/// skipped and named.
#[derive(Debug, clap::Args)]
pub struct AnalyzeArgs {
    /// Folder of pictures, searched with its subfolders.
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// Folder to write to; an older analysis there is replaced.
    #[arg(long, value_name = "DIR", default_value = "analysis")]
    out: PathBuf,
    /// Wavelet, by its PyWavelets name.
    #[arg(long, value_name = "NAME", default_value = "haar")]
    wavelet: String,
    /// Levels of the transform [default: as many as leave a low band of at least 8 x 8].
    #[arg(long, value_name = "L")]
    levels: Option<usize>,
    /// Side that pictures are scaled and cropped to, 8 to 1024; half, a quarter ... of it are measured, too.
    #[arg(long, value_name = "SIDE", default_value_t = 128)]
    size: usize,
}

impl AnalyzeArgs {
    pub fn run(self) -> Result<()> {
        let options = AnalyzeOptions {
            size: self.size,
            levels: self.levels,
            wavelet: self.wavelet,
            ..AnalyzeOptions::default()
        };
        check_out(&self.out)?;
        let stop = progress::stop_flag();
        let bar = progress::bar(0, "spectra");
        let watch = |event: AnalyzeEvent| {
            let (name, p) = match event {
                AnalyzeEvent::Spectra(p) => ("spectra", p),
                AnalyzeEvent::Histograms(p) => ("values", p),
                _ => return ControlFlow::Continue(()),
            };
            bar.set_prefix(name);
            bar.set_length(p.total as u64);
            bar.set_position(p.done as u64);
            match stop.load(Ordering::Relaxed) {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            }
        };
        let analysis = analyze(&self.data, &options, &watch)?;
        bar.finish_and_clear();
        for skipped in &analysis.skipped {
            warn(&format!("skipped {skipped}"));
        }
        write(&self.out, &analysis)?;
        say(&format!(
            "{}written   {}\n",
            summary(&analysis).unwrap_or_default(),
            self.out.display()
        ))
    }
}

/// The main numbers.
fn summary(a: &Analysis) -> std::result::Result<String, std::fmt::Error> {
    let mut text = String::new();
    let t = &mut text;
    let report = &a.sizes[0];
    writeln!(
        t,
        "pictures  {} of {1} x {1} ({2} were smaller and are enlarged); the power at a frequency is good to {3:.1} %",
        a.pictures,
        report.size,
        a.enlarged,
        100.0 * a.relative_error
    )?;
    writeln!(
        t,
        "band     side      std  share %  kurtosis  near 0 %       kappa  KL Gaussian  (colour)  KL values  steps  drowns at"
    )?;
    for b in &report.bands {
        let steps = match (b.is_low(), b.steps) {
            (false, _) => String::new(),
            (true, None) => "many".into(),
            (true, Some(n)) => n.to_string(),
        };
        writeln!(
            t,
            "{:7} {:5} {:8.4} {:8.2} {:9.2} {:9.1} {:11.4e} {:12.3} {:9.3} {:10.3} {:>6} {:10.3}",
            b.name,
            b.side,
            b.std,
            100.0 * b.share,
            b.kurtosis,
            100.0 * b.near_zero,
            b.condition,
            b.kl_gaussian,
            b.kl_colour,
            b.kl_marginal,
            steps,
            b.drowns_at
        )?;
    }
    writeln!(t, "advice    {}", a.advice.reason)?;
    Ok(text)
}
