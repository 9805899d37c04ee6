//! Stages that two models of a comparison train alike are trained once.

use super::config::Planned;
use crate::error::Result;
use std::path::{Path, PathBuf};

/// For each stage of `plan` that an earlier model trains to the last digit the same, the folder of that model's run. Training
/// is deterministic, so that a copy of a checkpoint is what training again would make.
pub(super) fn finished(
    plan: &Planned,
    earlier: &[Planned],
    out: &Path,
) -> Result<Vec<(&'static str, PathBuf)>> {
    let mut found = Vec::new();
    for stage in plan.stages() {
        let mine = plan.run.stage_value(stage)?;
        let same = |other: &&Planned| other.run.stage_value(stage).is_ok_and(|v| v == mine);
        if let Some(other) = earlier.iter().find(same) {
            found.push((stage, out.join(&other.model.name)));
        }
    }
    Ok(found)
}
