//! Charts with logarithmic axes as small PNGs, their text in a font that is compiled in.

use image::codecs::png::{CompressionType, FilterType, PngEncoder};
use image::{ExtendedColorType, ImageEncoder};
use plotters::coord::ranged1d::{KeyPointHint, NoDefaultFormatting, Ranged, ValueFormatter};
use plotters::prelude::*;
use plotters::style::{FontStyle, register_font};
use std::error::Error;
use std::f64::consts::LOG10_2;
use std::ops::Range;
use std::path::Path;

/// A line of a chart.
pub struct Curve {
    /// Its entry in the legend.
    pub name: String,
    /// Drawn with gaps.
    pub dashed: bool,
    /// (x, y), both above 0.
    pub points: Vec<(f64, f64)>,
}

/// What one picture shows.
pub struct Chart {
    /// Above it.
    pub title: String,
    /// Below it.
    pub x: String,
    /// At its left.
    pub y: String,
    /// Its lines.
    pub curves: Vec<Curve>,
}

const SIZE: (u32, u32) = (760, 480);
const FONT: &str = "sans-serif";
const COLOURS: [RGBColor; 6] = [
    RGBColor(31, 119, 180),
    RGBColor(214, 89, 20),
    RGBColor(44, 140, 60),
    RGBColor(148, 76, 189),
    RGBColor(120, 120, 120),
    RGBColor(170, 120, 20),
];

/// Powers of ten as ticks on an axis of exponents: plotters' own logarithmic axis crowds its labels.
struct Decades(Range<f64>);

impl Ranged for Decades {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;
    fn map(&self, value: &f64, limit: (i32, i32)) -> i32 {
        let part = (value - self.0.start) / (self.0.end - self.0.start);
        limit.0 + (part * f64::from(limit.1 - limit.0)) as i32
    }
    fn key_points<H: KeyPointHint>(&self, _: H) -> Vec<f64> {
        // Decades alone, with 2 and 5 between if there are few.
        let few = self.0.end - self.0.start < 2.5;
        let inner: &[f64] = if few {
            &[0.0, LOG10_2, 1.0 - LOG10_2]
        } else {
            &[0.0]
        };
        let all = self.0.start.floor() as i32..=self.0.end.ceil() as i32;
        let all = all.flat_map(|k| inner.iter().map(move |i| f64::from(k) + i));
        all.filter(|v| *v >= self.0.start && *v <= self.0.end)
            .collect()
    }
    fn range(&self) -> Range<f64> {
        self.0.clone()
    }
}

impl ValueFormatter<f64> for Decades {
    fn format_ext(&self, value: &f64) -> String {
        let v = 10f64.powf(*value);
        if (0.01..1e5).contains(&v) {
            format!("{}", (v * 1e3).round() / 1e3)
        } else {
            format!("{v:.0e}")
        }
    }
}

/// The exponents that hold all values, with some air.
fn span(values: impl Iterator<Item = f64>) -> Range<f64> {
    let (low, high) = values
        .map(f64::log10)
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| {
            (l.min(v), h.max(v))
        });
    let air = 0.04 * (high - low).max(0.1);
    low - air..high + air
}

/// Writes the chart as a PNG.
pub fn draw(path: &Path, chart: &Chart) -> Result<(), Box<dyn Error>> {
    register_font(FONT, FontStyle::Normal, epaint_default_fonts::HACK_REGULAR)
        .map_err(|_| "the font does not parse")?;
    let points = || chart.curves.iter().flat_map(|c| &c.points);
    let (x, y) = (span(points().map(|p| p.0)), span(points().map(|p| p.1)));
    let mut pixels = vec![255u8; 3 * (SIZE.0 * SIZE.1) as usize];
    {
        let area = BitMapBackend::with_buffer(&mut pixels, SIZE).into_drawing_area();
        area.fill(&WHITE)?;
        let mut axes = ChartBuilder::on(&area)
            .caption(&chart.title, (FONT, 17))
            .margin(10)
            .x_label_area_size(40)
            .y_label_area_size(66)
            .build_cartesian_2d(Decades(x), Decades(y))?;
        axes.configure_mesh()
            .x_desc(&chart.x)
            .y_desc(&chart.y)
            .label_style((FONT, 13))
            .bold_line_style(RGBColor(225, 225, 225))
            .light_line_style(TRANSPARENT)
            .draw()?;
        for (curve, colour) in chart.curves.iter().zip(COLOURS) {
            let style = colour.stroke_width(2);
            let line: Vec<(f64, f64)> = curve
                .points
                .iter()
                .map(|p| (p.0.log10(), p.1.log10()))
                .collect();
            let drawn = if curve.dashed {
                axes.draw_series(DashedLineSeries::new(line, 7, 5, style))?
            } else {
                axes.draw_series(line.iter().map(|p| Circle::new(*p, 3, colour.filled())))?;
                axes.draw_series(LineSeries::new(line, style))?
            };
            drawn
                .label(&curve.name)
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], style));
        }
        axes.configure_series_labels()
            .position(SeriesLabelPosition::UpperLeft)
            .background_style(WHITE.mix(0.85))
            .border_style(RGBColor(200, 200, 200))
            .label_font((FONT, 13))
            .draw()?;
        area.present()?;
    }
    // Whole or not at all.
    let part = path.with_extension("png.tmp");
    let file = std::io::BufWriter::new(std::fs::File::create(&part)?);
    PngEncoder::new_with_quality(file, CompressionType::Best, FilterType::NoFilter).write_image(
        &pixels,
        SIZE.0,
        SIZE.1,
        ExtendedColorType::Rgb8,
    )?;
    std::fs::rename(part, path)?;
    Ok(())
}
