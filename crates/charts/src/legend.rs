//! Where a legend covers the least of a chart's curves.

use plotters::prelude::SeriesLabelPosition;
use std::ops::Range;

/// Width of a letter and height of a line, and what the box and its marks add, in parts of a chart's width and height.
const LETTER: (f64, f64) = (0.012, 0.045);
const MORE: (f64, f64) = (0.08, 0.05);
/// Places along every stretch of a curve that are asked for.
const SAMPLES: u32 = 32;

/// The first place, of those along both sides, where the entries `names` cover the fewest places of `lines`.
pub(crate) fn emptiest(
    names: &[&str],
    lines: &[Vec<(f64, f64)>],
    x: Range<f64>,
    y: Range<f64>,
) -> SeriesLabelPosition {
    use SeriesLabelPosition as At;
    let letters = names.iter().map(|n| n.chars().count()).max().unwrap_or(0);
    let width = LETTER.0 * letters as f64 + MORE.0;
    let height = LETTER.1 * names.len() as f64 + MORE.1;
    // Both from 0 to 1, from below and from the left.
    let part = |v: f64, r: &Range<f64>| (v - r.start) / (r.end - r.start);
    let covered = |right: bool, low: f64| {
        let within = |p: (f64, f64)| {
            let across = part(p.0, &x);
            let across = if right { 1.0 - across } else { across };
            across < width && (low..low + height).contains(&part(p.1, &y))
        };
        let stretch = |a: (f64, f64), b: (f64, f64)| {
            let at = move |i| f64::from(i) / f64::from(SAMPLES);
            let between = move |t: f64| (a.0 + t * (b.0 - a.0), a.1 + t * (b.1 - a.1));
            (0..=SAMPLES).filter(|&i| within(between(at(i)))).count()
        };
        let along = |line: &Vec<(f64, f64)>| -> usize {
            line.windows(2).map(|ends| stretch(ends[0], ends[1])).sum()
        };
        lines.iter().map(along).sum::<usize>()
    };
    let top = 1.0 - height;
    let places = [
        (At::UpperRight, true, top),
        (At::UpperLeft, false, top),
        (At::LowerRight, true, 0.0),
        (At::LowerLeft, false, 0.0),
        (At::MiddleRight, true, top / 2.0),
        (At::MiddleLeft, false, top / 2.0),
    ];
    let least = places
        .into_iter()
        .min_by_key(|(_, right, low)| covered(*right, *low));
    least.map_or(At::UpperRight, |(at, ..)| at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_legend_keeps_away_from_curves() {
        let at = |lines: &[Vec<(f64, f64)>]| emptiest(&["one", "two"], lines, 0.0..1.0, 0.0..1.0);
        let (high, falling) = (vec![(0.0, 0.95), (1.0, 0.95)], vec![(0.0, 1.0), (1.0, 0.0)]);
        assert!(matches!(at(&[]), SeriesLabelPosition::UpperRight));
        assert!(matches!(
            at(std::slice::from_ref(&falling)),
            SeriesLabelPosition::UpperRight
        ));
        assert!(matches!(
            at(&[high.clone(), falling.clone()]),
            SeriesLabelPosition::LowerLeft
        ));
        let low = vec![(0.0, 0.05), (1.0, 0.05)];
        assert!(matches!(
            at(&[high, falling, low]),
            SeriesLabelPosition::MiddleRight
        ));
    }
}
