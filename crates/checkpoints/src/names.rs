//! Families of networks by the names of their tensors, and the names that one family has had over the years.
//!
//! Pure names: nothing here knows what a network computes.

use crate::checkpoint::Checkpoint;
use crate::error::{Error, Result, shown};

/// A family of networks with names of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Family {
    /// improved-diffusion's U-Net: `input_blocks.0.0.weight`.
    ImprovedDiffusion,
    /// The networks of score_sde: `all_modules.0...`.
    ScoreSde,
    /// diffusers' `UNet2DModel`: `down_blocks.0...`.
    Diffusers,
    /// The official WMGM generator: `Conv1.block...`.
    OfficialGenerator,
    /// The official WMGM discriminator: `initial_block...`.
    OfficialDiscriminator,
    /// A cascade of cascaded-wavelet-diffusion: `wds.0.dnd...`.
    Cascade,
}

impl Family {
    /// All families.
    pub const ALL: [Self; 6] = [
        Self::ImprovedDiffusion,
        Self::ScoreSde,
        Self::Diffusers,
        Self::OfficialGenerator,
        Self::OfficialDiscriminator,
        Self::Cascade,
    ];

    /// Its name in words.
    pub fn name(self) -> &'static str {
        match self {
            Self::ImprovedDiffusion => "improved-diffusion's U-Net",
            Self::ScoreSde => "a network of score_sde",
            Self::Diffusers => "diffusers' UNet2DModel",
            Self::OfficialGenerator => "the official WMGM generator",
            Self::OfficialDiscriminator => "the official WMGM discriminator",
            Self::Cascade => "a cascade of cascaded-wavelet-diffusion",
        }
    }

    /// Names that begin with each of these are in every network of the family, and in none of another.
    fn marks(self) -> &'static [&'static str] {
        match self {
            Self::ImprovedDiffusion => &["time_embed.", "input_blocks.", "middle_block.", "out."],
            Self::ScoreSde => &["all_modules."],
            Self::Diffusers => &["conv_in.", "time_embedding.", "down_blocks.", "conv_out."],
            Self::OfficialGenerator => &["Conv1.block.", "Att2.W_g.", "last_conv2."],
            Self::OfficialDiscriminator => &["initial_block.", "conv_path.", "fc."],
            Self::Cascade => &["wds.0.transform.", "wds.0.dnd."],
        }
    }

    /// The family of a network's tensors, which have their own names: see [`Checkpoint::state_dict`].
    ///
    /// # Errors
    /// Names of no family; the message has their first parts.
    pub fn of(state: &Checkpoint) -> Result<Self> {
        let has = |mark: &&str| state.names().any(|name| name.starts_with(*mark));
        let found = Self::ALL
            .into_iter()
            .find(|family| family.marks().iter().all(has));
        found.ok_or_else(|| {
            let known: Vec<&str> = Self::ALL.into_iter().map(Self::name).collect();
            Error::file(
                state.path(),
                format!(
                    "its {} tensors, whose names begin with {}, are no network known here; known are {}",
                    state.len(),
                    state.beginnings(),
                    known.join(", ")
                ),
            )
        })
    }
}

/// diffusers' attention before and after it was renamed in early 2023. The tensors are the same.
const ATTENTION: [(&str, &str); 4] = [
    ("query", "to_q"),
    ("key", "to_k"),
    ("value", "to_v"),
    ("proj_attn", "to_out.0"),
];

/// Today's name of a tensor of diffusers.
///
/// ```
/// use checkpoints::names::diffusers_today;
/// assert_eq!(diffusers_today("mid_block.attentions.0.query.weight"), "mid_block.attentions.0.to_q.weight");
/// assert_eq!(diffusers_today("conv_in.weight"), "conv_in.weight");
/// ```
pub fn diffusers_today(name: &str) -> String {
    let parts: Vec<&str> = name.split('.').collect();
    let attention = parts.contains(&"attentions");
    let renamed = |part: &str| ATTENTION.iter().find(|(old, _)| *old == part);
    match parts.as_slice() {
        [front @ .., part, last] if attention => match renamed(part) {
            Some((_, new)) => format!("{}.{new}.{last}", front.join(".")),
            None => name.to_owned(),
        },
        _ => name.to_owned(),
    }
}

/// Whether it counts the batches that a normalisation has seen, which no output depends on.
pub fn is_counter(name: &str) -> bool {
    name.rsplit('.').next() == Some("num_batches_tracked")
}

/// A few names for a message.
pub fn some_of<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    const MOST: usize = 12;
    let names: Vec<String> = names.into_iter().map(shown).collect();
    match names.len().checked_sub(MOST) {
        None | Some(0) => names.join(", "),
        Some(more) => format!("{} and {more} others", names[..MOST].join(", ")),
    }
}

impl Checkpoint {
    /// The same tensors under other names.
    ///
    /// # Errors
    /// Two tensors of one name.
    pub fn renamed(&self, name: impl Fn(&str) -> String) -> Result<Self> {
        self.with(self.iter().map(|(n, t)| (name(n), t.clone())).collect())
    }

    /// The tensors whose names fit.
    ///
    /// # Errors
    /// None today.
    pub fn filtered(&self, keep: impl Fn(&str) -> bool) -> Result<Self> {
        let kept = self.iter().filter(|(n, _)| keep(n));
        self.with(kept.map(|(n, t)| (n.to_owned(), t.clone())).collect())
    }

    /// Errs unless the tensors are exactly those wanted, by name and shape; all that are missing, left over or of
    /// another shape are told. `network` is for the message.
    ///
    /// # Errors
    /// As said.
    pub fn accounts_for(&self, network: &str, wanted: &[(String, Vec<usize>)]) -> Result<()> {
        let (extra, missing) = crate::difference(self, wanted.iter().map(|(n, _)| n.as_str()));
        let misshapen: Vec<String> = wanted
            .iter()
            .filter_map(|(name, shape)| {
                let found = self.get(name)?.shape();
                (found != shape).then(|| format!("{} {found:?} for {shape:?}", shown(name)))
            })
            .collect();
        let list = |what: &str, names: &[&str]| match names.len() {
            0 => String::new(),
            n => format!("; {n} {what}: {}", some_of(names.iter().copied())),
        };
        let misshapen: Vec<&str> = misshapen.iter().map(String::as_str).collect();
        let faults = [
            list("missing", &missing),
            list("belong to no layer", &extra),
            list("of another shape", &misshapen),
        ]
        .concat();
        match faults.is_empty() {
            true => Ok(()),
            false => Err(Error::file(
                self.path(),
                format!("its tensors are not those of {network} of this configuration{faults}"),
            )),
        }
    }
}

/// Where a tensor of improved-diffusion's U-Net goes in diffusers' `UNet2DModel`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// To this name.
    One(String),
    /// Queries, keys and values of all heads together: to be taken apart, to these names.
    Three([String; 3]),
}

/// The name in diffusers of a tensor of improved-diffusion's U-Net with so many blocks a level; `None` for a name that is
/// not of that network.
///
/// ```
/// use checkpoints::names::{Place, improved_to_diffusers};
/// let place = |name| improved_to_diffusers(name, 2);
/// let one = |name: &str| Some(Place::One(name.into()));
/// assert_eq!(place("input_blocks.3.0.op.bias"), one("down_blocks.0.downsamplers.0.conv.bias"));
/// assert_eq!(place("output_blocks.5.0.in_layers.2.weight"), one("up_blocks.1.resnets.2.conv1.weight"));
/// assert_eq!(place("input_blocks.x"), None);
/// ```
pub fn improved_to_diffusers(name: &str, blocks: usize) -> Option<Place> {
    let one = |name: String| Some(Place::One(name));
    let (front, leaf) = name.rsplit_once('.')?;
    let whole = match front {
        "time_embed.0" => Some("time_embedding.linear_1"),
        "time_embed.2" => Some("time_embedding.linear_2"),
        "label_emb" => Some("class_embedding"),
        "input_blocks.0.0" => Some("conv_in"),
        "out.0" => Some("conv_norm_out"),
        "out.2" => Some("conv_out"),
        _ => None,
    };
    if let Some(whole) = whole {
        return one(format!("{whole}.{leaf}"));
    }
    let (part, rest) = front.split_once('.')?;
    let (index, rest) = rest.split_once('.')?;
    let index: usize = index.parse().ok()?;
    let each = blocks.checked_add(1)?;
    // Level and place in it; `below` is what follows the block's number.
    let (level, at, below) = match part {
        "input_blocks" => {
            let i = index.checked_sub(1)?;
            (format!("down_blocks.{}", i / each), i % each, rest)
        }
        "output_blocks" => (format!("up_blocks.{}", index / each), index % each, rest),
        "middle_block" => {
            let attention = index == 1;
            let inner = match attention {
                true => attention_place("mid_block.attentions.0", rest, leaf),
                false => Some(Place::One(format!(
                    "mid_block.resnets.{}.{}.{leaf}",
                    index / 2,
                    residual(rest)?
                ))),
            };
            return inner;
        }
        _ => return None,
    };
    let (place, inner) = below.split_once('.')?;
    match (place, inner) {
        (_, "op") => one(format!("{level}.downsamplers.0.conv.{leaf}")),
        (_, "conv") => one(format!("{level}.upsamplers.0.conv.{leaf}")),
        ("0", inner) => one(format!("{level}.resnets.{at}.{}.{leaf}", residual(inner)?)),
        ("1", inner) => attention_place(&format!("{level}.attentions.{at}"), inner, leaf),
        _ => None,
    }
}

/// The layers of a residual block.
fn residual(name: &str) -> Option<&'static str> {
    Some(match name {
        "in_layers.0" => "norm1",
        "in_layers.2" => "conv1",
        "emb_layers.1" => "time_emb_proj",
        "out_layers.0" => "norm2",
        "out_layers.3" => "conv2",
        "skip_connection" => "conv_shortcut",
        _ => return None,
    })
}

/// The layers of attention.
fn attention_place(to: &str, name: &str, leaf: &str) -> Option<Place> {
    match name {
        "norm" => Some(Place::One(format!("{to}.group_norm.{leaf}"))),
        "proj_out" => Some(Place::One(format!("{to}.to_out.0.{leaf}"))),
        "qkv" => Some(Place::Three(
            ["to_q", "to_k", "to_v"].map(|part| format!("{to}.{part}.{leaf}")),
        )),
        _ => None,
    }
}
