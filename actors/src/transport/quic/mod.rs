//! `quic`: QUIC over UDP with a lane for each message class, so that a lost packet of one class holds up no other. The certificates
//! are those of `tls`.
//!
//! The side that dials opens one bidirectional stream for each lane and sends the lane's number as its first byte; nothing else
//! is ever opened.

mod link;
mod listener;
#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bowline_messages::link::Binding;
use bowline_messages::{EndpointAddress, MessageClass, TransportKind};
use futures_util::future::LocalBoxFuture;
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{ClientConfig, Endpoint, EndpointConfig, IdleTimeout, ServerConfig, TransportConfig, VarInt};
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use self::listener::QuicListener;
use super::registry::TransportContext;
use super::tls::{self, Credentials};
use super::{Capabilities, DialOptions, InterfaceTable, Lane, Link, Listener, Transport, TransportError, socket};

/// The scheme.
pub const SCHEME: &str = "quic";

/// One lane for each message class.
const LANES: Lane = MessageClass::ALL.len() as Lane;
/// A connection that is silent this long is given up. The session probes its links and judges far earlier; this only clears away
/// what nobody owns any more. (Keep-alives are off for the same reason.)
const IDLE: Duration = Duration::from_secs(300);
/// Bytes of one lane that may be on their way or unread at the receiver. The session keeps less in flight; this bounds a peer that
/// does not.
const LANE_BYTES_MAX: u32 = 4 * 1024 * 1024;
/// Bytes of all lanes that may be unread: more than for one, so that a full lane leaves room for the others.
const LINK_BYTES_MAX: u32 = 3 * LANE_BYTES_MAX;
/// Bytes written and not acknowledged, over all lanes, before the writer has to wait.
const UNACKNOWLEDGED_BYTES_MAX: u64 = 8 * 1024 * 1024;
/// The operating system's buffers for datagrams, which all links of an endpoint share. It may grant less.
const SOCKET_BYTES: usize = 4 * 1024 * 1024;

/// The `quic` transport.
#[derive(Clone)]
pub struct QuicTransport {
    kind: TransportKind,
    credentials: Rc<Credentials>,
    transport: Arc<TransportConfig>,
    interfaces: InterfaceTable,
    /// Endpoints for dials, one for each binding and family of addresses.
    dialling: Rc<RefCell<BTreeMap<(String, bool), Endpoint>>>,
    /// Endpoints that listen, or did and still carry links: a listener that is opened again takes its endpoint up again, because the
    /// links on it keep its port.
    listening: Rc<RefCell<BTreeMap<SocketAddr, Endpoint>>>,
}

impl QuicTransport {
    /// A transport that certifies itself with the identity of the context.
    ///
    /// # Errors
    /// When the files of the configuration cannot be read or do not fit together.
    pub fn new(context: &TransportContext) -> Result<Self, TransportError> {
        let credentials = Credentials::new(&context.identity, &context.config.tls, &[tls::ALPN])?;
        Ok(Self {
            kind: TransportKind::new(SCHEME),
            credentials: Rc::new(credentials),
            transport: Arc::new(transport_config()),
            interfaces: context.interfaces.clone(),
            dialling: Rc::default(),
            listening: Rc::default(),
        })
    }

    fn broken(&self, reason: impl std::fmt::Display) -> TransportError {
        TransportError::Protocol { kind: self.kind.clone(), reason: reason.to_string() }
    }

    fn server_config(&self) -> Result<ServerConfig, TransportError> {
        let crypto = QuicServerConfig::try_from(self.credentials.server()).map_err(|error| self.broken(error))?;
        let mut config = ServerConfig::with_crypto(Arc::new(crypto));
        config.transport_config(Arc::clone(&self.transport));
        Ok(config)
    }

    /// The endpoint for dials from a binding; it is made with the first one and kept.
    fn endpoint(&self, to: SocketAddr, binding: &Binding) -> Result<Endpoint, TransportError> {
        let key = (format!("{binding:?}"), to.is_ipv6());
        // One that lost its socket is made anew.
        if let Some(endpoint) = self.dialling.borrow().get(&key).filter(|endpoint| endpoint.local_addr().is_ok()) {
            return Ok(endpoint.clone());
        }
        let socket = Socket::new(Domain::for_address(to), Type::DGRAM, Some(Protocol::UDP))?;
        let bound = socket::bind(SockRef::from(&socket), to, binding).and_then(|()| match binding {
            Binding::Address(_) => Ok(()),
            Binding::Any | Binding::Interface(_) => socket.bind(&socket::any_for(to).into()),
        });
        bound.map_err(|source| TransportError::Binding { binding: binding.clone(), source })?;
        let endpoint = open_endpoint(socket.into(), None)?;
        self.dialling.borrow_mut().insert(key, endpoint.clone());
        Ok(endpoint)
    }

    /// An endpoint that listens, one that was kept for its links when there is one.
    fn listen_at(&self, at: SocketAddr) -> Result<Endpoint, TransportError> {
        let server = self.server_config()?;
        if let Some(endpoint) = self.listening.borrow().get(&at) {
            endpoint.set_server_config(Some(server));
            return Ok(endpoint.clone());
        }
        Ok(open_endpoint(listen_one(at)?, Some(server))?)
    }

    /// The listener of an endpoint is gone.
    fn keep_for_links(&self, endpoint: &Endpoint) {
        endpoint.set_server_config(None);
        let mut listening = self.listening.borrow_mut();
        if let Ok(at) = endpoint.local_addr() {
            listening.insert(at, endpoint.clone());
        }
        listening.retain(|_, endpoint| endpoint.open_connections() > 0);
    }

    async fn connect(&self, address: &EndpointAddress, options: &DialOptions) -> Result<Box<dyn Link>, TransportError> {
        let mut last = socket::bad_address(address, "it has no IP address");
        for to in socket::resolve(address, None).await? {
            match self.connect_one(address, to, options).await {
                Ok(link) => return Ok(link),
                Err(error @ TransportError::Authentication(_)) => return Err(error),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    async fn connect_one(
        &self,
        address: &EndpointAddress,
        to: SocketAddr,
        options: &DialOptions,
    ) -> Result<Box<dyn Link>, TransportError> {
        let endpoint = self.endpoint(to, &options.binding)?;
        let (crypto, name) = self.credentials.client(&options.expect, address)?;
        let crypto = QuicClientConfig::try_from(crypto).map_err(|error| self.broken(error))?;
        let mut config = ClientConfig::new(Arc::new(crypto));
        config.transport_config(Arc::clone(&self.transport));
        let connecting = endpoint.connect_with(config, to, &name.to_str()).map_err(|error| self.broken(error))?;
        let connection = connecting.await.map_err(|error| link::failure(&self.kind, error))?;
        link::dialled(connection, &endpoint, address, self).await
    }
}

fn transport_config() -> TransportConfig {
    let mut config = TransportConfig::default();
    config
        .max_concurrent_bidi_streams(VarInt::from_u32(LANES.into()))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .datagram_receive_buffer_size(None)
        .max_idle_timeout(IdleTimeout::try_from(IDLE).ok())
        .stream_receive_window(VarInt::from_u32(LANE_BYTES_MAX))
        .receive_window(VarInt::from_u32(LINK_BYTES_MAX))
        .send_window(UNACKNOWLEDGED_BYTES_MAX)
        .send_fairness(false);
    config
}

/// An endpoint on a bound socket; it serves what arrives when it has a server configuration.
fn open_endpoint(socket: UdpSocket, server: Option<ServerConfig>) -> io::Result<Endpoint> {
    socket.set_nonblocking(true)?;
    let options = SockRef::from(&socket);
    for refused in [options.set_send_buffer_size(SOCKET_BYTES), options.set_recv_buffer_size(SOCKET_BYTES)] {
        if let Err(error) = refused {
            tracing::debug!(%error, "a socket option was refused");
        }
    }
    Endpoint::new(EndpointConfig::default(), server, socket, Arc::new(quinn::TokioRuntime))
}

fn listen_one(at: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(at), Type::DGRAM, Some(Protocol::UDP))?;
    if at.is_ipv6() {
        socket.set_only_v6(!at.ip().is_unspecified())?;
    }
    socket.bind(&at.into())?;
    Ok(socket.into())
}

impl Transport for QuicTransport {
    fn kind(&self) -> TransportKind {
        self.kind.clone()
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities { lanes: LANES, encrypted: true, binds: true, listens: true }
    }

    fn listen(&self, address: &EndpointAddress) -> LocalBoxFuture<'static, Result<Box<dyn Listener>, TransportError>> {
        let (transport, address) = (self.clone(), address.clone());
        Box::pin(async move {
            let mut last = socket::bad_address(&address, "it has no IP address");
            for at in socket::resolve(&address, None).await? {
                match transport.listen_at(at) {
                    Ok(endpoint) => return Ok(Box::new(QuicListener::new(endpoint, transport)?) as Box<dyn Listener>),
                    Err(error) => last = error,
                }
            }
            Err(last)
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
