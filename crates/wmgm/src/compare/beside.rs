//! Models of other comparisons, told beside one's own.

use super::config::is_name;
use super::report::{Made, Results, Summary, Timings};
use super::{CompareConfig, Measure};
use crate::data::PictureSet;
use crate::error::{Error, Result};
use crate::files::read_json;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// A report of a hundred models is well below this.
const LARGEST: u64 = 64 << 20;

/// A `results.json`, and the `timings.json` in its folder.
pub(super) struct Other<'a> {
    path: &'a Path,
    results: Results,
    timings: Option<Timings>,
}

/// Reads these `results.json`.
///
/// # Errors
/// Files that are none; named.
pub(super) fn read(paths: &[PathBuf]) -> Result<Vec<Other<'_>>> {
    let other = |path| {
        let results = read_json(path, LARGEST)?;
        // Beside a results.json it may be missing; one that is there and broken is an error.
        let path_of_timings = path.with_file_name("timings.json");
        let timings = match path_of_timings.exists() {
            true => Some(read_json(&path_of_timings, LARGEST)?),
            false => None,
        };
        Ok(Other {
            path,
            results,
            timings,
        })
    };
    paths.iter().map(PathBuf::as_path).map(other).collect()
}

/// Their models.
///
/// # Errors
/// Results of other pictures, numbers of pictures or measures, or with a model of a name that is taken; all named.
pub(super) fn models(
    others: Vec<Other<'_>>,
    config: &CompareConfig,
    set: &PictureSet,
    measures: &[Box<dyn Measure>],
) -> Result<Vec<Made>> {
    let mut names: BTreeSet<String> = config.models.iter().map(|m| m.name.clone()).collect();
    let identities: Vec<String> = measures.iter().map(|m| m.identity()).collect();
    let measures: Vec<String> = measures.iter().flat_map(|m| m.names()).collect();
    let mut made = Vec::new();
    for Other {
        path,
        results,
        timings,
    } in others
    {
        let bad = |reason: String| Error::Config {
            path: path.into(),
            reason,
        };
        let fingerprint = format!("{:016x}", set.fingerprint());
        if (results.reference, &results.fingerprint) != (set.len(), &fingerprint) {
            return Err(bad(format!(
                "these results are of {} training pictures with the fingerprint {}, here are {} with {fingerprint}; only \
                 models of the same pictures can stand side by side",
                results.reference,
                results.fingerprint,
                set.len()
            )));
        }
        if results.pictures != config.pictures {
            return Err(bad(format!(
                "these results are of {} pictures at every point, here are {}: distances of unequal numbers cannot be compared",
                results.pictures, config.pictures
            )));
        }
        if results.identities != identities {
            return Err(bad(format!(
                "these results were measured by {:?}, here by {identities:?}; compare with the same features and weights",
                results.identities
            )));
        }
        if let (Some(theirs), Some(mine)) = (results.headline, config.headline)
            && theirs != mine
        {
            return Err(bad(format!(
                "its headlines are of {theirs} pictures, here they are of {mine}: distances of unequal numbers cannot be compared"
            )));
        }
        for mut entry in results.models {
            // Without a headline here there is no table for theirs.
            entry.headline = entry.headline.filter(|_| config.headline.is_some());
            let name = entry.name.clone();
            if !is_name(&name) || !names.insert(name.clone()) {
                return Err(bad(format!(
                    "it has a model {name:?}, which is no name or is that of another model here; give one another name"
                )));
            }
            let points = entry.points.iter().chain(&entry.headline);
            if let Some(reason) = points.filter_map(|s| fault(s, &measures)).next() {
                return Err(bad(format!("the model {name}: {reason}")));
            }
            let rows = timings.iter().flat_map(|t| &t.points);
            made.push(Made {
                seconds: timings.iter().find_map(|t| t.training.get(&name).copied()),
                timings: rows
                    .filter(|row| row.model == name && row.timing.seconds > 0.0)
                    .cloned()
                    .collect(),
                sheet: Vec::new(),
                seeds: results.seeds.clone(),
                entry,
            });
        }
    }
    Ok(made)
}

/// What keeps a point from being drawn and told.
fn fault(point: &Summary, measures: &[String]) -> Option<String> {
    if point.sampler.len() > 64 {
        return Some("a sampler has a name of more than 64 letters".into());
    }
    let at = format!("{} at {} passes", point.sampler, point.allowed);
    if point.cost.passes == 0 || point.cost.multiply_adds == 0 {
        return Some(format!("{at} costs nothing"));
    }
    let missing = |measure: &&String| point.distances.get(*measure).is_none_or(Vec::is_empty);
    let measure = measures.iter().find(missing)?;
    Some(format!(
        "{at} has no {measure}; compare with the features that these results have"
    ))
}
