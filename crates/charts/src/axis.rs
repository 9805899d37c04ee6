//! An axis: what it is called, how values lie on it, and where its ticks are.

use plotters::coord::ranged1d::{KeyPointHint, NoDefaultFormatting, Ranged, ValueFormatter};
use plotters::coord::types::RangedCoordf64;
use std::f64::consts::LOG10_2;
use std::ops::Range;

/// One of a chart's two axes.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Axis {
    label: String,
    logarithmic: bool,
    whole: bool,
    range: Option<Range<f64>>,
}

impl Axis {
    /// A linear axis.
    pub fn linear(label: impl Into<String>) -> Self {
        Self {
            label: label.into(),
            ..Self::default()
        }
    }

    /// A logarithmic axis, for positive values.
    pub fn log(label: impl Into<String>) -> Self {
        Self {
            logarithmic: true,
            ..Self::linear(label)
        }
    }

    /// A linear axis with ticks at whole numbers alone, for what is counted.
    pub fn whole(label: impl Into<String>) -> Self {
        Self {
            whole: true,
            ..Self::linear(label)
        }
    }

    /// The same from `start` to `end` in place of what the values span.
    #[must_use]
    pub fn within(mut self, start: f64, end: f64) -> Self {
        self.range = Some(start..end);
        self
    }

    pub(crate) fn label(&self) -> &str {
        &self.label
    }

    /// Where a value lies: itself or its decimal logarithm; `None` for one that the axis cannot show.
    pub(crate) fn place(&self, value: f64) -> Option<f64> {
        let inside = self
            .range
            .as_ref()
            .is_none_or(|r| (r.start..=r.end).contains(&value));
        let place = match self.logarithmic {
            true => value.log10(),
            false => value,
        };
        (inside && place.is_finite()).then_some(place)
    }

    /// The scale that holds all `places`, with some air; `None` for none.
    pub(crate) fn scale(&self, places: impl Iterator<Item = f64>) -> Option<Scale> {
        let ends = |r: &Range<f64>| match self.logarithmic {
            true => r.start.log10()..r.end.log10(),
            false => r.clone(),
        };
        let range = match self.range.as_ref().map(ends) {
            Some(range) => range,
            None => {
                let (low, high) = places.fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| {
                    (l.min(v), h.max(v))
                });
                // One value alone has a tenth of a decade about it, or a tenth of itself.
                let least = match (self.logarithmic, high > low) {
                    (true, _) => 0.1,
                    (false, true) => 0.0,
                    (false, false) if high == 0.0 => 1.0,
                    (false, false) => 0.1 * high.abs(),
                };
                let air = 0.04 * (high - low).max(least);
                low - air..high + air
            }
        };
        (range.start.is_finite() && range.end.is_finite() && range.start < range.end).then_some(
            Scale {
                range,
                logarithmic: self.logarithmic,
                whole: self.whole,
            },
        )
    }
}

/// Places along an axis, in plotters' terms. Its own logarithmic axis crowds its labels.
pub(crate) struct Scale {
    range: Range<f64>,
    logarithmic: bool,
    whole: bool,
}

impl Ranged for Scale {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, limit: (i32, i32)) -> i32 {
        let part = (value - self.range.start) / (self.range.end - self.range.start);
        limit.0 + (part * f64::from(limit.1 - limit.0)) as i32
    }

    fn key_points<H: KeyPointHint>(&self, hint: H) -> Vec<f64> {
        if !self.logarithmic {
            let mut points = RangedCoordf64::from(self.range.clone()).key_points(hint);
            points.retain(|v| !self.whole || v.fract() == 0.0);
            return points;
        }
        // Decades alone, with 2 and 5 between if there are few, every other one if there are many.
        let span = self.range.end - self.range.start;
        let inner: &[f64] = match span < 2.5 {
            true => &[0.0, LOG10_2, 1.0 - LOG10_2],
            false => &[0.0],
        };
        let step = (span / 12.0).ceil().max(1.0) as i32;
        let all = self.range.start.floor() as i32..=self.range.end.ceil() as i32;
        all.filter(|k| k.rem_euclid(step) == 0)
            .flat_map(|k| inner.iter().map(move |i| f64::from(k) + i))
            .filter(|v| self.range.contains(v) || *v == self.range.end)
            .collect()
    }

    fn range(&self) -> Range<f64> {
        self.range.clone()
    }
}

impl ValueFormatter<f64> for Scale {
    fn format_ext(&self, place: &f64) -> String {
        let v = match self.logarithmic {
            true => 10f64.powf(*place),
            false => *place,
        };
        // What lies between two labels of a narrow axis is more than its label tells.
        let span = match self.logarithmic {
            true => f64::INFINITY,
            false => self.range.end - self.range.start,
        };
        if span < 0.01 * v.abs().min(1e5) && v != 0.0 {
            let places = (2.0 - span.log10()).ceil().clamp(0.0, 15.0) as usize;
            format!("{v:.places$}")
        } else if v == 0.0 || (0.01..1e5).contains(&v.abs()) {
            format!("{}", (v * 1e3).round() / 1e3)
        } else {
            format!("{v:.1e}").replace(".0e", "e")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_that_cannot_be_shown_are_none() {
        assert_eq!(Axis::log("").place(100.0), Some(2.0));
        for value in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert_eq!(Axis::log("").place(value), None);
        }
        let axis = Axis::linear("").within(-1.0, 1.0);
        assert_eq!(
            [-1.0, 0.0, 1.0, 1.1].map(|v| axis.place(v)),
            [Some(-1.0), Some(0.0), Some(1.0), None]
        );
    }

    #[test]
    fn whole_axes_count() {
        let ticks = |axis: Axis| axis.scale([0.0, 4.0].into_iter()).unwrap().key_points(10);
        assert_eq!(ticks(Axis::whole("")), [0.0, 1.0, 2.0, 3.0, 4.0]);
        assert!(ticks(Axis::linear("")).contains(&0.5));
    }

    #[test]
    fn scales_hold_their_values_and_have_ticks() {
        for axis in [Axis::linear(""), Axis::log("")] {
            let places = [1e-3, 1.0, 1e4].map(|v| axis.place(v).unwrap());
            let scale = axis.scale(places.into_iter()).unwrap();
            assert!(places.iter().all(|p| scale.range.contains(p)));
            assert!(scale.key_points(10).len() > 2);
        }
        assert!(Axis::log("").scale(std::iter::empty()).is_none());
        // Values fill a linear axis however small or near to each other they are.
        for (low, high) in [(0.0, 1e-4), (1.0, 1.0001), (-3e15, 2e15)] {
            let scale = Axis::linear("").scale([low, high].into_iter()).unwrap();
            let width = scale.range.end - scale.range.start;
            assert!((1.0..1.1).contains(&(width / (high - low))), "{low} {high}");
            let labels: Vec<String> = scale
                .key_points(5)
                .iter()
                .map(|v| scale.format_ext(v))
                .collect();
            let distinct: std::collections::BTreeSet<&String> = labels.iter().collect();
            assert!(
                labels.len() > 2 && distinct.len() == labels.len(),
                "{labels:?}"
            );
        }
        for value in [0.0, 1e-9, -5.0, 1e15] {
            let scale = Axis::linear("").scale([value].into_iter()).unwrap();
            assert!(scale.range.contains(&value), "{value}");
        }
        // One value alone has a scale, too.
        let scale = Axis::log("").scale([2.0].into_iter()).unwrap();
        assert!(!scale.key_points(10).is_empty());
        assert_eq!(scale.format_ext(&2.0), "100");
        assert_eq!(scale.format_ext(&-6.0), "1e-6");
        assert_eq!(
            Scale {
                logarithmic: false,
                ..scale
            }
            .format_ext(&2.5e-4),
            "2.5e-4"
        );
    }
}
