//! The architecture's configuration.

use crate::blocks::{MAX_WIDTH, check_count, shapes_of, within};
use crate::error::{Error, Result};
use serde::{Deserialize, Deserializer, Serialize};

/// The architecture, in improved-diffusion's terms.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UNetConfig {
    /// Channels of the input picture.
    pub in_channels: usize,
    /// Width of the first level; a multiple of 32.
    pub model_channels: usize,
    /// Channels of the output: twice the input's where variances are learned.
    pub out_channels: usize,
    /// Residual blocks per level.
    pub num_res_blocks: usize,
    /// Downsampling factors at which attention follows each residual block (2 = at half size).
    pub attention_resolutions: Vec<usize>,
    /// Width of each level as a multiple of `model_channels`; each level after the first has half the size.
    pub channel_mult: Vec<usize>,
    /// Heads of every attention.
    pub num_heads: usize,
    /// Heads on the way up, if not the same (improved-diffusion's -1, which is also read).
    #[serde(
        default,
        deserialize_with = "heads_or_same",
        skip_serializing_if = "Option::is_none"
    )]
    pub num_heads_upsample: Option<usize>,
    /// Let the noise level scale and shift the second normalisation, instead of adding it before.
    #[serde(default = "yes")]
    pub use_scale_shift_norm: bool,
    /// Resample with convolutions.
    #[serde(default)]
    pub conv_resample: bool,
    /// Number of classes, for a network conditioned on a label.
    #[serde(default)]
    pub num_classes: Option<usize>,
    /// Dropout in every residual block while training.
    #[serde(default)]
    pub dropout: f64,
}

fn yes() -> bool {
    true
}

/// -1 means the same as on the way down.
fn heads_or_same<'de, D: Deserializer<'de>>(d: D) -> std::result::Result<Option<usize>, D::Error> {
    match Option::<i64>::deserialize(d)? {
        None | Some(-1) => Ok(None),
        Some(n) => usize::try_from(n).map(Some).map_err(|_| {
            serde::de::Error::custom(format!(
                "num_heads_upsample is {n}, it must be at least 1, or -1 for num_heads"
            ))
        }),
    }
}

/// Who refuses a configuration.
const NETWORK: &str = "UNet";

impl UNetConfig {
    /// Whether a network can be built of it; [`UNet::new`](crate::UNet::new) checks this too.
    ///
    /// # Errors
    /// The first field out of range, heads that do not divide a width, or too many parameters.
    pub fn check(&self) -> Result<()> {
        self.tensors().map(|_| ())
    }

    /// Names and shapes of the tensors that the network needs, without building it.
    ///
    /// # Errors
    /// As [`UNetConfig::check`].
    pub fn tensors(&self) -> Result<Vec<(String, Vec<usize>)>> {
        self.check_fields()?;
        let tensors = shapes_of(|vb| super::UNet::build(self.clone(), vb))?;
        check_count(NETWORK, &tensors)?;
        Ok(tensors)
    }

    /// Multiply-adds of one evaluation for one picture of `size` (H, W), without building the network in memory; see
    /// [`UNet::multiply_adds`](crate::UNet::multiply_adds).
    ///
    /// # Errors
    /// As [`UNetConfig::check`], and a side that the levels cannot halve.
    pub fn multiply_adds(&self, size: [usize; 2]) -> Result<u64> {
        self.check_fields()?;
        let mut count = 0;
        shapes_of(|vb| {
            count = super::UNet::build(self.clone(), vb)?.multiply_adds(size)?;
            Ok::<_, candle_core::Error>(())
        })?;
        Ok(count)
    }

    fn check_fields(&self) -> Result<()> {
        let bad = |field, value: String, need: String| {
            Err(Error::Config {
                network: NETWORK,
                field,
                value,
                need,
            })
        };
        let base = self.model_channels;
        if !base.is_multiple_of(32) {
            let need = "a multiple of 32 (the groups of its normalisations)";
            return bad("model_channels", base.to_string(), need.into());
        }
        within(NETWORK, "model_channels", base, 32..=MAX_WIDTH)?;
        let levels = self.channel_mult.len();
        within(NETWORK, "channel_mult's length", levels, 1..=12)?;
        for &mult in &self.channel_mult {
            within(NETWORK, "channel_mult", mult, 1..=MAX_WIDTH)?;
            let width = mult * base;
            within(
                NETWORK,
                "model_channels times channel_mult",
                width,
                1..=MAX_WIDTH,
            )?;
        }
        within(NETWORK, "num_res_blocks", self.num_res_blocks, 1..=64)?;
        within(NETWORK, "in_channels", self.in_channels, 1..=MAX_WIDTH)?;
        within(NETWORK, "out_channels", self.out_channels, 1..=MAX_WIDTH)?;
        if let Some(classes) = self.num_classes {
            within(NETWORK, "num_classes", classes, 1..=1 << 24)?;
        }
        let up = self.num_heads_upsample.unwrap_or(self.num_heads);
        let heads = [("num_heads", self.num_heads), ("num_heads_upsample", up)];
        for (field, heads) in heads {
            within(NETWORK, field, heads, 1..=MAX_WIDTH)?;
        }
        // Attention always stands in the middle, at the last width, and after the blocks of the factors named.
        let attends = |level: usize| {
            level + 1 == levels || self.attention_resolutions.contains(&(1 << level))
        };
        let attended = self.channel_mult.iter().enumerate();
        for (_, mult) in attended.filter(|(level, _)| attends(*level)) {
            let width = mult * base;
            for (field, heads) in heads {
                if !width.is_multiple_of(heads) {
                    let need = format!(
                        "a divisor of each width with attention: {heads} heads do not divide the width {width}"
                    );
                    return bad(field, heads.to_string(), need);
                }
            }
        }
        match (0.0..1.0).contains(&self.dropout) {
            true => Ok(()),
            false => bad("dropout", self.dropout.to_string(), "in [0, 1)".into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> UNetConfig {
        serde_json::from_str(
            r#"{"in_channels": 3, "model_channels": 32, "out_channels": 3, "num_res_blocks": 1,
                "attention_resolutions": [2], "channel_mult": [1, 2], "num_heads": 2, "num_heads_upsample": -1}"#,
        )
        .unwrap()
    }

    type Change<'a> = &'a dyn Fn(&mut UNetConfig);

    #[test]
    fn hostile_sizes_are_named_and_not_built() {
        let huge = usize::MAX - 31;
        let with = |change: Change| {
            let mut config = config();
            change(&mut config);
            let e = config.check().unwrap_err();
            assert!(
                matches!(
                    e,
                    Error::Config {
                        network: "UNet",
                        ..
                    }
                ),
                "{e}"
            );
            e.to_string()
        };
        let cases: [(&str, Change); 13] = [
            ("model_channels is 48, it must be a multiple of 32", &|c| {
                c.model_channels = 48
            }),
            ("model_channels is", &|c| c.model_channels = huge),
            ("model_channels is 0", &|c| c.model_channels = 0),
            ("channel_mult's length is 0", &|c| c.channel_mult.clear()),
            ("channel_mult's length is 70", &|c| {
                c.channel_mult = vec![1; 70]
            }),
            ("channel_mult is", &|c| c.channel_mult = vec![1, huge]),
            ("model_channels times channel_mult", &|c| {
                c.channel_mult = vec![2048]
            }),
            ("number of parameters", &|c| c.channel_mult = vec![1000; 12]),
            ("num_res_blocks is", &|c| c.num_res_blocks = huge),
            ("in_channels is 0", &|c| c.in_channels = 0),
            ("num_classes is", &|c| c.num_classes = Some(huge)),
            ("num_heads_upsample is 0", &|c| {
                c.num_heads_upsample = Some(0)
            }),
            ("3 heads do not divide the width 64", &|c| c.num_heads = 3),
        ];
        for (words, change) in cases {
            let message = with(change);
            assert!(message.contains(words), "{words}: {message}");
        }
    }

    /// Every layer of the network above at 8 x 8, written out.
    #[test]
    fn multiply_adds_by_hand() {
        let res = |ci: u64, co: u64, p: u64| {
            let skip = if ci == co { 0 } else { ci * co * p };
            9 * ci * co * p + 9 * co * co * p + 128 * 2 * co + skip
        };
        let attention = |c: u64, p: u64| 3 * c * c * p + 2 * c * p * p + c * c * p;
        let by_hand = 32 * 128 + 128 * 128 // time
            + 9 * 3 * 32 * 64 // first
            + res(32, 32, 64)
            + res(32, 64, 16) + attention(64, 16)
            + res(64, 64, 16) + attention(64, 16) + res(64, 64, 16) // middle
            + res(128, 64, 16) + attention(64, 16) + res(96, 64, 16) + attention(64, 16)
            + res(96, 32, 64) + res(64, 32, 64)
            + 9 * 32 * 3 * 64; // last
        assert_eq!(config().multiply_adds([8, 8]).unwrap(), by_hand);
        // A convolution between the sizes each way.
        let mut resampled = config();
        resampled.conv_resample = true;
        let more = 9 * 32 * 32 * 16 + 9 * 64 * 64 * 64;
        assert_eq!(resampled.multiply_adds([8, 8]).unwrap(), by_hand + more);
        assert!(config().multiply_adds([8, 7]).is_err());
    }

    #[test]
    fn tensors_are_those_that_the_network_asks_for() {
        let config = config();
        let params = nn_ops::Params::new(0);
        crate::UNet::new(config.clone(), params.builder(&candle_core::Device::Cpu)).unwrap();
        let mut got = config.tensors().unwrap();
        got.sort();
        let want = params.tensors();
        assert_eq!(got.len(), want.len());
        for (name, shape) in got {
            assert_eq!(want[&name].dims(), shape, "{name}");
        }
    }
}
