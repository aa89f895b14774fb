//! `tls`: TLS 1.3 over TCP, one lane. The certificate of a node is self-signed by its identity key, so a dial knows at once that
//! the right peer answers; the session's own handshake proves it again, whatever certificates say.

pub(crate) mod certificate;
mod link;
mod listener;
pub(crate) mod verify;

#[cfg(test)]
mod tests;

use std::rc::Rc;
use std::sync::Arc;

use bowline_messages::{EndpointAddress, PeerId, TransportKind};
use bytes::Bytes;
use futures_util::future::LocalBoxFuture;
use rustls::AlertDescription;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, TlsStream};

pub(crate) use self::certificate::Credentials;
pub(crate) use self::link::TlsLink;
use super::registry::TransportContext;
use super::socket::{self, SocketTuning};
use super::tcp::{Refusals, StreamListener};
use super::{Capabilities, DialOptions, InterfaceTable, Link, Listener, Transport, TransportError, refusal};

/// The scheme.
pub const SCHEME: &str = "tls";
/// The protocol name in the TLS handshake.
pub const ALPN: &[u8] = b"bowline/1";

/// The `tls` transport.
#[derive(Clone)]
pub struct TlsTransport {
    kind: TransportKind,
    credentials: Rc<Credentials>,
    tuning: Rc<SocketTuning>,
    interfaces: InterfaceTable,
    refusals: Refusals,
}

impl TlsTransport {
    /// A transport that certifies itself with the identity of the context.
    ///
    /// # Errors
    /// When the files of the configuration cannot be read or do not fit together.
    pub fn new(context: &TransportContext) -> Result<Self, TransportError> {
        let credentials = Credentials::new(&context.identity, &context.config.tls, &[ALPN])?;
        Ok(Self {
            kind: TransportKind::new(SCHEME),
            credentials: Rc::new(credentials),
            tuning: Rc::new(context.tuning()),
            interfaces: context.interfaces.clone(),
            refusals: Refusals::default(),
        })
    }
}

/// Connects and does the TLS handshake as a client.
///
/// # Errors
/// [`TransportError`]; [`TransportError::Authentication`] when somebody else than `options.expect` is there.
pub(crate) async fn connect(
    credentials: &Credentials,
    address: &EndpointAddress,
    default_port: Option<u16>,
    options: &DialOptions,
    tuning: &SocketTuning,
) -> Result<TlsStream<TcpStream>, TransportError> {
    let stream = socket::connect(address, default_port, &options.binding, options.timeout, tuning).await?;
    let (config, name) = credentials.client(&options.expect, address)?;
    let connected = TlsConnector::from(config).connect(name, stream).await;
    connected.map(TlsStream::Client).map_err(|error| failure(address.kind(), error))
}

/// Alerts from this number on are our refusals, by their number. IANA has assigned none of them, and set none aside for private use
/// either: a number that is assigned later comes only from servers that are no node.
const ALERT_REFUSED: u8 = 224;

/// The fatal alert that turns a connection away before the handshake, with the reason of a framed refusal (RFC 8446, sections 5.1
/// and 6).
pub(crate) fn refusal_alert(framed: &[u8]) -> Bytes {
    const RECORD_OF_AN_ALERT: [u8; 5] = [21, 3, 3, 0, 2];
    const FATAL: u8 = 2;
    let code = u8::try_from(refusal::code(framed)).ok().and_then(|code| ALERT_REFUSED.checked_add(code));
    let alert = [FATAL, code.unwrap_or(u8::MAX)];
    [&RECORD_OF_AN_ALERT[..], &alert].concat().into()
}

/// What went wrong in a TLS handshake or connection.
pub(crate) fn failure(kind: &TransportKind, error: std::io::Error) -> TransportError {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match inner {
        None => TransportError::Io(error),
        Some(inner @ (rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented)) => {
            TransportError::Authentication(inner.to_string())
        }
        Some(inner @ rustls::Error::AlertReceived(alert)) if verify::is_about_certificates(*alert) => {
            TransportError::Authentication(inner.to_string())
        }
        Some(rustls::Error::AlertReceived(AlertDescription::Unknown(alert))) if *alert >= ALERT_REFUSED => {
            TransportError::Refused(refusal::reason(u16::from(*alert - ALERT_REFUSED)))
        }
        Some(inner) => TransportError::Protocol { kind: kind.clone(), reason: inner.to_string() },
    }
}

/// The name under which a peer is called: never sent, but it keys the cache of sessions, so that a session with one peer is never
/// resumed with another.
pub(crate) fn name_of(peer: &PeerId) -> Result<ServerName<'static>, TransportError> {
    ServerName::try_from(format!("{peer}.bowline")).map_err(|error| TransportError::Authentication(error.to_string()))
}

impl Transport for TlsTransport {
    fn kind(&self) -> TransportKind {
        self.kind.clone()
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities { lanes: 1, encrypted: true, binds: true, listens: true }
    }

    fn listen(&self, address: &EndpointAddress) -> LocalBoxFuture<'static, Result<Box<dyn Listener>, TransportError>> {
        let (transport, address) = (self.clone(), address.clone());
        Box::pin(async move {
            let listener = socket::listen(&address, None).await?;
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
            let connecting = connect(&transport.credentials, &address, None, &options, &transport.tuning);
            let connected = tokio::time::timeout(options.timeout, connecting).await;
            let stream = connected.map_err(|_| TransportError::TimedOut(options.timeout))??;
            let ends = socket::ends(stream.get_ref().0, &transport.kind, Some(&address), &transport.interfaces)?;
            Ok(Box::new(TlsLink::new(stream, ends)) as Box<dyn Link>)
        })
    }
}

/// Does the TLS handshake as a server.
pub(crate) async fn accept(
    config: Arc<rustls::ServerConfig>,
    stream: TcpStream,
    kind: &TransportKind,
) -> Result<TlsStream<TcpStream>, TransportError> {
    let accepted = tokio_rustls::TlsAcceptor::from(config).accept(stream).await;
    accepted.map(TlsStream::Server).map_err(|error| failure(kind, error))
}
