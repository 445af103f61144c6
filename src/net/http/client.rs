//! Requests to an agent: over its Unix socket, over TLS to another machine's, or in plain HTTP where it serves that.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::header::{CONTENT_TYPE, HOST, HeaderMap};

use hyper::{Method, Request, Response, Uri};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

use super::unix::GROUP;
use crate::net::identity::Credentials;
use crate::net::sockets;
use crate::net::tls::{self, Expect, Service};

/// How long connecting may take, TLS included.
pub const CONNECT_TIME_MAX: Duration = Duration::from_secs(5);
/// How long a whole answer may take where the caller names no other time. Some requests wait for an outcome.
pub const ANSWER_TIME_MAX: Duration = Duration::from_secs(120);
/// Largest answer read as a whole, in bytes.
pub const ANSWER_MAX_BYTES: usize = 16 << 20;
/// Longest line of an answer read as lines, in bytes.
pub const LINE_MAX_BYTES: usize = 1 << 20;

/// A request as its sender means it.
#[derive(Clone, Debug)]
pub struct Call {
    /// What is done.
    pub method: Method,
    /// To what, with the query.
    pub path: String,
    /// Further headers.
    pub headers: Vec<(&'static str, String)>,
    /// What is sent with it: JSON, unless the headers say otherwise.
    pub body: Option<Vec<u8>>,
    /// How long connecting may take, TLS included.
    pub connect_within: Duration,
    /// How long the whole answer may take.
    pub within: Duration,
}

impl Call {
    /// A request without a body, patient as usual.
    pub fn new(method: Method, path: impl Into<String>) -> Self {
        let (connect_within, within) = (CONNECT_TIME_MAX, ANSWER_TIME_MAX);
        Self { method, path: path.into(), headers: Vec::new(), body: None, connect_within, within }
    }

    fn request(&self) -> Result<Request<Full<Bytes>>, HttpError> {
        let unsent = |why: String| HttpError::Unreachable { why };
        let uri: Uri = self.path.parse().map_err(|e| unsent(format!("'{}' is not a path: {e}", self.path)))?;
        let mut builder = Request::builder().method(self.method.clone()).uri(uri);
        let typed = self.headers.iter().any(|(name, _)| CONTENT_TYPE == *name);
        if self.body.is_some() && !typed {
            builder = builder.header(CONTENT_TYPE, "application/json");
        }
        for (name, value) in &self.headers {
            builder = builder.header(*name, value);
        }
        builder.body(Full::from(self.body.clone().unwrap_or_default())).map_err(|e| unsent(e.to_string()))
    }
}

/// Where an agent answers. Every request is a connection of its own.
#[derive(Clone, Debug)]
pub enum Endpoint {
    /// This machine's agent.
    Unix(PathBuf),
    /// Where an agent serves plain HTTP; nothing is proved there.
    Plain(SocketAddr),
    /// An agent elsewhere.
    Tls {
        /// Its address.
        address: SocketAddr,
        /// Whom it must prove to be.
        expect: Expect,
        /// A member's or an operator's certificate.
        credentials: Arc<Credentials>,
    },
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HttpError {
    /// The request was not sent; nothing was changed.
    #[error("{why}")]
    Unreachable {
        /// What happened and what to look at.
        why: String,
    },
    /// The request was sent and no whole answer came.
    #[error("{why}. The request may or may not have been carried out; `pkgctl status` shows")]
    Lost {
        /// What happened.
        why: String,
    },
}

/// A whole answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// Its headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Vec<u8>,
}

impl Answer {
    /// A header's value; none when there is none, or it is no text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}

impl Endpoint {
    /// Sends a request, JSON if it has a body, and reads the whole answer within [`ANSWER_TIME_MAX`].
    ///
    /// # Errors
    /// [`HttpError`]; a refusal is an answer, not an error.
    pub async fn request(&self, method: &str, path: &str, body: Option<Vec<u8>>) -> Result<Answer, HttpError> {
        self.request_within(ANSWER_TIME_MAX, method, path, body).await
    }

    /// As [`Self::request`], within a time of the caller's.
    ///
    /// # Errors
    /// As there.
    pub async fn request_within(
        &self,
        within: Duration,
        method: &str,
        path: &str,
        body: Option<Vec<u8>>,
    ) -> Result<Answer, HttpError> {
        let method = method.parse().map_err(|e| HttpError::Unreachable { why: format!("'{method}': {e}") })?;
        let call = Call { within, body, ..Call::new(method, path) };
        self.call(&call).await
    }

    /// Sends a request and reads the whole answer.
    ///
    /// # Errors
    /// As for [`Self::request`].
    pub async fn call(&self, call: &Call) -> Result<Answer, HttpError> {
        let within = call.within;
        let work = async {
            let (head, body) = self.exchange_within(call.connect_within, call.request()?).await?.into_parts();
            let body = Limited::new(body, ANSWER_MAX_BYTES).collect().await;
            let lost = |e| HttpError::Lost { why: format!("the agent's answer broke off: {e}") };
            let body = body.map_err(lost)?.to_bytes().to_vec();
            Ok(Answer { status: head.status.as_u16(), headers: head.headers, body })
        };
        let late = |_| HttpError::Lost { why: format!("{} did not answer within {within:?}", self.name()) };
        timeout(within, work).await.map_err(late)?
    }

    /// Sends a request and reads the answer line by line as it comes, for as long as it goes on. The status is the
    /// caller's to look at.
    ///
    /// # Errors
    /// [`HttpError`], when not even the answer's head came within the call's time.
    pub async fn lines(&self, call: &Call) -> Result<(u16, Lines), HttpError> {
        let late = |_| HttpError::Lost { why: format!("{} did not answer within {:?}", self.name(), call.within) };
        let asking = self.exchange_within(call.connect_within, call.request()?);
        let answer = timeout(call.within, asking).await.map_err(late)??;
        let status = answer.status().as_u16();
        Ok((status, Lines { body: answer.into_body(), have: Vec::new(), ended: false }))
    }

    /// Sends a request as it is, with a `Host` header if it has none; the answer's body is still to come. For a
    /// follower that passes a request on to the leader.
    ///
    /// # Errors
    /// [`HttpError`].
    pub async fn exchange(&self, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, HttpError> {
        self.exchange_within(CONNECT_TIME_MAX, request).await
    }

    async fn exchange_within(
        &self,
        connect_within: Duration,
        mut request: Request<Full<Bytes>>,
    ) -> Result<Response<Incoming>, HttpError> {
        request.headers_mut().entry(HOST).or_insert(hyper::header::HeaderValue::from_static("pkgctl"));
        let work = self.connect();
        let late = |_| self.unreachable(&format!("no connection within {connect_within:?}"));
        let stream = timeout(connect_within, work).await.map_err(late)??;
        let lost = |e: hyper::Error| HttpError::Lost { why: format!("{} broke off: {}", self.name(), cause(&e)) };
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(lost)?;
        // Ends by itself with the answer's body or when both are dropped; its error comes out of the sender too.
        tokio::spawn(connection);
        sender.send_request(request).await.map_err(lost)
    }

    async fn connect(&self) -> Result<Box<dyn Stream>, HttpError> {
        match self {
            Endpoint::Unix(path) => match UnixStream::connect(path).await {
                Ok(stream) => Ok(Box::new(stream)),
                Err(e) => Err(HttpError::Unreachable { why: no_socket(path, &e) }),
            },
            Endpoint::Plain(address) => match TcpStream::connect(address).await {
                Ok(stream) => Ok(Box::new(stream)),
                Err(e) => Err(self.unreachable(&e.to_string())),
            },
            Endpoint::Tls { address, expect, credentials } => {
                let stream = TcpStream::connect(address).await.map_err(|e| self.unreachable(&e.to_string()))?;
                sockets::tune(&stream).map_err(|e| self.unreachable(&e.to_string()))?;
                let config = tls::client(credentials, Service::Http, *expect);
                let config = config.map_err(|e| self.unreachable(&e.to_string()))?;
                let stream = tls::connect(&config, Service::Http, stream).await;
                Ok(Box::new(stream.map_err(|e| self.unreachable(&e.to_string()))?))
            }
        }
    }

    fn name(&self) -> String {
        match self {
            Endpoint::Unix(_) => "the agent".into(),
            Endpoint::Plain(address) => format!("what answers at {address}"),
            Endpoint::Tls { address, .. } => format!("the agent at {address}"),
        }
    }

    fn unreachable(&self, why: &str) -> HttpError {
        HttpError::Unreachable { why: format!("cannot reach {}: {why}", self.name()) }
    }
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// The innermost reason, which says most: a TLS alert rather than "connection error".
fn cause(error: &hyper::Error) -> String {
    let mut at: &dyn std::error::Error = error;
    loop {
        if let Some(io) = at.downcast_ref::<io::Error>() {
            return tls::explain(io);
        }
        match at.source() {
            Some(deeper) => at = deeper,
            None => return at.to_string(),
        }
    }
}

fn no_socket(path: &std::path::Path, error: &io::Error) -> String {
    let path = path.display();
    match error.kind() {
        io::ErrorKind::PermissionDenied => format!(
            "this user may not use {path}: run it as root, or as a member of the group {GROUP} where there is one \
             (membership is as good as root)"
        ),
        _ => format!("cannot reach the agent at {path} ({error})"),
    }
}

/// An answer that goes on, as lines.
#[derive(Debug)]
pub struct Lines {
    body: Incoming,
    have: Vec<u8>,
    ended: bool,
}

impl Lines {
    /// The next line, without its end; none when the answer has ended. Waits as long as it takes. Dropping the future
    /// loses nothing.
    ///
    /// # Errors
    /// [`HttpError::Lost`] when the answer broke off or a line exceeds [`LINE_MAX_BYTES`].
    pub async fn next(&mut self) -> Result<Option<String>, HttpError> {
        loop {
            if let Some(end) = self.have.iter().position(|b| *b == b'\n') {
                let line: Vec<u8> = self.have.drain(..=end).collect();
                return Ok(Some(text(&line[..end])));
            }
            if self.ended {
                let rest = std::mem::take(&mut self.have);
                return Ok((!rest.is_empty()).then(|| text(&rest)));
            }
            if self.have.len() > LINE_MAX_BYTES {
                return Err(HttpError::Lost {
                    why: format!("the agent sent a line of more than {LINE_MAX_BYTES} bytes"),
                });
            }
            match self.body.frame().await {
                Some(Ok(frame)) => self.have.extend_from_slice(frame.data_ref().map_or(&[], |data| data)),
                Some(Err(e)) => {
                    return Err(HttpError::Lost { why: format!("the agent's answer broke off: {}", cause(&e)) });
                }
                None => self.ended = true,
            }
        }
    }
}

fn text(line: &[u8]) -> String {
    String::from_utf8_lossy(line.strip_suffix(b"\r").unwrap_or(line)).into_owned()
}
