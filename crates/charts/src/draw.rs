//! Charts to the bytes of a PNG.

use crate::axis::Scale;
use crate::legend::emptiest;
use crate::{Chart, ChartError, Legend, Line};
use image::codecs::png::{CompressionType, FilterType, PngEncoder};
use image::{ExtendedColorType, ImageEncoder};
use plotters::coord::Shift;
use plotters::coord::ranged1d::Ranged;
use plotters::prelude::*;
use plotters::style::{FontStyle, register_font};

/// Width and height of one chart.
const SIZE: (u32, u32) = (760, 480);
/// The most charts on a page.
const MOST: usize = 64;
const FONT: &str = "sans-serif";
const COLOURS: [RGBColor; 8] = [
    RGBColor(31, 119, 180),
    RGBColor(214, 89, 20),
    RGBColor(44, 140, 60),
    RGBColor(148, 76, 189),
    RGBColor(120, 120, 120),
    RGBColor(170, 120, 20),
    RGBColor(20, 160, 170),
    RGBColor(200, 60, 120),
];

/// The charts as one PNG, `columns` in a row, each 760 x 480 pixels. The same charts give the same bytes.
///
/// # Errors
/// [`ChartError::Empty`] if there are no charts, or one of them has no point that its axes can show;
/// [`ChartError::TooMany`].
pub fn png(charts: &[Chart], columns: usize) -> Result<Vec<u8>, ChartError> {
    if charts.is_empty() {
        return Err(ChartError::Empty(String::new()));
    }
    if charts.len() > MOST {
        return Err(ChartError::TooMany {
            charts: charts.len(),
            most: MOST,
        });
    }
    register_font(FONT, FontStyle::Normal, epaint_default_fonts::HACK_REGULAR)
        .map_err(|_| ChartError::Draw("the font does not parse".into()))?;
    let columns = columns.clamp(1, charts.len());
    let rows = charts.len().div_ceil(columns);
    let size = (SIZE.0 * columns as u32, SIZE.1 * rows as u32);
    let mut pixels = vec![255u8; 3 * (size.0 * size.1) as usize];
    {
        let page = BitMapBackend::with_buffer(&mut pixels, size).into_drawing_area();
        page.fill(&WHITE).map_err(failed)?;
        for (area, chart) in page.split_evenly((rows, columns)).iter().zip(charts) {
            one(area, chart)?;
        }
        page.present().map_err(failed)?;
    }
    let mut bytes = Vec::new();
    PngEncoder::new_with_quality(&mut bytes, CompressionType::Best, FilterType::NoFilter)
        .write_image(&pixels, size.0, size.1, ExtendedColorType::Rgb8)
        .map_err(failed)?;
    Ok(bytes)
}

fn failed(error: impl std::fmt::Display) -> ChartError {
    ChartError::Draw(error.to_string())
}

fn one(area: &DrawingArea<BitMapBackend<'_>, Shift>, chart: &Chart) -> Result<(), ChartError> {
    let lines: Vec<Vec<(f64, f64)>> = chart
        .curves
        .iter()
        .map(|curve| {
            let places = curve.points.iter();
            places
                .filter_map(|p| Some((chart.x.place(p.0)?, chart.y.place(p.1)?)))
                .collect()
        })
        .collect();
    let points = || lines.iter().flatten();
    let scales = || -> Option<(Scale, Scale)> {
        points().next()?;
        let x = chart.x.scale(points().map(|p| p.0))?;
        Some((x, chart.y.scale(points().map(|p| p.1))?))
    };
    let (x, y) = scales().ok_or_else(|| ChartError::Empty(chart.title.clone()))?;
    let position = match chart.legend {
        Legend::UpperLeft => SeriesLabelPosition::UpperLeft,
        Legend::UpperRight => SeriesLabelPosition::UpperRight,
        Legend::LowerLeft => SeriesLabelPosition::LowerLeft,
        Legend::LowerRight => SeriesLabelPosition::LowerRight,
        Legend::Emptiest => {
            let names: Vec<&str> = chart.curves.iter().map(|c| c.name.as_str()).collect();
            emptiest(&names, &lines, x.range(), y.range())
        }
    };
    let mut axes = ChartBuilder::on(area)
        .caption(&chart.title, (FONT, 17))
        .margin(10)
        .x_label_area_size(40)
        .y_label_area_size(66)
        .build_cartesian_2d(x, y)
        .map_err(failed)?;
    axes.configure_mesh()
        .x_desc(chart.x.label())
        .y_desc(chart.y.label())
        .label_style((FONT, 13))
        .bold_line_style(RGBColor(225, 225, 225))
        .light_line_style(TRANSPARENT)
        .draw()
        .map_err(failed)?;
    let colours = COLOURS.iter().cycle();
    for ((curve, line), colour) in chart.curves.iter().zip(lines).zip(colours) {
        let style = colour.stroke_width(2);
        if curve.line == Line::Marked {
            let marks = line.iter().map(|p| Circle::new(*p, 3, colour.filled()));
            axes.draw_series(marks).map_err(failed)?;
        }
        let drawn = match curve.line {
            Line::Dashed => axes.draw_series(DashedLineSeries::new(line, 7, 5, style)),
            _ => axes.draw_series(LineSeries::new(line, style)),
        };
        drawn
            .map_err(failed)?
            .label(&curve.name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], style));
    }
    axes.configure_series_labels()
        .position(position)
        .background_style(WHITE.mix(0.85))
        .border_style(RGBColor(200, 200, 200))
        .label_font((FONT, 13))
        .draw()
        .map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Axis, Curve};

    fn chart(points: &[(f64, f64)]) -> Chart {
        Chart {
            title: "title".into(),
            x: Axis::log("x"),
            y: Axis::linear("y"),
            curves: vec![Curve {
                name: "curve".into(),
                line: Line::Plain,
                points: points.to_vec(),
            }],
            legend: Legend::LowerRight,
        }
    }

    #[test]
    fn a_page_has_the_size_of_its_charts_and_shows_their_colours() {
        let charts = vec![chart(&[(1.0, 0.0), (10.0, 5.0), (-1.0, 3.0)]); 3];
        let bytes = png(&charts, 2).unwrap();
        assert!(bytes == png(&charts, 2).unwrap());
        let picture = image::load_from_memory(&bytes).unwrap().into_rgb8();
        assert_eq!(picture.dimensions(), (2 * SIZE.0, 2 * SIZE.1));
        let blue = |x0: u32, y0: u32| {
            let inside = (0..SIZE.0 * SIZE.1).map(|i| (x0 + i % SIZE.0, y0 + i / SIZE.0));
            inside
                .filter(|&(x, y)| picture.get_pixel(x, y).0 == [31, 119, 180])
                .count()
        };
        // The line and its mark in the legend, in each of three places; the fourth is empty.
        assert!(blue(0, 0) > 500 && blue(SIZE.0, 0) > 500 && blue(0, SIZE.1) > 500);
        assert_eq!(blue(SIZE.0, SIZE.1), 0);
    }

    #[test]
    fn nothing_to_draw_is_an_error_that_names_the_chart() {
        assert_eq!(png(&[], 1).unwrap_err(), ChartError::Empty(String::new()));
        let error = png(&[chart(&[(-1.0, 0.0), (1.0, f64::NAN)])], 1).unwrap_err();
        assert!(error.to_string().contains("title"), "{error}");
        let many = png(&vec![chart(&[(1.0, 0.0)]); 65], 8).unwrap_err();
        assert!(many.to_string().contains("65"), "{many}");
    }
}
