//! One request at a time, over a connection that is kept while the server keeps it.

use std::error::Error as _;
use std::future::ready;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::{self, Connection, SendRequest};
use hyper::header::{AUTHORIZATION, HOST, HeaderMap, HeaderValue, USER_AGENT};
use hyper::{Method, Response, StatusCode, Uri};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

use super::discretion::Discretion;
use super::io::{Io, Stream};
use crate::config::options::{OptionFault, Options};
use crate::tls;

/// The options of TLS begin so.
const TLS: &str = "http.tls";
/// An address that does not answer is given so long before the next one is tried, if there is one.
const ADDRESS_WITHIN: Duration = Duration::from_secs(3);
/// What a server's headers may take.
const HEAD_BYTES_MAX: usize = 32 * 1024;

/// Where a request goes, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    origin: Origin,
    /// Path and query.
    path: Uri,
    host: HeaderValue,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Origin {
    is_encrypted: bool,
    host: String,
    port: u16,
}

impl Target {
    /// Checks a URL.
    ///
    /// # Errors
    /// What is wrong with it, in a sentence.
    pub fn parse(text: &str) -> Result<Target, String> {
        // What stands before an `@` may be a password, and this is shown in the log.
        let shown = match text.contains('@') {
            true => "it".to_owned(),
            false => format!("`{text}`"),
        };
        let url: Uri = text
            .parse()
            .map_err(|error| format!("{shown} is not a URL: {error}"))?;
        let wanted = || format!("{shown} is not an http:// or https:// URL");
        let is_encrypted = match url.scheme_str() {
            Some("http") => false,
            Some("https") => {
                tls::required(TLS).map_err(|fault| fault.problem)?;
                true
            }
            Some(_) | None => return Err(wanted()),
        };
        let authority = url.authority().ok_or_else(wanted)?;
        if authority.as_str().contains('@') {
            let problem = "a URL is shown in the log: write user and password as http.username \
                           and http.password";
            return Err(problem.to_owned());
        }
        let host = authority.host().trim_matches(['[', ']']).to_owned();
        if host.is_empty() {
            return Err(wanted());
        }
        let path = url.path_and_query().map_or("/", |path| path.as_str());
        Ok(Target {
            path: path.parse().map_err(|_| wanted())?,
            host: HeaderValue::from_str(authority.as_str()).map_err(|_| wanted())?,
            origin: Origin {
                is_encrypted,
                host,
                port: authority
                    .port_u16()
                    .unwrap_or(if is_encrypted { 443 } else { 80 }),
            },
        })
    }

    /// Whether what is sent there is encrypted.
    #[must_use]
    pub fn is_encrypted(&self) -> bool {
        self.origin.is_encrypted
    }
}

/// A request.
#[derive(Clone, Debug)]
pub struct Request {
    /// Where to.
    pub target: Target,
    /// What is asked.
    pub method: Method,
    /// All headers but `Host`, `User-Agent` and those of the body's length.
    pub headers: HeaderMap,
    /// The body, as it goes out.
    pub body: Bytes,
}

/// What a request may take, and its answer.
#[derive(Clone, Copy, Debug)]
pub struct Allowed {
    /// From looking the name up to the end of the answer.
    pub within: Duration,
    /// So much of the answer's body is read.
    pub answer_bytes_max: usize,
}

/// What a server answered.
#[derive(Debug)]
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// The body, or its beginning.
    pub body: Vec<u8>,
    /// Whether that is all of it.
    pub is_whole: bool,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum NoAnswer {
    /// The name is not known, or nobody could be asked.
    #[error("cannot look up `{host}`: {why}")]
    Name {
        /// The name.
        host: String,
        /// What the system says.
        why: String,
    },
    /// Nobody takes connections there.
    #[error("cannot connect to {at}: {why}")]
    Connect {
        /// The address, or the name if it has none.
        at: String,
        /// What the system says.
        why: String,
    },
    /// TLS failed.
    #[error("no encrypted connection to `{host}`: {why}")]
    Tls {
        /// The name.
        host: String,
        /// What TLS says.
        why: String,
    },
    /// The connection broke, or what came is not HTTP.
    #[error("{0}")]
    Broken(String),
    /// It took too long.
    #[error("no answer within {:.1?}", .0)]
    Late(Duration),
}

/// Asks servers, one request at a time.
#[derive(Debug)]
pub struct Client {
    tls: tls::Client,
    kept: Option<Kept>,
    discretion: Discretion,
}

impl Client {
    /// Checks the options `http.tls.*`.
    ///
    /// # Errors
    /// The first option whose value cannot be used.
    pub fn new(options: &Options) -> Result<Client, OptionFault> {
        Ok(Client {
            tls: tls::client(options, TLS)?,
            kept: None,
            discretion: Discretion::new(options),
        })
    }

    /// What an answer says, for people: without what we have told the server of secrets.
    #[must_use]
    pub fn said(&self, answer: &Answer) -> String {
        self.discretion.said(answer)
    }

    /// Sends a request and reads its answer. When this is dropped before, the connection is closed.
    ///
    /// A request that finds the kept connection closed goes out again on a new one.
    ///
    /// # Errors
    /// Why there is no answer; the server may have got the request all the same.
    pub async fn ask(&mut self, request: &Request, allowed: Allowed) -> Result<Answer, NoAnswer> {
        let until = Instant::now() + allowed.within;
        self.discretion.sends(&request.headers);
        let asked = self.ask_until(request, until, allowed.answer_bytes_max);
        let answered = timeout_at(until, asked).await;
        answered.unwrap_or(Err(NoAnswer::Late(allowed.within)))
    }

    async fn ask_until(
        &mut self,
        request: &Request,
        until: Instant,
        answer_bytes_max: usize,
    ) -> Result<Answer, NoAnswer> {
        let origin = &request.target.origin;
        if let Some(mut kept) = self.kept.take().filter(|kept| kept.origin == *origin) {
            if kept.is_open().await {
                if let Ok(answer) = kept.ask(request, answer_bytes_max).await {
                    self.kept = kept.after(&answer);
                    return Ok(answer);
                }
            }
        }
        let mut fresh = open(&self.tls, origin, until).await?;
        let answer = fresh.ask(request, answer_bytes_max).await?;
        self.kept = fresh.after(&answer);
        Ok(answer)
    }
}

/// A new connection.
async fn open(tls: &tls::Client, origin: &Origin, until: Instant) -> Result<Kept, NoAnswer> {
    let stream = connect(origin, until).await?;
    let stream: Box<dyn Stream> = match origin.is_encrypted {
        true => Box::new(encrypt(tls, stream, &origin.host).await?),
        false => Box::new(stream),
    };
    let mut builder = http1::Builder::new();
    builder.max_buf_size(HEAD_BYTES_MAX);
    let (sender, connection) = builder
        .handshake(Io(stream))
        .await
        .map_err(|error| NoAnswer::Broken(sentence(&error)))?;
    Ok(Kept {
        origin: origin.clone(),
        sender,
        connection: Box::pin(connection),
        is_over: false,
    })
}

async fn encrypt(
    tls: &tls::Client,
    stream: TcpStream,
    host: &str,
) -> Result<tls::Connected, NoAnswer> {
    let encrypted = tls.encrypt(host, stream).await;
    encrypted.map_err(|error| NoAnswer::Tls {
        host: host.to_owned(),
        why: error.to_string(),
    })
}

/// One address after the other, so that one which swallows everything does not hide the next.
async fn connect(origin: &Origin, until: Instant) -> Result<TcpStream, NoAnswer> {
    let name = |why: String| NoAnswer::Name {
        host: origin.host.clone(),
        why,
    };
    let found = tokio::net::lookup_host((origin.host.as_str(), origin.port)).await;
    let addresses: Vec<SocketAddr> = found.map_err(|error| name(error.to_string()))?.collect();
    let mut failure = name("it has no address".to_owned());
    for (number, at) in (1..).zip(&addresses) {
        let patience = match number == addresses.len() {
            true => until,
            false => until.min(Instant::now() + ADDRESS_WITHIN),
        };
        let why = match timeout_at(patience, TcpStream::connect(at)).await {
            Ok(Ok(stream)) => {
                // What is written is written in one go; waiting for more would only cost time.
                let _ = stream.set_nodelay(true);
                return Ok(stream);
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => "it does not answer".to_owned(),
        };
        failure = NoAnswer::Connect {
            at: at.to_string(),
            why,
        };
    }
    Err(failure)
}

/// A connection, driven only while it is used.
struct Kept {
    origin: Origin,
    sender: SendRequest<Full<Bytes>>,
    connection: Pin<Box<Connection<Io, Full<Bytes>>>>,
    is_over: bool,
}

impl std::fmt::Debug for Kept {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{:?}", self.origin)
    }
}

impl Kept {
    /// Whether the server has not closed it meanwhile, as far as that has reached us.
    async fn is_open(&mut self) -> bool {
        tokio::select! {
            biased;
            _ = &mut self.connection, if !self.is_over => self.is_over = true,
            () = ready(()) => {}
        }
        !self.is_over && self.sender.is_ready()
    }

    async fn ask(&mut self, request: &Request, bytes_max: usize) -> Result<Answer, NoAnswer> {
        let sender = &mut self.sender;
        let exchange = async {
            sender.ready().await?;
            let answer = sender.send_request(outgoing(request)).await?;
            read(answer, bytes_max).await
        };
        let mut exchange = pin!(exchange);
        loop {
            tokio::select! {
                biased;
                answer = &mut exchange => {
                    return answer.map_err(|error| NoAnswer::Broken(sentence(&error)));
                }
                _ = &mut self.connection, if !self.is_over => self.is_over = true,
            }
        }
    }

    /// The connection, if it can be used again. Half an answer still to come spoils it.
    fn after(self, answer: &Answer) -> Option<Kept> {
        (answer.is_whole && !self.is_over).then_some(self)
    }
}

fn outgoing(request: &Request) -> hyper::Request<Full<Bytes>> {
    let mut outgoing = hyper::Request::new(Full::new(request.body.clone()));
    *outgoing.method_mut() = request.method.clone();
    *outgoing.uri_mut() = request.target.path.clone();
    let headers = outgoing.headers_mut();
    headers.clone_from(&request.headers);
    headers.insert(HOST, request.target.host.clone());
    let agent = HeaderValue::from_static(concat!("eventflux/", env!("CARGO_PKG_VERSION")));
    headers.entry(USER_AGENT).or_insert(agent);
    if let Some(secret) = headers.get_mut(AUTHORIZATION) {
        secret.set_sensitive(true);
    }
    outgoing
}

async fn read(answer: Response<Incoming>, bytes_max: usize) -> hyper::Result<Answer> {
    let (head, mut incoming) = answer.into_parts();
    let mut body = Vec::new();
    let mut is_whole = true;
    while let Some(frame) = incoming.frame().await {
        let Ok(data) = frame?.into_data() else {
            continue;
        };
        let room = bytes_max - body.len();
        body.extend(data.iter().take(room));
        if data.len() > room {
            is_whole = false;
            break;
        }
    }
    Ok(Answer {
        status: head.status,
        headers: head.headers,
        body,
        is_whole,
    })
}

/// An error with what caused it.
fn sentence(error: &hyper::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(feature = "tls")]
    #[test]
    fn urls() {
        let target = Target::parse("https://[::1]:8443/a?b=c").unwrap();
        assert_eq!(
            (target.origin.host.as_str(), target.origin.port),
            ("::1", 8443)
        );
        assert_eq!(target.path.to_string(), "/a?b=c");
        assert_eq!(target.host, "[::1]:8443");
        assert!(target.is_encrypted());
        let plain = Target::parse("http://host").unwrap();
        assert_eq!((plain.origin.port, plain.is_encrypted()), (80, false));
        assert_eq!(plain.path.to_string(), "/");
        for bad in [
            "ftp://x",
            "/path",
            "http://",
            "host",
            "http://a b",
            "http://u:p@x/",
        ] {
            assert!(Target::parse(bad).is_err(), "{bad}");
        }
        for bad in ["http://u:secret x@y/", "ftp://u:secret@y/", "u:secret@y"] {
            let fault = Target::parse(bad).unwrap_err();
            assert!(!fault.contains("secret"), "{fault}");
        }
    }
}
