//! Whether pictures of a batch share what adapts to them.

use serde::{Deserialize, Serialize};

/// Whose norms a step size follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Coupling {
    /// Each picture's own: a picture does not depend on its batch.
    #[default]
    PerPicture,
    /// Those of the whole batch, as in score_sde: a picture depends on its company.
    Batch,
}
