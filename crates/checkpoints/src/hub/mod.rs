//! Models from the Hugging Face hub, in the cache that Python's tools share.
//!
//! A file is downloaded beside its place, resumed where it stopped, and moved there only when its size and hash are what
//! the hub announced. Several processes may download at once. Nothing is downloaded unless [`Hub::fetch`] is called.

mod cache;
mod config;
mod download;
mod error;
mod http;
mod listing;
mod manifest;
mod progress;
mod repo;
mod select;

pub use config::HubConfig;
pub use error::{HubError, Result};
pub use listing::{Listing, RemoteFile};
pub use manifest::{Entry, Manifest, Place};
pub use progress::{Event, Progress};
pub use repo::RepoId;
pub use select::select;

use cache::RepoCache;
use download::{Expected, Partial};
use http::{Failure, Http, Purpose, Tried};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// The hub and its cache.
#[derive(Debug, Clone)]
pub struct Hub {
    config: HubConfig,
    http: Http,
}

/// A model's files at one commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// The folder that holds them.
    pub folder: PathBuf,
    /// The commit's hash.
    pub commit: String,
    /// Their names in the folder.
    pub files: Vec<String>,
}

/// A file that someone knows the hash of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// Its name in the repository.
    pub name: String,
    /// Its SHA-256, in lower-case hexadecimal digits.
    pub sha256: String,
}

impl Hub {
    /// A hub with these settings.
    ///
    /// # Errors
    /// An endpoint that is no address.
    pub fn new(config: HubConfig) -> Result<Self> {
        let http = Http::new(&config)?;
        Ok(Self { config, http })
    }

    /// The hub that the environment names.
    ///
    /// # Errors
    /// As [`HubConfig::from_env`].
    pub fn from_env() -> Result<Self> {
        Self::new(HubConfig::from_env()?)
    }

    /// The settings.
    pub fn config(&self) -> &HubConfig {
        &self.config
    }

    /// What the cache has of a model, without asking anyone.
    pub fn cached(&self, repo: &RepoId) -> Option<Snapshot> {
        let cache = RepoCache::new(&self.config.cache, repo);
        let commit = cache.commit(repo.revision())?;
        let files = cache.files(&commit);
        (!files.is_empty()).then(|| Snapshot {
            folder: cache.snapshot(&commit),
            commit,
            files,
        })
    }

    /// The files of a repository.
    ///
    /// # Errors
    /// No network, no such repository or revision, no access.
    pub fn list(&self, repo: &RepoId, progress: &dyn Progress) -> Result<Listing> {
        if self.config.offline {
            return Err(self.offline(format!("the listing of {repo}")));
        }
        self.tries(&repo.to_string(), progress, |_| {
            listing::list(&self.http, &self.config.endpoint, repo)
        })
    }

    /// Downloads the files of a model that the cache has not: those of these names, or if there are none those that
    /// [`select`] picks. A file that `known` tells the hash of must have it, whatever the hub says.
    ///
    /// With HF_HUB_OFFLINE it takes what the cache has, as it is.
    ///
    /// # Errors
    /// What [`HubError`] tells. Files that were whole before stay.
    pub fn fetch(
        &self,
        repo: &RepoId,
        names: &[String],
        known: &[Known],
        progress: &dyn Progress,
    ) -> Result<Snapshot> {
        if self.config.offline {
            return self.offline_snapshot(repo, names);
        }
        let listing = self.list(repo, progress)?;
        let names = match names {
            [] => select(listing.files.iter().map(|f| f.name.as_str())),
            names => names.to_vec(),
        };
        if names.is_empty() {
            return Err(HubError::File {
                repo: repo.to_string(),
                file: "of weights".into(),
                known: crate::names::some_of(listing.files.iter().map(|f| f.name.as_str())),
            });
        }
        let files = listing.named(&names, repo)?;
        progress.event(Event::Listed {
            files: files.len(),
            bytes: files.iter().filter_map(|f| f.size).sum(),
        });
        let cache = RepoCache::new(&self.config.cache, repo);
        cache.prepare()?;
        for file in &files {
            let known = known.iter().find(|k| k.name == file.name);
            self.fetch_file(repo, &cache, &listing.commit, file, known, progress)?;
        }
        // Last, so that a revision never leads to a commit that nothing came of.
        cache.set_commit(repo.revision(), &listing.commit)?;
        Ok(Snapshot {
            folder: cache.snapshot(&listing.commit),
            commit: listing.commit,
            files: names,
        })
    }

    fn offline_snapshot(&self, repo: &RepoId, names: &[String]) -> Result<Snapshot> {
        let missing = |what: &str| self.offline(format!("{what} of {repo}"));
        let snapshot = self.cached(repo).ok_or_else(|| missing("any file"))?;
        let files = match names {
            [] => select(snapshot.files.iter().map(String::as_str)),
            names => names.to_vec(),
        };
        if files.is_empty() {
            return Err(missing("a file of weights"));
        }
        match files.iter().find(|name| !snapshot.files.contains(name)) {
            Some(name) => Err(missing(name)),
            None => Ok(Snapshot { files, ..snapshot }),
        }
    }

    fn offline(&self, what: String) -> HubError {
        HubError::Offline {
            what,
            cache: self.config.cache.clone(),
        }
    }

    fn fetch_file(
        &self,
        repo: &RepoId,
        cache: &RepoCache,
        commit: &str,
        file: &RemoteFile,
        known: Option<&Known>,
        progress: &dyn Progress,
    ) -> Result<()> {
        let name = file.name.as_str();
        let url = listing::address(&self.config.endpoint, repo, commit, name);
        let (size, etag) = match (file.size, &file.etag) {
            (Some(size), Some(etag)) => (size, etag.clone()),
            _ => self.tries(name, progress, |_| {
                listing::look_up(&self.http, &url, repo, name)
            })?,
        };
        if let Some(known) = known
            && listing::kind(&etag) == listing::Kind::Sha256
            && etag != known.sha256
        {
            return Err(HubError::Wrong {
                file: name.into(),
                what: "SHA-256 at the hub",
                got: etag,
                want: known.sha256.clone(),
            });
        }
        let expected = Expected {
            name: name.into(),
            size,
            etag,
            sha256: known.map(|known| known.sha256.clone()),
        };
        let _lock = cache.lock(&expected.etag, name, progress)?;
        let blob = cache.blob(&expected.etag);
        let there = std::fs::metadata(&blob).is_ok_and(|meta| meta.is_file() && meta.len() == size);
        if there {
            expected.check(&blob, progress)?;
            progress.event(Event::Cached { file: name });
        } else {
            self.download(repo, cache, &url, &expected, progress)?;
            progress.event(Event::Done { file: name });
        }
        cache.link(commit, name, &expected.etag)?;
        Ok(())
    }

    fn download(
        &self,
        repo: &RepoId,
        cache: &RepoCache,
        url: &str,
        expected: &Expected,
        progress: &dyn Progress,
    ) -> Result<()> {
        let name = expected.name.as_str();
        let mut partial = Partial::open(expected, cache)?;
        partial.check_space()?;
        progress.event(Event::Started {
            file: name,
            have: partial.done(),
            size: expected.size,
        });
        let purpose = Purpose {
            repo,
            file: Some(name),
        };
        // What begins anew brings nothing until it is further than it was: a server may fall back again and again.
        let mut furthest = partial.done();
        loop {
            self.tries(name, progress, |advanced| {
                if partial.is_whole() {
                    return Ok(());
                }
                let answer = self.http.get(url, partial.done(), purpose)?;
                let received = partial.receive(answer, progress);
                *advanced = partial.done() > furthest;
                furthest = furthest.max(partial.done());
                received
            })?;
            if partial.is_whole() {
                if partial.finish(&cache.blob(&expected.etag))? {
                    return Ok(());
                }
                furthest = 0; // what an earlier run left was wrong, which happens once
            }
        }
    }

    /// Tries until it succeeds, fails for good, or has brought nothing too often. `once` says whether it brought
    /// something.
    fn tries<T>(
        &self,
        what: &str,
        progress: &dyn Progress,
        mut once: impl FnMut(&mut bool) -> Tried<T>,
    ) -> Result<T> {
        let mut failed = 0;
        loop {
            if progress.stop() {
                return Err(HubError::Cancelled);
            }
            let mut advanced = false;
            let (reason, asked) = match once(&mut advanced) {
                Ok(value) => return Ok(value),
                Err(Failure::Final(error)) => return Err(error),
                Err(Failure::Passing(reason, asked)) => (reason, asked),
            };
            failed = if advanced { 0 } else { failed + 1 };
            if failed > self.config.retries || asked.is_some_and(|w| w > self.config.longest_wait) {
                return Err(reason);
            }
            let own = self.config.back_off * 2u32.saturating_pow(failed.saturating_sub(1).min(6));
            let wait = asked.unwrap_or(own).max(own);
            progress.event(Event::Retrying {
                what,
                wait,
                reason: &reason,
            });
            pause(wait, progress)?;
        }
    }
}

/// Waits, but not for someone who has gone.
fn pause(wait: Duration, progress: &dyn Progress) -> Result<()> {
    let until = Instant::now() + wait;
    loop {
        if progress.stop() {
            return Err(HubError::Cancelled);
        }
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        std::thread::sleep(left.min(Duration::from_millis(50)));
    }
}
