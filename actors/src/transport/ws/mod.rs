//! `ws` and `wss`: WebSocket, so that a browser can be a peer of a session. One lane of bytes in binary messages; where a message
//! ends means nothing.

mod link;
mod listener;

use std::rc::Rc;

use bowline_messages::{EndpointAddress, TransportKind};
use bytes::Bytes;
use futures_util::future::LocalBoxFuture;
use tokio::net::TcpStream;
use tokio_rustls::TlsStream;
use tokio_tungstenite::client_async_with_config;
use tokio_tungstenite::tungstenite::Error as WsError;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

use self::link::{OverTcp, WsLink};
use super::registry::TransportContext;
use super::socket::{self, SocketTuning};
use super::tcp::{Refusals, StreamListener};
use super::tls::{self, Credentials};
use super::{Capabilities, DialOptions, InterfaceTable, Link, Listener, Transport, TransportError, refusal};

/// The scheme without TLS.
pub const SCHEME: &str = "ws";
/// The scheme with TLS.
pub const SCHEME_TLS: &str = "wss";

/// Bytes in one message at most, in either direction; a larger one ends the link.
const MESSAGE_BYTES_MAX: usize = 256 * 1024;
/// Room to read into, reserved by the WebSocket layer for the life of the link: as little as bulk allows.
const READ_ROOM_BYTES: usize = 16 * 1024;

/// The `ws` or the `wss` transport.
#[derive(Clone)]
pub struct WsTransport {
    kind: TransportKind,
    /// For `wss`.
    credentials: Option<Rc<Credentials>>,
    tuning: Rc<SocketTuning>,
    interfaces: InterfaceTable,
    refusals: Refusals,
}

impl WsTransport {
    /// The transport without TLS.
    pub fn plain(context: &TransportContext) -> Self {
        Self {
            kind: TransportKind::new(SCHEME),
            credentials: None,
            tuning: Rc::new(context.tuning()),
            interfaces: context.interfaces.clone(),
            refusals: Refusals::default(),
        }
    }

    /// The transport over TLS.
    ///
    /// # Errors
    /// When the files of the configuration cannot be read or do not fit together.
    pub fn secure(context: &TransportContext) -> Result<Self, TransportError> {
        let credentials = Credentials::new(&context.identity, &context.config.tls, &[b"http/1.1"])?;
        let kind = TransportKind::new(SCHEME_TLS);
        Ok(Self { kind, credentials: Some(Rc::new(credentials)), ..Self::plain(context) })
    }

    /// The port of the scheme, as everywhere on the web.
    fn default_port(&self) -> Option<u16> {
        Some(if self.credentials.is_some() { 443 } else { 80 })
    }

    async fn connect(&self, address: &EndpointAddress, options: &DialOptions) -> Result<Box<dyn Link>, TransportError> {
        let port = self.default_port();
        let Some(credentials) = &self.credentials else {
            let stream = socket::connect(address, port, &options.binding, options.timeout, &self.tuning).await?;
            return self.upgrade(address, stream).await;
        };
        let stream = tls::connect(credentials, address, port, options, &self.tuning).await?;
        self.upgrade(address, stream).await
    }

    async fn upgrade<S: OverTcp>(&self, address: &EndpointAddress, stream: S) -> Result<Box<dyn Link>, TransportError> {
        let ends = socket::ends(stream.tcp(), &self.kind, Some(address), &self.interfaces)?;
        let url = url_of(address);
        let upgraded = client_async_with_config(url, stream, Some(limits())).await;
        let (stream, _) = upgraded.map_err(|error| failure(&self.kind, error))?;
        Ok(Box::new(WsLink::new(stream, ends)))
    }
}

/// The address as a WebSocket URL; its path is `/` when none is written.
fn url_of(address: &EndpointAddress) -> String {
    if address.path().is_empty() { format!("{address}/") } else { address.to_string() }
}

fn limits() -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(READ_ROOM_BYTES)
        .write_buffer_size(0)
        .max_write_buffer_size(2 * MESSAGE_BYTES_MAX)
        .max_message_size(Some(MESSAGE_BYTES_MAX))
        .max_frame_size(Some(MESSAGE_BYTES_MAX))
}

/// The header of a response that turns a connection away: the number of the reason.
const REFUSAL_HEADER: &str = "bowline-refusal";

/// The response that turns a connection away before the upgrade, with the reason of a framed refusal.
fn refusal_response(framed: &[u8]) -> Bytes {
    let code = refusal::code(framed);
    let head = "HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nContent-Length: 0\r\n";
    format!("{head}{REFUSAL_HEADER}: {code}\r\n\r\n").into()
}

fn failure(kind: &TransportKind, error: WsError) -> TransportError {
    if let WsError::Http(response) = &error
        && let Some(code) = response.headers().get(REFUSAL_HEADER)
        && let Some(code) = code.to_str().ok().and_then(|code| code.parse().ok())
    {
        return TransportError::Refused(refusal::reason(code));
    }
    match error {
        WsError::Io(error) => tls::failure(kind, error),
        WsError::ConnectionClosed | WsError::AlreadyClosed => TransportError::Closed,
        error @ (WsError::Tls(_)
        | WsError::Capacity(_)
        | WsError::Protocol(_)
        | WsError::WriteBufferFull(_)
        | WsError::Utf8(_)
        | WsError::AttackAttempt
        | WsError::Url(_)
        | WsError::Http(_)
        | WsError::HttpFormat(_)) => TransportError::Protocol { kind: kind.clone(), reason: error.to_string() },
    }
}

impl OverTcp for TcpStream {
    fn tcp(&self) -> &TcpStream {
        self
    }
}

impl OverTcp for TlsStream<TcpStream> {
    fn tcp(&self) -> &TcpStream {
        self.get_ref().0
    }
}

impl Transport for WsTransport {
    fn kind(&self) -> TransportKind {
        self.kind.clone()
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities { lanes: 1, encrypted: self.credentials.is_some(), binds: true, listens: true }
    }

    fn listen(&self, address: &EndpointAddress) -> LocalBoxFuture<'static, Result<Box<dyn Listener>, TransportError>> {
        let (transport, address) = (self.clone(), address.clone());
        Box::pin(async move {
            let listener = socket::listen(&address, transport.default_port()).await?;
            Ok(Box::new(StreamListener::new(listener, transport)?) as Box<dyn Listener>)
        })
    }

    fn dial(
        &self,
        address: &EndpointAddress,
        options: DialOptions,
    ) -> LocalBoxFuture<'static, Result<Box<dyn Link>, TransportError>> {
        let (transport, address) = (self.clone(), address.clone());
        Box::pin(async move {
            let connected = tokio::time::timeout(options.timeout, transport.connect(&address, &options)).await;
            connected.unwrap_or(Err(TransportError::TimedOut(options.timeout)))
        })
    }
}
