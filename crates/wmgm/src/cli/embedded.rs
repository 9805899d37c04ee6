//! The model inside the program.

use candle_core::Device;
use std::path::Path;
use wmgm::bundle::Bundle;
#[cfg(feature = "embedded")]
use wmgm::bundle::BundleBytes;
use wmgm::error::Result;

#[cfg(feature = "embedded")]
macro_rules! asset {
    ($name:literal) => {
        include_bytes!(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../../assets/model/",
            $name
        ))
    };
}

#[cfg(feature = "embedded")]
const BYTES: BundleBytes<'static> = BundleBytes {
    config: asset!("config.json"),
    score: asset!("score.safetensors"),
    generator: asset!("generator.safetensors"),
};

/// The bundle in a folder, or the one in the program.
pub fn bundle(folder: Option<&Path>, device: &Device) -> Result<Bundle> {
    match folder {
        Some(folder) => Bundle::read(folder, device),
        None => embedded(device),
    }
}

#[cfg(feature = "embedded")]
fn embedded(device: &Device) -> Result<Bundle> {
    Bundle::from_bytes(BYTES, Path::new("(embedded)"), device)
}

#[cfg(not(feature = "embedded"))]
fn embedded(_: &Device) -> Result<Bundle> {
    Err(wmgm::Error::Argument(
        "this program was built without a model inside; name one with --model".into(),
    ))
}

/// The program's version, and the licence of what it carries.
pub fn version() -> String {
    let version = env!("CARGO_PKG_VERSION");
    #[cfg(feature = "embedded")]
    if let Ok(config) = serde_json::from_slice::<wmgm::bundle::BundleConfig>(BYTES.config) {
        return format!(
            "{version}\ncode: MIT OR Apache-2.0\nembedded weights: {}, {}. {}",
            config.name, config.licence, config.attribution
        );
    }
    format!("{version}\ncode: MIT OR Apache-2.0\nno embedded weights")
}
