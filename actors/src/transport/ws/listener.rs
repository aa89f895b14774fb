//! The WebSocket listener, and what arrives at it.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::task::{Context, Poll};

use bowline_messages::EndpointAddress;
use bytes::Bytes;
use futures_util::future::LocalBoxFuture;
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::accept_async_with_config;

use super::link::{OverTcp, WsLink};
use super::{WsTransport, failure, limits};
use crate::transport::tcp::Acceptor;
use crate::transport::{Incoming, Link, Listener, TransportError, socket, tls};

/// An open `ws` or `wss` listener.
pub(super) struct WsListener {
    acceptor: Acceptor,
    address: EndpointAddress,
    transport: WsTransport,
}

impl WsListener {
    pub(super) fn new(listener: TcpListener, transport: WsTransport) -> io::Result<Self> {
        let address = EndpointAddress::from_socket(transport.kind.clone(), listener.local_addr()?);
        Ok(Self { acceptor: Acceptor::new(listener), address, transport })
    }
}

impl Listener for WsListener {
    fn addresses(&self) -> Vec<EndpointAddress> {
        vec![self.address.clone()]
    }

    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<Result<Box<dyn Incoming>, TransportError>> {
        self.acceptor.poll_accept(cx).map_ok(|(stream, from)| {
            Box::new(WsIncoming { stream, from, transport: self.transport.clone() }) as Box<dyn Incoming>
        })
    }
}

struct WsIncoming {
    stream: TcpStream,
    from: SocketAddr,
    transport: WsTransport,
}

impl Incoming for WsIncoming {
    fn source(&self) -> Option<IpAddr> {
        Some(self.from.ip())
    }

    fn accept(self: Box<Self>) -> LocalBoxFuture<'static, Result<Box<dyn Link>, TransportError>> {
        Box::pin(async move {
            let transport = self.transport;
            transport.tuning.apply(&self.stream);
            match &transport.credentials {
                None => upgrade(&transport, self.stream).await,
                Some(credentials) => {
                    let stream = tls::accept(credentials.server(), self.stream, &transport.kind).await?;
                    upgrade(&transport, stream).await
                }
            }
        })
    }

    /// A word would need the handshakes first.
    fn refuse(self: Box<Self>, _packet: Bytes) {}
}

async fn upgrade<S: OverTcp>(transport: &WsTransport, stream: S) -> Result<Box<dyn Link>, TransportError> {
    let ends = socket::ends(stream.tcp(), &transport.kind, None, &transport.interfaces)?;
    let upgraded = accept_async_with_config(stream, Some(limits())).await;
    let stream = upgraded.map_err(|error| failure(&transport.kind, error))?;
    Ok(Box::new(WsLink::new(stream, ends)))
}
