//! How commands talk to the running node: HTTP over the control socket.

use std::io;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Empty, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::client::conn::http1::SendRequest;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::protocol::ErrorReport;
use super::socket;
use crate::exit::{Exit, Failure};

/// How long the node may take to begin to answer when the command has no time limit of its own.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes of an answer, or of one line of a stream, at most.
const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;

type Body = UnsyncBoxBody<Bytes, io::Error>;

/// One connection to the running node, for one request.
pub(crate) struct Client {
    sender: SendRequest<Body>,
    token: Option<String>,
}

/// What a request carries.
pub(crate) enum Content {
    /// Nothing.
    Nothing,
    /// A JSON value.
    Json(Vec<u8>),
    /// Bytes as they come.
    Bytes(BoxStream<'static, io::Result<Bytes>>),
}

impl Content {
    /// A JSON value.
    pub(crate) fn json(value: &impl Serialize) -> Result<Self, Failure> {
        serde_json::to_vec(value).map(Self::Json).map_err(|error| Failure::new(Exit::GaveUp, error))
    }

    fn into_body(self) -> (Body, bool) {
        match self {
            Self::Nothing => (Empty::new().map_err(|never| match never {}).boxed_unsync(), false),
            Self::Json(json) => (Full::from(json).map_err(|never| match never {}).boxed_unsync(), true),
            Self::Bytes(bytes) => (StreamBody::new(bytes.map(|bytes| bytes.map(Frame::data))).boxed_unsync(), false),
        }
    }
}

impl Client {
    /// Connects to the node at a control socket.
    ///
    /// # Errors
    /// [`Exit::NodeNotReachable`] when none runs there, [`Exit::Permission`] when it is somebody else's.
    pub(crate) async fn connect(path: &Path) -> Result<Self, Failure> {
        let connected = socket::connect(path).await.map_err(|error| unreachable_node(path, &error))?;
        let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(connected.stream))
            .await
            .map_err(|error| Failure::new(Exit::NodeNotReachable, format_args!("{}: {error}", path.display())))?;
        // Ends with the connection; what goes wrong with it shows in the request.
        actix_rt::spawn(connection);
        Ok(Self { sender, token: connected.token })
    }

    /// Asks, and waits for the whole answer.
    ///
    /// # Errors
    /// What the node answers; [`Exit::TimedOut`]; [`Exit::NodeNotReachable`] when it goes away.
    pub(crate) async fn call<T: DeserializeOwned>(
        self,
        method: Method,
        path: &str,
        content: Content,
        limit: Option<Duration>,
    ) -> Result<T, Failure> {
        let limit = limit.map_or(ANSWER_TIMEOUT, |limit| limit + ANSWER_TIMEOUT);
        tokio::time::timeout(limit, self.upload(method, path, content))
            .await
            .map_err(|_| Failure::new(Exit::TimedOut, format_args!("the node has not answered within {limit:?}")))?
    }

    /// Sends content that may take any time, and waits for the whole answer.
    ///
    /// # Errors
    /// What the node answers; [`Exit::NodeNotReachable`] when it goes away.
    pub(crate) async fn upload<T: DeserializeOwned>(
        self,
        method: Method,
        path: &str,
        content: Content,
    ) -> Result<T, Failure> {
        let response = self.request(method, path, content).await?;
        let body = http_body_util::Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
        let body = body
            .map(http_body_util::Collected::to_bytes)
            .map_err(|error| Failure::new(Exit::NodeNotReachable, format_args!("the node went away: {error}")))?;
        parse(&body)
    }

    /// Asks, and gives the lines of the answer as they come. A line that reports an error ends the stream with it. `waits`: how long
    /// the node itself may take before it begins to answer, when that is long.
    ///
    /// # Errors
    /// What the node answers; [`Exit::TimedOut`] when it does not begin to; [`Exit::NodeNotReachable`].
    pub(crate) async fn lines(
        self,
        method: Method,
        path: &str,
        content: Content,
        waits: Option<Duration>,
    ) -> Result<Lines, Failure> {
        let limit = ANSWER_TIMEOUT + waits.unwrap_or_default();
        let answered = tokio::time::timeout(limit, self.request(method, path, content));
        let response = answered.await.map_err(|_| Failure::new(Exit::TimedOut, "the node does not answer"))??;
        Ok(Lines { body: response.into_body(), buffer: Vec::new() })
    }

    async fn request(mut self, method: Method, path: &str, content: Content) -> Result<Response<Incoming>, Failure> {
        let gone = |error| Failure::new(Exit::NodeNotReachable, format_args!("the node went away: {error}"));
        let (body, json) = content.into_body();
        let mut request = Request::builder().method(method).uri(path).header("host", "bowline");
        if json {
            request = request.header("content-type", "application/json");
        }
        if let Some(token) = &self.token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let request = request.body(body).map_err(|error| Failure::new(Exit::GaveUp, error))?;
        let response = self.sender.send_request(request).await.map_err(gone)?;
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status();
        let body = http_body_util::Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
        let body = body.map(http_body_util::Collected::to_bytes).unwrap_or_default();
        let report = serde_json::from_slice::<ErrorReport>(&body);
        Err(report
            .map_or_else(|_| Failure::new(Exit::GaveUp, format_args!("the node answered {status}")), Failure::from))
    }
}

/// The lines of an answer.
pub(crate) struct Lines {
    body: Incoming,
    buffer: Vec<u8>,
}

impl Lines {
    /// The next line; `None` at the end.
    ///
    /// # Errors
    /// What the node reports in the line; [`Exit::NodeNotReachable`] when it goes away.
    pub(crate) async fn next<T: DeserializeOwned>(&mut self) -> Result<Option<T>, Failure> {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=end).collect();
                return match serde_json::from_slice::<ErrorReport>(&line) {
                    Ok(report) => Err(report.into()),
                    Err(_) => parse(&line).map(Some),
                };
            }
            if self.buffer.len() > ANSWER_BYTES_MAX {
                return Err(Failure::new(Exit::GaveUp, "the node's answer has no end"));
            }
            match self.body.frame().await {
                Some(Ok(frame)) => self.buffer.extend(frame.data_ref().into_iter().flatten()),
                Some(Err(error)) => {
                    return Err(Failure::new(Exit::NodeNotReachable, format_args!("the node went away: {error}")));
                }
                None => return Ok(None),
            }
        }
    }
}

fn parse<T: DeserializeOwned>(json: &[u8]) -> Result<T, Failure> {
    serde_json::from_slice(json).map_err(|error| {
        Failure::new(Exit::GaveUp, format_args!("the node's answer is not understood: {error}"))
            .hint("it is probably another version; restart it")
    })
}

fn unreachable_node(path: &Path, error: &io::Error) -> Failure {
    let kind = error.kind();
    if kind == io::ErrorKind::PermissionDenied {
        return Failure::at(path, error, Exit::Permission).hint("the node belongs to another user");
    }
    let none = kind == io::ErrorKind::NotFound || kind == io::ErrorKind::ConnectionRefused;
    let what = if none { "no node runs".to_owned() } else { error.to_string() };
    Failure::new(Exit::NodeNotReachable, format_args!("{what} at {}", path.display()))
        .hint("start one with `bowline run`, or name its socket with --socket")
}
