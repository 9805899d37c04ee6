//! A hub on loopback: a server on a thread, and a repository it serves as the real one does.

use sha1::Sha1;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What was asked for.
#[derive(Debug, Clone)]
pub struct Request {
    pub method: String,
    pub path: String,
    pub headers: BTreeMap<String, String>,
}

impl Request {
    /// The first byte asked for.
    pub fn from(&self) -> Option<usize> {
        self.headers
            .get("range")?
            .strip_prefix("bytes=")?
            .strip_suffix('-')?
            .parse()
            .ok()
    }
}

/// What is answered.
#[derive(Debug, Clone, Default)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// Close the connection after so many bytes of the body.
    pub cut: Option<usize>,
    /// Wait so long after so many bytes of the body.
    pub stall: Option<(usize, Duration)>,
}

impl Reply {
    pub fn status(status: u16) -> Self {
        Self {
            status,
            ..Self::default()
        }
    }

    pub fn header(mut self, name: &str, value: impl ToString) -> Self {
        self.headers.push((name.into(), value.to_string()));
        self
    }

    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }
}

type Handler = dyn Fn(&Request) -> Reply + Send + Sync;

/// A server that answers until the test ends.
pub struct Server {
    pub address: String,
    log: Arc<Mutex<Vec<Request>>>,
}

impl Server {
    pub fn start(handler: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let log: Arc<Mutex<Vec<Request>>> = Arc::default();
        let (handler, seen): (Arc<Handler>, _) = (Arc::new(handler), log.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (handler, seen) = (handler.clone(), seen.clone());
                std::thread::spawn(move || {
                    let _ = serve(stream, &*handler, &seen); // a client that has gone is no fault
                });
            }
        });
        Self { address, log }
    }

    /// What was asked for so far.
    pub fn requests(&self) -> Vec<Request> {
        self.log.lock().unwrap().clone()
    }

    /// The requests whose path has this in it.
    pub fn asked(&self, method: &str, part: &str) -> Vec<Request> {
        let fits = |r: &Request| r.method == method && r.path.contains(part);
        self.requests().into_iter().filter(fits).collect()
    }
}

fn serve(stream: TcpStream, handler: &Handler, log: &Mutex<Vec<Request>>) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let mut words = line.split_whitespace().map(String::from);
    let (Some(method), Some(path)) = (words.next(), words.next()) else {
        return Ok(());
    };
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim().split_once(": ") else {
            break;
        };
        headers.insert(name.to_ascii_lowercase(), value.to_owned());
    }
    let request = Request {
        method,
        path,
        headers,
    };
    log.lock().unwrap().push(request.clone());
    let reply = handler(&request);
    let mut stream = stream;
    let mut head = format!("HTTP/1.1 {} X\r\nconnection: close\r\n", reply.status);
    for (name, value) in &reply.headers {
        head += &format!("{name}: {value}\r\n");
    }
    if !reply
        .headers
        .iter()
        .any(|(name, _)| name == "content-length")
    {
        head += &format!("content-length: {}\r\n", reply.body.len());
    }
    stream.write_all((head + "\r\n").as_bytes())?;
    if request.method == "HEAD" {
        return Ok(());
    }
    let end = reply.cut.unwrap_or(reply.body.len()).min(reply.body.len());
    let middle = reply.stall.map_or(end, |(at, _)| at.min(end));
    stream.write_all(&reply.body[..middle])?;
    stream.flush()?;
    if let Some((_, time)) = reply.stall {
        std::thread::sleep(time);
    }
    stream.write_all(&reply.body[middle..end])?;
    stream.flush()?;
    stream.shutdown(std::net::Shutdown::Write)?;
    // Let the other side read what is on its way.
    let _ = stream.read(&mut [0; 1]);
    Ok(())
}

pub const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect()
}

pub fn git_hash(bytes: &[u8]) -> String {
    let hash = Sha1::new_with_prefix(format!("blob {}\0", bytes.len())).chain_update(bytes);
    hash.finalize().iter().map(|b| format!("{b:02x}")).collect()
}

/// Bytes that differ everywhere.
pub fn noise(length: usize) -> Vec<u8> {
    let mut x = 1u32;
    let mut next = || {
        x ^= x << 13;
        x ^= x >> 17;
        x ^= x << 5;
        x as u8
    };
    (0..length).map(|_| next()).collect()
}

/// A repository `o/m`: its files, large ones kept elsewhere, and whether its listing tells sizes and hashes.
#[derive(Clone)]
pub struct Repo {
    pub small: Vec<(String, Vec<u8>)>,
    pub large: Vec<(String, Vec<u8>)>,
    pub tells: bool,
}

impl Repo {
    pub fn new() -> Self {
        Self {
            small: vec![("config.json".into(), b"{\"a\": 1}\n".to_vec())],
            large: vec![(
                "diffusion_pytorch_model.safetensors".into(),
                noise(3_000_000),
            )],
            tells: true,
        }
    }

    pub fn weights(&self) -> &[u8] {
        &self.large[0].1
    }

    /// The listing.
    pub fn listing(&self) -> String {
        let mut files = Vec::new();
        for (name, bytes) in &self.small {
            files.push(if self.tells {
                format!(
                    r#"{{"rfilename":"{name}","size":{},"blobId":"{}"}}"#,
                    bytes.len(),
                    git_hash(bytes)
                )
            } else {
                format!(r#"{{"rfilename":"{name}"}}"#)
            });
        }
        for (name, bytes) in &self.large {
            let (size, hash) = (bytes.len(), sha256(bytes));
            files.push(if self.tells {
                format!(
                    r#"{{"rfilename":"{name}","size":{size},"blobId":"{}","lfs":{{"sha256":"{hash}","size":{size},"pointerSize":130}}}}"#,
                    git_hash(b"the note that stands for it")
                )
            } else {
                format!(r#"{{"rfilename":"{name}"}}"#)
            });
        }
        format!(
            r#"{{"id":"o/m","sha":"{COMMIT}","siblings":[{}]}}"#,
            files.join(",")
        )
    }

    /// The answer to a request, large files being at `elsewhere`.
    pub fn answer(&self, request: &Request, elsewhere: &str) -> Reply {
        if request.path.starts_with("/api/models/o/m/revision/main?") {
            return Reply::status(200).body(self.listing());
        }
        if request.path.starts_with("/api/models/o/m/revision/") {
            return Reply::status(404).header("X-Error-Code", "RevisionNotFound");
        }
        let Some(name) = request
            .path
            .strip_prefix(&format!("/o/m/resolve/{COMMIT}/"))
        else {
            return Reply::status(401).header("X-Error-Code", "RepoNotFound");
        };
        for (file, bytes) in &self.small {
            if file == name {
                let etag = format!("\"{}\"", git_hash(bytes));
                return ranged(request, bytes)
                    .header("ETag", etag)
                    .header("X-Repo-Commit", COMMIT);
            }
        }
        for (file, bytes) in &self.large {
            if file == name {
                return Reply::status(302)
                    .header("Location", format!("{elsewhere}/blobs/{name}?signature=s"))
                    .header("ETag", "\"of-the-note\"")
                    .header("X-Linked-Etag", format!("\"{}\"", sha256(bytes)))
                    .header("X-Linked-Size", bytes.len());
            }
        }
        Reply::status(404).header("X-Error-Code", "EntryNotFound")
    }

    /// The store of large files, each answer changed by `fault`.
    pub fn store(
        &self,
        fault: impl Fn(&Request, Reply) -> Reply + Send + Sync + 'static,
    ) -> Server {
        let repo = self.clone();
        Server::start(move |request| {
            let path = request.path.split('?').next().unwrap();
            let found = repo
                .large
                .iter()
                .find(|(name, _)| path == format!("/blobs/{name}"));
            match found {
                Some((_, bytes)) => fault(request, ranged(request, bytes)),
                None => Reply::status(404),
            }
        })
    }

    /// A hub that serves it, each answer changed by `fault`, with large files at `store`.
    pub fn hub(
        &self,
        store: &Server,
        fault: impl Fn(&Request, Reply) -> Reply + Send + Sync + 'static,
    ) -> Server {
        let (repo, elsewhere) = (self.clone(), store.address.clone());
        Server::start(move |request| fault(request, repo.answer(request, &elsewhere)))
    }
}

/// These bytes, or those from where the request says.
pub fn ranged(request: &Request, bytes: &[u8]) -> Reply {
    let size = bytes.len();
    match request.from() {
        None => Reply::status(200).body(bytes),
        Some(from) if from < size => Reply::status(206)
            .header("Content-Range", format!("bytes {from}-{}/{size}", size - 1))
            .body(&bytes[from..]),
        Some(_) => Reply::status(416).header("Content-Range", format!("bytes */{size}")),
    }
}

/// Answers as they are.
pub fn faithful(_: &Request, reply: Reply) -> Reply {
    reply
}
