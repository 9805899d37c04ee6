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
        for other in earlier {
            let has = other.stages().contains(&stage);
            if has && other.run.stage_value(stage)? == mine {
                found.push((stage, out.join(&other.model.name)));
                break;
            }
        }
    }
    Ok(found)
}
