//! Where the hub and its cache are: what Python's tools and this crate agree on by the environment.

use super::error::{HubError, Result};
use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Settings of a [`Hub`](super::Hub).
#[derive(Clone)]
pub struct HubConfig {
    /// The hub's address.
    pub endpoint: String,
    /// The folder of the cache.
    pub cache: PathBuf,
    /// Sent to the hub, and to no other host.
    pub token: Option<String>,
    /// Use the cache alone.
    pub offline: bool,
    /// How often something is tried again that brought nothing.
    pub retries: u32,
    /// The wait before the first try again; it doubles with every further one.
    pub back_off: Duration,
    /// The longest wait that the hub may ask for.
    pub longest_wait: Duration,
    /// How long a connection may bring nothing.
    pub stall: Duration,
}

impl fmt::Debug for HubConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HubConfig")
            .field("endpoint", &self.endpoint)
            .field("cache", &self.cache)
            .field("token", &self.token.as_ref().map(|_| "..."))
            .field("offline", &self.offline)
            .finish_non_exhaustive()
    }
}

impl HubConfig {
    /// By HF_ENDPOINT, HF_HOME, HF_HUB_CACHE, HF_TOKEN (or the file that `hf auth login` writes) and HF_HUB_OFFLINE.
    ///
    /// # Errors
    /// An endpoint that is no address, a token that no header can hold, no home folder.
    pub fn from_env() -> Result<Self> {
        Self::from_vars(|name| std::env::var_os(name))
    }

    /// As [`HubConfig::from_env`], with variables from elsewhere.
    ///
    /// # Errors
    /// As [`HubConfig::from_env`].
    pub fn from_vars(vars: impl Fn(&str) -> Option<OsString>) -> Result<Self> {
        let get = |name: &str| vars(name).filter(|value| !value.is_empty());
        let user = get("HOME")
            .or_else(|| get("USERPROFILE"))
            .map(PathBuf::from);
        let path = |name: &str| {
            let path = PathBuf::from(get(name)?);
            match (path.strip_prefix("~"), &user) {
                (Ok(rest), Some(user)) => Some(user.join(rest)),
                _ => Some(path),
            }
        };
        let home = path("HF_HOME")
            .or_else(|| path("XDG_CACHE_HOME").map(|cache| cache.join("huggingface")))
            .or_else(|| user.as_ref().map(|user| user.join(".cache/huggingface")));
        let cache = path("HF_HUB_CACHE")
            .or_else(|| path("HUGGINGFACE_HUB_CACHE"))
            .or_else(|| home.as_ref().map(|home| home.join("hub")))
            .ok_or_else(|| HubError::Setting {
                name: "HF_HUB_CACHE",
                reason: "it is not set, and there is no HOME to put a cache into".into(),
            })?;
        let text = |name: &str| get(name).map(|v| v.to_string_lossy().trim().to_owned());
        let endpoint = text("HF_ENDPOINT").unwrap_or_else(|| "https://huggingface.co".into());
        let endpoint = endpoint.trim_end_matches('/').to_owned();
        if !endpoint.starts_with("https://") && !endpoint.starts_with("http://") {
            return Err(HubError::Setting {
                name: "HF_ENDPOINT",
                reason: format!("{endpoint:?} is no address such as https://huggingface.co"),
            });
        }
        let token_file = path("HF_TOKEN_PATH").or_else(|| home.map(|home| home.join("token")));
        let token = text("HF_TOKEN")
            .or_else(|| text("HUGGING_FACE_HUB_TOKEN"))
            .or_else(|| token_file.as_deref().and_then(read_token))
            .filter(|token| !token.is_empty());
        if token
            .as_ref()
            .is_some_and(|t| !t.bytes().all(|b| b.is_ascii_graphic()))
        {
            return Err(HubError::Setting {
                name: "HF_TOKEN",
                reason: "it has characters that no token has".into(),
            });
        }
        let offline = text("HF_HUB_OFFLINE").is_some_and(|v| {
            matches!(v.to_ascii_uppercase().as_str(), "1" | "ON" | "YES" | "TRUE")
        });
        Ok(Self {
            endpoint,
            cache,
            token,
            offline,
            retries: 5,
            back_off: Duration::from_secs(1),
            longest_wait: Duration::from_secs(300),
            stall: Duration::from_secs(30),
        })
    }
}

/// The first line of a token's file; none where there is no file.
fn read_token(path: &Path) -> Option<String> {
    let text = std::fs::read_to_string(path).ok()?;
    Some(text.lines().next().unwrap_or_default().trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(vars: &[(&str, &str)]) -> Result<HubConfig> {
        HubConfig::from_vars(|name| {
            let found = vars.iter().find(|(n, _)| *n == name);
            found.map(|(_, value)| OsString::from(value))
        })
    }

    #[test]
    fn the_cache_is_where_python_has_it() {
        for (vars, cache) in [
            (vec![], "/u/.cache/huggingface/hub"),
            (vec![("XDG_CACHE_HOME", "/x")], "/x/huggingface/hub"),
            (vec![("HF_HOME", "/h"), ("XDG_CACHE_HOME", "/x")], "/h/hub"),
            (vec![("HF_HOME", "~/h")], "/u/h/hub"),
            (vec![("HF_HUB_CACHE", "/c"), ("HF_HOME", "/h")], "/c"),
            (
                vec![("HF_HUB_CACHE", ""), ("HUGGINGFACE_HUB_CACHE", "/o")],
                "/o",
            ),
        ] {
            let vars = [vec![("HOME", "/u")], vars].concat();
            assert_eq!(config(&vars).unwrap().cache, Path::new(cache), "{vars:?}");
        }
        let error = config(&[]).unwrap_err().to_string();
        assert!(error.starts_with("HF_HUB_CACHE"), "{error}");
    }

    #[test]
    fn tokens_come_from_the_environment_or_their_file_and_are_never_shown() {
        let home = tempfile::tempdir().unwrap();
        let at = home.path().to_str().unwrap();
        assert_eq!(config(&[("HF_HOME", at)]).unwrap().token, None);
        std::fs::write(home.path().join("token"), "hf_file\n").unwrap();
        let both = config(&[("HF_HOME", at), ("HF_TOKEN", " hf_secret ")]).unwrap();
        assert_eq!(both.token.as_deref(), Some("hf_secret"));
        assert!(!format!("{both:?}").contains("secret"));
        let file = config(&[("HF_HOME", at)]).unwrap();
        assert_eq!(file.token.as_deref(), Some("hf_file"));
        assert!(config(&[("HF_HOME", at), ("HF_TOKEN", "a\nb")]).is_err());
    }

    #[test]
    fn switches_and_addresses() {
        let with = |name, value| config(&[("HOME", "/u"), (name, value)]);
        for (value, offline) in [("1", true), ("true", true), ("0", false), ("", false)] {
            assert_eq!(with("HF_HUB_OFFLINE", value).unwrap().offline, offline);
        }
        assert_eq!(
            with("HF_ENDPOINT", "http://a:1/").unwrap().endpoint,
            "http://a:1"
        );
        assert!(with("HF_ENDPOINT", "huggingface.co").is_err());
    }
}
