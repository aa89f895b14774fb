//! The TLS listener, and what arrives at it.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::task::{Context, Poll};

use bowline_messages::EndpointAddress;
use bytes::Bytes;
use futures_util::future::LocalBoxFuture;
use tokio::net::{TcpListener, TcpStream};

use super::{TlsLink, TlsTransport, accept};
use crate::transport::tcp::Acceptor;
use crate::transport::{Incoming, Link, Listener, TransportError, socket};

/// An open `tls` listener.
pub(super) struct TlsListener {
    acceptor: Acceptor,
    address: EndpointAddress,
    transport: TlsTransport,
}

impl TlsListener {
    pub(super) fn new(listener: TcpListener, transport: TlsTransport) -> io::Result<Self> {
        let address = EndpointAddress::from_socket(transport.kind.clone(), listener.local_addr()?);
        Ok(Self { acceptor: Acceptor::new(listener), address, transport })
    }
}

impl Listener for TlsListener {
    fn addresses(&self) -> Vec<EndpointAddress> {
        vec![self.address.clone()]
    }

    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<Result<Box<dyn Incoming>, TransportError>> {
        self.acceptor.poll_accept(cx).map_ok(|(stream, from)| {
            Box::new(TlsIncoming { stream, from, transport: self.transport.clone() }) as Box<dyn Incoming>
        })
    }
}

struct TlsIncoming {
    stream: TcpStream,
    from: SocketAddr,
    transport: TlsTransport,
}

impl Incoming for TlsIncoming {
    fn source(&self) -> Option<IpAddr> {
        Some(self.from.ip())
    }

    fn accept(self: Box<Self>) -> LocalBoxFuture<'static, Result<Box<dyn Link>, TransportError>> {
        Box::pin(async move {
            let transport = self.transport;
            transport.tuning.apply(&self.stream);
            let stream = accept(transport.credentials.server(), self.stream, &transport.kind).await?;
            let ends = socket::ends(stream.get_ref().0, &transport.kind, None, &transport.interfaces)?;
            Ok(Box::new(TlsLink::new(stream, ends)) as Box<dyn Link>)
        })
    }

    /// A word would need the handshake first.
    fn refuse(self: Box<Self>, _packet: Bytes) {}
}
