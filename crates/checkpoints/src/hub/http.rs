//! Requests to the hub: redirects followed by hand, so that the token goes to the hub and nowhere else.

use super::config::HubConfig;
use super::error::{HubError, Result};
use std::time::Duration;
use ureq::http::{HeaderMap, Response, Uri};
use ureq::{Agent, Body};

/// The most redirects from one address.
const MAX_REDIRECTS: usize = 10;

/// How to fail: at once, or after further tries.
#[derive(Debug)]
pub(super) enum Failure {
    Final(HubError),
    /// Trying again may help, after a wait if the hub asks for one.
    Passing(HubError, Option<Duration>),
}

impl From<HubError> for Failure {
    fn from(error: HubError) -> Self {
        Self::Final(error)
    }
}

pub(super) type Tried<T> = std::result::Result<T, Failure>;

/// An answer and the address that gave it.
pub(super) type Answer = Response<Body>;

#[derive(Debug, Clone)]
pub(super) struct Http {
    agent: Agent,
    endpoint: Uri,
    token: Option<String>,
}

/// What a request is for, which decides how a refusal is told.
#[derive(Debug, Clone, Copy)]
pub(super) struct Purpose<'a> {
    pub(super) repo: &'a super::RepoId,
    pub(super) file: Option<&'a str>,
}

impl Http {
    pub(super) fn new(config: &HubConfig) -> Result<Self> {
        let endpoint = config.endpoint.parse().map_err(|e| HubError::Setting {
            name: "HF_ENDPOINT",
            reason: format!("{:?} is no address: {e}", config.endpoint),
        })?;
        let agent = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .user_agent(concat!("wmgm-checkpoints/", env!("CARGO_PKG_VERSION")))
            .accept_encoding("identity")
            .timeout_connect(Some(config.stall))
            .timeout_recv_response(Some(config.stall))
            .timeout_per_read(Some(config.stall))
            .build();
        Ok(Self {
            agent: agent.into(),
            endpoint,
            token: config.token.clone(),
        })
    }

    /// Whether requests to the hub carry a token.
    pub(super) fn has_token(&self) -> bool {
        self.token.is_some()
    }

    /// The answer at `url`, after all redirects; `from` asks for the bytes from there on.
    pub(super) fn get(&self, url: &str, from: u64, purpose: Purpose<'_>) -> Tried<Answer> {
        let mut at = parsed(url)?;
        for _ in 0..MAX_REDIRECTS {
            let answer = self.send("GET", &at, from)?;
            match redirect(&at, &answer)? {
                None => return self.checked(&at, answer, purpose),
                Some(next) => at = next,
            }
        }
        Err(unusable(url, "too many redirects").into())
    }

    /// The headers of a file. A redirect to another host says all about the file and is not followed.
    pub(super) fn head(&self, url: &str, purpose: Purpose<'_>) -> Tried<HeaderMap> {
        let mut at = parsed(url)?;
        for _ in 0..MAX_REDIRECTS {
            let answer = self.send("HEAD", &at, 0)?;
            let known = answer.headers().contains_key("x-linked-etag");
            match redirect(&at, &answer)? {
                Some(next) if !known && same_origin(&next, &at) => at = next,
                Some(_) => return Ok(answer.headers().clone()),
                None => return Ok(self.checked(&at, answer, purpose)?.headers().clone()),
            }
        }
        Err(unusable(url, "too many redirects").into())
    }

    fn send(&self, method: &str, url: &Uri, from: u64) -> Tried<Answer> {
        let mut request = match method {
            "HEAD" => self.agent.head(url.clone()),
            _ => self.agent.get(url.clone()),
        };
        if let Some(token) = &self.token
            && same_origin(url, &self.endpoint)
        {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        if from > 0 {
            request = request.header("range", format!("bytes={from}-"));
        }
        request.call().map_err(|e| {
            let error = HubError::Network {
                url: bare(url),
                reason: e.to_string(),
            };
            match e {
                ureq::Error::BadUri(_) | ureq::Error::Http(_) | ureq::Error::Tls(_) => {
                    Failure::Final(error)
                }
                _ => Failure::Passing(error, None),
            }
        })
    }

    /// An answer that is one: anything else in words.
    fn checked(&self, url: &Uri, answer: Answer, purpose: Purpose<'_>) -> Tried<Answer> {
        let status = answer.status().as_u16();
        if matches!(status, 200 | 206 | 416) {
            return Ok(answer);
        }
        let code = text(answer.headers(), "x-error-code").unwrap_or_default();
        let repo = purpose.repo.name().to_owned();
        let what = match purpose.file {
            Some(file) => format!("{file} of {repo}"),
            None => repo.clone(),
        };
        let token = self.has_token() && same_origin(url, &self.endpoint);
        let file = || HubError::File {
            repo: purpose.repo.to_string(),
            file: purpose.file.unwrap_or_default().to_owned(),
            known: String::new(),
        };
        let revision = || HubError::Revision {
            repo: repo.clone(),
            revision: purpose.repo.revision().to_owned(),
        };
        Err(match (status, code.as_str()) {
            (401 | 403, "GatedRepo") => HubError::Gated {
                page: format!("{}{repo}", bare(&self.endpoint)),
                repo,
            }
            .into(),
            (401 | 404, "RepoNotFound") => HubError::Repository { repo, token }.into(),
            (404, "RevisionNotFound") => revision().into(),
            (404, "EntryNotFound") => file().into(),
            (404, _) if purpose.file.is_some() => file().into(),
            (404, _) if purpose.repo.revision() != "main" => revision().into(),
            // The hub does not tell strangers which private repositories exist.
            (401 | 404, _) if purpose.file.is_none() => HubError::Repository { repo, token }.into(),
            (401 | 403, _) => HubError::Forbidden {
                what,
                status,
                token,
            }
            .into(),
            (408 | 429 | 500..=599, _) => {
                let wait = text(answer.headers(), "retry-after")
                    .and_then(|seconds| seconds.trim().parse().ok())
                    .map(Duration::from_secs);
                Failure::Passing(HubError::Busy { what, status, wait }, wait)
            }
            _ => unusable(&bare(url), &format!("status {status}")).into(),
        })
    }
}

/// A header's text.
pub(super) fn text(headers: &HeaderMap, name: &str) -> Option<String> {
    Some(headers.get(name)?.to_str().ok()?.to_owned())
}

/// A header's number.
pub(super) fn number(headers: &HeaderMap, name: &str) -> Option<u64> {
    text(headers, name)?.trim().parse().ok()
}

fn unusable(url: &str, reason: &str) -> HubError {
    HubError::Answer {
        url: url.into(),
        reason: reason.into(),
    }
}

fn parsed(url: &str) -> Tried<Uri> {
    url.parse()
        .map_err(|e| unusable(url, &format!("an address that is none ({e})")).into())
}

/// An address without its query, which may hold a signature.
fn bare(url: &Uri) -> String {
    format!(
        "{}://{}{}",
        url.scheme_str().unwrap_or_default(),
        url.authority().map_or("", |a| a.as_str()),
        url.path()
    )
}

/// Whether two addresses are of one host, port and scheme.
fn same_origin(a: &Uri, b: &Uri) -> bool {
    let port = |u: &Uri| match (u.port_u16(), u.scheme_str()) {
        (None, Some("https")) => Some(443),
        (None, Some("http")) => Some(80),
        (port, _) => port,
    };
    let host = |u: &Uri| u.host().map(str::to_ascii_lowercase);
    a.scheme() == b.scheme() && host(a) == host(b) && port(a) == port(b)
}

/// Where an answer leads, if it does.
fn redirect(from: &Uri, answer: &Answer) -> Tried<Option<Uri>> {
    if !matches!(answer.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
        return Ok(None);
    }
    let at = bare(from);
    let Some(to) = text(answer.headers(), "location") else {
        return Err(unusable(&at, "a redirect to nowhere").into());
    };
    let scheme = from.scheme_str().unwrap_or_default();
    let authority = from.authority().map_or("", |a| a.as_str());
    let absolute = if to.starts_with("//") {
        format!("{scheme}:{to}")
    } else if to.starts_with('/') {
        format!("{scheme}://{authority}{to}")
    } else if to.contains("://") {
        to
    } else {
        let folder = from
            .path()
            .rsplit_once('/')
            .map_or("", |(folder, _)| folder);
        format!("{scheme}://{authority}{folder}/{to}")
    };
    let next = parsed(&absolute)?;
    if scheme == "https" && next.scheme_str() != Some("https") {
        return Err(unusable(&at, "a redirect from https to another scheme").into());
    }
    Ok(Some(next))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_scheme_host_and_port() {
        let same = |a: &str, b: &str| same_origin(&a.parse().unwrap(), &b.parse().unwrap());
        assert!(same("https://Hub.co/a", "https://hub.co:443/b?c"));
        assert!(!same("https://hub.co", "http://hub.co"));
        assert!(!same("http://hub.co:1", "http://hub.co:2"));
        assert!(!same("https://hub.co", "https://cdn.hub.co"));
        assert!(!same("https://hub.co", "https://hub.co.evil.com"));
        assert!(!same("https://hub.co", "https://hub.co@evil.com"));
    }

    #[test]
    fn redirects_lead_where_they_say() {
        let lead = |from: &str, to: &str| {
            let answer = Response::builder().status(302).header("location", to);
            let answer = answer.body(Body::builder().data(Vec::new())).unwrap();
            redirect(&from.parse().unwrap(), &answer)
                .ok()
                .flatten()
                .map(|u| u.to_string())
        };
        let from = "https://hub.co/a/b?c=d";
        assert_eq!(lead(from, "/x?y").unwrap(), "https://hub.co/x?y");
        assert_eq!(lead(from, "x").unwrap(), "https://hub.co/a/x");
        assert_eq!(lead(from, "//cdn.co/x").unwrap(), "https://cdn.co/x");
        assert_eq!(lead(from, "https://cdn.co/x").unwrap(), "https://cdn.co/x");
        assert_eq!(
            lead(from, "http://hub.co/x"),
            None,
            "not from https to http"
        );
        assert_eq!(lead(from, "file:///etc/passwd"), None);
    }
}
