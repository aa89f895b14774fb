//! The QUIC listener, and what arrives at it.

use std::io;
use std::net::IpAddr;
use std::task::{Context, Poll};

use bowline_messages::EndpointAddress;
use bytes::Bytes;
use futures_util::future::{BoxFuture, LocalBoxFuture};
use quinn::Endpoint;

use super::{QuicTransport, link};
use crate::transport::{Incoming, Link, Listener, TransportError, socket};

/// An open `quic` listener.
pub(super) struct QuicListener {
    endpoint: Endpoint,
    address: EndpointAddress,
    transport: QuicTransport,
    next: Option<BoxFuture<'static, Option<quinn::Incoming>>>,
}

impl QuicListener {
    pub(super) fn new(endpoint: Endpoint, transport: QuicTransport) -> io::Result<Self> {
        let address = EndpointAddress::from_socket(transport.kind.clone(), endpoint.local_addr()?);
        Ok(Self { endpoint, address, transport, next: None })
    }
}

impl Listener for QuicListener {
    fn addresses(&self) -> Vec<EndpointAddress> {
        vec![self.address.clone()]
    }

    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<Result<Box<dyn Incoming>, TransportError>> {
        loop {
            let endpoint = &self.endpoint;
            let next = self.next.get_or_insert_with(|| {
                let endpoint = endpoint.clone();
                Box::pin(async move { endpoint.accept().await })
            });
            let arrived = std::task::ready!(next.as_mut().poll(cx));
            self.next = None;
            // The endpoint ends when its socket does.
            let incoming = arrived.ok_or(TransportError::Closed)?;
            // Anybody can write any source on a packet. Before it counts for or against an address, the address has to answer (RFC 9000
            // §8.1.2); otherwise strangers could use up the limits of somebody else.
            if !incoming.remote_address_validated() && incoming.may_retry() {
                if incoming.retry().is_err() {
                    tracing::debug!("a connection could not be asked to prove its address");
                }
                continue;
            }
            let (endpoint, transport) = (self.endpoint.clone(), self.transport.clone());
            return Poll::Ready(Ok(Box::new(QuicIncoming { incoming, endpoint, transport })));
        }
    }
}

impl Drop for QuicListener {
    /// No new connections from now on; the links there are keep the endpoint.
    fn drop(&mut self) {
        self.transport.keep_for_links(&self.endpoint);
    }
}

struct QuicIncoming {
    incoming: quinn::Incoming,
    endpoint: Endpoint,
    transport: QuicTransport,
}

impl Incoming for QuicIncoming {
    fn source(&self) -> Option<IpAddr> {
        Some(socket::canonical(self.incoming.remote_address()).ip())
    }

    fn accept(self: Box<Self>) -> LocalBoxFuture<'static, Result<Box<dyn Link>, TransportError>> {
        Box::pin(async move {
            let failure = |error| link::failure(&self.transport.kind, error);
            let connection = self.incoming.accept().map_err(failure)?.await.map_err(failure)?;
            link::accepted(connection, &self.endpoint, &self.transport).await
        })
    }

    /// One packet that says no. A word would need the handshake first.
    fn refuse(self: Box<Self>, _packet: Bytes) {
        self.incoming.refuse();
    }
}
