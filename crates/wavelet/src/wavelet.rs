//! A wavelet: a name and its four filters.

use crate::error::{Error, Result};
use std::fmt;
use std::str::FromStr;
use std::sync::LazyLock;

/// Low-pass filters, one line per wavelet; its header says whose they are and how the file is made.
const TABLE: &str = include_str!("../data/filters.txt");

/// A discrete wavelet: the filters that take a signal apart and put it together again, in PyWavelets' order and signs.
///
/// Known by name are haar, db1-db38, sym2-sym20, coif1-coif17, bior*, rbio* and dmey ([`Wavelet::names`]).
///
/// ```
/// let w: wavelet::Wavelet = "db2".parse()?;
/// assert_eq!(w.filter_len(), 4);
/// assert!(w.is_orthogonal());
/// # Ok::<(), wavelet::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Wavelet {
    name: String,
    orthogonal: bool,
    dec_lo: Vec<f64>,
    dec_hi: Vec<f64>,
    rec_lo: Vec<f64>,
    rec_hi: Vec<f64>,
}

impl Wavelet {
    /// The wavelet of this name.
    ///
    /// # Errors
    /// [`Error::UnknownWavelet`], with the known ones.
    pub fn new(name: &str) -> Result<Self> {
        // An rbio wavelet is its bior twin with analysis and synthesis exchanged and reversed.
        let twin = name
            .strip_prefix("rbio")
            .map(|orders| format!("bior{orders}"));
        let (orthogonal, dec_lo, rec_lo) =
            lookup(twin.as_deref().unwrap_or(name)).ok_or_else(|| Error::UnknownWavelet {
                name: name.to_string(),
                known: known(),
            })?;
        let (dec_lo, rec_lo) = match twin {
            Some(_) => (reversed(&rec_lo), reversed(&dec_lo)),
            None => (dec_lo, rec_lo),
        };
        let (dec_hi, rec_hi) = (alternated(&rec_lo, -1.0), alternated(&dec_lo, 1.0));
        Ok(Self {
            name: name.to_string(),
            orthogonal,
            dec_lo,
            dec_hi,
            rec_lo,
            rec_hi,
        })
    }

    /// The Haar wavelet.
    pub fn haar() -> Self {
        let s = std::f64::consts::FRAC_1_SQRT_2;
        Self {
            name: "haar".to_string(),
            orthogonal: true,
            dec_lo: vec![s, s],
            dec_hi: vec![-s, s],
            rec_lo: vec![s, s],
            rec_hi: vec![s, -s],
        }
    }

    /// A wavelet of one's own, from its filters in PyWavelets' order (a filter bank).
    ///
    /// Whether they reconstruct is not checked; `is_orthogonal` says whether synthesis is the reverse of analysis.
    ///
    /// # Errors
    /// [`Error::BadFilters`] if the four differ in length, or the length is zero or odd, or a number is not finite.
    pub fn from_filters(
        name: &str,
        dec_lo: Vec<f64>,
        dec_hi: Vec<f64>,
        rec_lo: Vec<f64>,
        rec_hi: Vec<f64>,
    ) -> Result<Self> {
        let lens = [&dec_lo, &dec_hi, &rec_lo, &rec_hi].map(Vec::len);
        let bad = |reason: String| Error::BadFilters {
            name: name.to_string(),
            reason,
        };
        if lens.iter().any(|&l| l != lens[0]) || lens[0] == 0 || lens[0] % 2 == 1 {
            return Err(bad(format!(
                "the filters have lengths {lens:?}; they must share one that is even and positive"
            )));
        }
        if let Some(v) = [&dec_lo, &dec_hi, &rec_lo, &rec_hi]
            .into_iter()
            .flatten()
            .find(|v| !v.is_finite())
        {
            return Err(bad(format!("a filter contains {v}; all must be finite")));
        }
        let orthogonal =
            dec_lo.iter().eq(rec_lo.iter().rev()) && dec_hi.iter().eq(rec_hi.iter().rev());
        Ok(Self {
            name: name.to_string(),
            orthogonal,
            dec_lo,
            dec_hi,
            rec_lo,
            rec_hi,
        })
    }

    /// The names of all known wavelets, family by family (PyWavelets' `wavelist(kind="discrete")`).
    pub fn names() -> &'static [String] {
        static NAMES: LazyLock<Vec<String>> = LazyLock::new(|| {
            let stored = || rows().map(|(name, _)| name);
            let twins = stored()
                .filter_map(|n| n.strip_prefix("bior"))
                .map(|o| format!("rbio{o}"));
            let mut names: Vec<String> = stored().map(str::to_string).chain(twins).collect();
            // db2 before db10.
            names.sort_by_cached_key(|n| {
                let (family, orders) = split(n);
                (
                    family.to_string(),
                    orders
                        .split('.')
                        .map(|o| o.parse().unwrap_or(0))
                        .collect::<Vec<u32>>(),
                )
            });
            names
        });
        &NAMES
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its family: haar, db, sym, coif, bior, rbio or dmey; of one's own filters, the letters its name begins with.
    pub fn family(&self) -> &str {
        split(&self.name).0
    }

    /// Whether PyWavelets calls it orthogonal: synthesis is the transpose of analysis (of dmey, an approximation
    /// of finite length, only to about 1e-3).
    pub fn is_orthogonal(&self) -> bool {
        self.orthogonal
    }

    /// The length of each of the four filters, always even.
    pub fn filter_len(&self) -> usize {
        self.dec_lo.len()
    }

    /// The low-pass filter of the analysis.
    pub fn dec_lo(&self) -> &[f64] {
        &self.dec_lo
    }

    /// The high-pass filter of the analysis.
    pub fn dec_hi(&self) -> &[f64] {
        &self.dec_hi
    }

    /// The low-pass filter of the synthesis.
    pub fn rec_lo(&self) -> &[f64] {
        &self.rec_lo
    }

    /// The high-pass filter of the synthesis.
    pub fn rec_hi(&self) -> &[f64] {
        &self.rec_hi
    }
}

impl FromStr for Wavelet {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        Self::new(name)
    }
}

impl fmt::Display for Wavelet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.name)
    }
}

/// The lines of the table: name and the rest.
fn rows() -> impl Iterator<Item = (&'static str, &'static str)> {
    TABLE
        .lines()
        .filter(|l| !l.starts_with('#'))
        .filter_map(|l| l.split_once(' '))
}

/// Whether orthogonal, dec_lo and rec_lo.
fn lookup(name: &str) -> Option<(bool, Vec<f64>, Vec<f64>)> {
    let (_, rest) = rows().find(|(n, _)| *n == name)?;
    let (kind, filters) = rest.split_once(' ')?;
    let numbers = |s: &str| {
        s.split_whitespace()
            .map(str::parse)
            .collect::<std::result::Result<Vec<f64>, _>>()
            .ok()
    };
    match kind {
        "orthogonal" => {
            let rec_lo = numbers(filters)?;
            Some((true, reversed(&rec_lo), rec_lo))
        }
        _ => {
            let (dec_lo, rec_lo) = filters.split_once(';')?;
            Some((false, numbers(dec_lo)?, numbers(rec_lo)?))
        }
    }
}

fn reversed(v: &[f64]) -> Vec<f64> {
    v.iter().rev().copied().collect()
}

/// `sign * (-1)^k v[k]`.
fn alternated(v: &[f64], sign: f64) -> Vec<f64> {
    v.iter()
        .enumerate()
        .map(|(k, v)| if k % 2 == 0 { sign * v } else { -sign * v })
        .collect()
}

/// The letters a name begins with, and the rest.
fn split(name: &str) -> (&str, &str) {
    let at = name
        .find(|c: char| !c.is_ascii_alphabetic())
        .unwrap_or(name.len());
    name.split_at(at)
}

/// The known names in one line: "db1 to db38" and the like; the biorthogonal ones one by one.
fn known() -> String {
    let mut parts: Vec<String> = Vec::new();
    let names = Wavelet::names();
    for family in names.chunk_by(|a, b| split(a).0 == split(b).0) {
        match family {
            [only] => parts.push(only.clone()),
            [first, .., last] if !first.contains('.') => parts.push(format!("{first} to {last}")),
            all => parts.extend(all.iter().cloned()),
        }
    }
    parts.join(", ")
}
