//! A cascade of cascaded-wavelet-diffusion, whose configuration is given: its tensors tell too little of it.

use super::given::Given;
use super::{Imported, ImportedModel};
use crate::bundle::WsgmConfig;
use crate::error::{Error, Result};
use crate::wsgm::{CascadeConfig, expected};
use checkpoints::Checkpoint;

pub(super) fn read(state: Checkpoint, mut given: Given) -> Result<Imported> {
    let fields = given.all();
    if fields.is_empty() {
        return Err(Error::Argument(format!(
            "{}: the tensors of a cascade do not tell num_channels, levels and sample; give them with --config FILE, JSON or \
             TOML with cascaded-wavelet-diffusion's names, the levels nested in place",
            state.path().display()
        )));
    }
    let config: CascadeConfig = serde_json::from_value(fields.into())
        .map_err(|e| given.bad(format!("as the configuration of a cascade: {e}")))?;
    config.check().map_err(|e| given.bad(e))?;
    state.accounts_for("the wavelet cascade", &expected(&config, &state)?)?;
    let mut notes = Vec::new();
    if config.image_size.is_none() {
        let [height, width] = config.size();
        notes.push(format!(
            "image_size is not told: pictures will have {height} x {width}; --config can say another"
        ));
    }
    Ok(Imported {
        model: ImportedModel::Wsgm(Box::new(WsgmConfig::new(config))),
        state,
        notes,
    })
}
