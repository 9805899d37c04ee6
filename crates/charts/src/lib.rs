//! Line charts with linear and logarithmic axes as small PNGs, their text in a font that is compiled in.

#![doc = include_str!("../README.md")]

mod axis;
mod draw;
mod legend;

pub use axis::Axis;
pub use draw::png;

/// How a curve is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Line {
    /// A line with a mark at every point.
    #[default]
    Marked,
    /// A line alone, for many points.
    Plain,
    /// A line with gaps, for what is compared with.
    Dashed,
}

/// A line of a chart.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Curve {
    /// Its entry in the legend.
    pub name: String,
    /// How it is drawn.
    pub line: Line,
    /// (x, y), in the order in which they are joined.
    pub points: Vec<(f64, f64)>,
}

/// Where the legend stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Legend {
    /// At the top, left.
    #[default]
    UpperLeft,
    /// At the top, right.
    UpperRight,
    /// At the bottom, left.
    LowerLeft,
    /// At the bottom, right.
    LowerRight,
    /// At a side where it covers the least of the curves.
    Emptiest,
}

/// One set of axes and its curves; the first eight have colours of their own.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Chart {
    /// Above it.
    pub title: String,
    /// Below it.
    pub x: Axis,
    /// At its left.
    pub y: Axis,
    /// Its lines.
    pub curves: Vec<Curve>,
    /// Where their names stand.
    pub legend: Legend,
}

/// Why nothing could be drawn.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ChartError {
    /// No charts, or none that an axis can be made for.
    #[error("chart {0:?}: there is no point that its axes can show")]
    Empty(String),
    /// More than fit one picture.
    #[error("{charts} charts are too many for one page; at most {most} fit")]
    TooMany {
        /// Charts asked for.
        charts: usize,
        /// The most.
        most: usize,
    },
    /// What the drawing library said.
    #[error("drawing failed: {0}")]
    Draw(String),
}
