//! Which files a repository has, and what each will be.

use super::error::{HubError, Result};
use super::http::{self, Failure, Http, Purpose, Tried};
use super::repo::{RepoId, encoded, is_commit, is_hex, is_plain_path};
use crate::names::some_of;
use serde::Deserialize;

/// The longest listing.
const MAX_LISTING: u64 = 32 << 20;

/// A file at the hub.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteFile {
    /// Its name, with folders.
    pub name: String,
    /// Its bytes, if the listing says.
    pub size: Option<u64>,
    /// The name of its blob, if the listing says: SHA-256 for large files, git's hash for small ones.
    pub etag: Option<String>,
}

/// A repository at one commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing {
    /// The commit's hash.
    pub commit: String,
    /// All its files.
    pub files: Vec<RemoteFile>,
}

#[derive(Deserialize)]
struct Info {
    sha: String,
    #[serde(default)]
    siblings: Vec<Sibling>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Sibling {
    rfilename: String,
    size: Option<u64>,
    blob_id: Option<String>,
    lfs: Option<Lfs>,
}

#[derive(Deserialize)]
struct Lfs {
    sha256: Option<String>,
    size: Option<u64>,
}

/// The files of a repository.
pub(super) fn list(http: &Http, endpoint: &str, repo: &RepoId) -> Tried<Listing> {
    let url = format!(
        "{endpoint}/api/models/{}/revision/{}?blobs=true",
        repo.name(),
        encoded(repo.revision(), "")
    );
    let mut answer = http.get(&url, 0, Purpose { repo, file: None })?;
    let bad = |reason: String| HubError::Answer {
        url: url.clone(),
        reason,
    };
    let body = answer
        .body_mut()
        .with_config()
        .limit(MAX_LISTING)
        .read_to_vec();
    let body = body.map_err(|e| {
        let broken = HubError::Network {
            url: url.clone(),
            reason: e.to_string(),
        };
        Failure::Passing(broken, None)
    })?;
    let info: Info = serde_json::from_slice(&body)
        .map_err(|e| bad(format!("no listing of a repository ({e})")))?;
    if !is_commit(&info.sha) {
        return Err(bad(format!("{:?} as a commit", info.sha)).into());
    }
    let mut files = Vec::with_capacity(info.siblings.len());
    for sibling in info.siblings {
        if !is_plain_path(&sibling.rfilename) {
            return Err(bad(format!("{:?} as the name of a file", sibling.rfilename)).into());
        }
        let lfs = sibling.lfs.as_ref();
        let large = lfs.and_then(|lfs| lfs.sha256.clone());
        files.push(RemoteFile {
            name: sibling.rfilename,
            size: lfs.and_then(|lfs| lfs.size).or(sibling.size),
            // A large file's git hash is that of the note which stands for it.
            etag: if lfs.is_some() {
                large
            } else {
                sibling.blob_id
            }
            .filter(|e| is_etag(e)),
        });
    }
    Ok(Listing {
        commit: info.sha,
        files,
    })
}

/// Size and ETag of a file, as its own address has them.
pub(super) fn look_up(http: &Http, url: &str, repo: &RepoId, file: &str) -> Tried<(u64, String)> {
    let purpose = Purpose {
        repo,
        file: Some(file),
    };
    let headers = http.head(url, purpose)?;
    let etag = http::text(&headers, "x-linked-etag").or_else(|| http::text(&headers, "etag"));
    let size = http::number(&headers, "x-linked-size")
        .or_else(|| http::number(&headers, "content-length"));
    let etag = etag.map(|e| e.trim_start_matches("W/").trim_matches('"').to_owned());
    match (size, etag.filter(|e| is_etag(e))) {
        (Some(size), Some(etag)) => Ok((size, etag)),
        _ => Err(HubError::Answer {
            url: url.into(),
            reason: "neither size nor ETag".into(),
        }
        .into()),
    }
}

/// The address of a file.
pub(super) fn address(endpoint: &str, repo: &RepoId, commit: &str, file: &str) -> String {
    format!(
        "{endpoint}/{}/resolve/{commit}/{}",
        repo.name(),
        encoded(file, "/")
    )
}

/// Whether it can name a blob.
fn is_etag(etag: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    (1..=128).contains(&etag.len()) && etag.bytes().all(plain)
}

/// The hash that an ETag is, if it is one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Of the bytes.
    Sha256,
    /// Of git's header and the bytes.
    Git,
    Unknown,
}

pub(super) fn kind(etag: &str) -> Kind {
    match etag.len() {
        64 if is_hex(etag) => Kind::Sha256,
        40 if is_hex(etag) => Kind::Git,
        _ => Kind::Unknown,
    }
}

impl Listing {
    /// The files of these names.
    pub(super) fn named(&self, names: &[String], repo: &RepoId) -> Result<Vec<RemoteFile>> {
        let find = |name: &String| {
            let found = self.files.iter().find(|f| f.name == *name).cloned();
            found.ok_or_else(|| HubError::File {
                repo: repo.to_string(),
                file: name.clone(),
                known: some_of(self.files.iter().map(|f| f.name.as_str())),
            })
        };
        names.iter().map(find).collect()
    }
}
